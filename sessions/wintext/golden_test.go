package wintext_test

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rdpbroker/rdpbroker/sessions"
	"github.com/rdpbroker/rdpbroker/sessions/wintext"
)

// update writes what the parser reads now. Read every changed file against its
// sample before committing it: the files are the judge, not the parser.
var update = flag.Bool("update", false, "rewrite testdata/*.golden.json")

// golden is the form of a golden file: the rows, or why the text is refused.
type golden struct {
	Rows  []goldenRow `json:"rows,omitempty"`
	Error string      `json:"error,omitempty"`
}

type goldenRow struct {
	Own         bool           `json:"own,omitempty"`
	SessionName string         `json:"session,omitempty"`
	User        string         `json:"user,omitempty"`
	ID          int            `json:"id"`
	State       sessions.State `json:"state"`
	StateText   string         `json:"word"`
	Idle        string         `json:"idle,omitempty"`
	IdleText    string         `json:"idle_text,omitempty"`
	LogonText   string         `json:"logon,omitempty"`
	Type        string         `json:"type,omitempty"`
	Device      string         `json:"device,omitempty"`
}

func toGolden(rows []wintext.Row, err error) golden {
	if err != nil {
		return golden{Error: err.Error()}
	}
	g := golden{}
	for _, r := range rows {
		row := goldenRow{
			Own: r.Own, SessionName: r.SessionName, User: r.User, ID: r.ID, State: r.State, StateText: r.StateText,
			IdleText: r.IdleText, LogonText: r.LogonText, Type: r.Type, Device: r.Device,
		}
		if r.HasIdle {
			row.Idle = r.Idle.String()
		}
		g.Rows = append(g.Rows, row)
	}
	return g
}

// sample reads a file of testdata without its first line, which names the source.
func sample(t testing.TB, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	source, text, ok := strings.Cut(string(b), "\n")
	if !ok || !strings.HasPrefix(source, "# source:") {
		t.Fatalf("%s does not begin with its source", path)
	}
	return text
}

func samples(t testing.TB, pattern string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("testdata", pattern))
	if err != nil || len(files) == 0 {
		t.Fatalf("no samples %s: %v", pattern, err)
	}
	return files
}

func TestGolden(t *testing.T) {
	for _, tt := range []struct {
		pattern string
		parse   func(string) ([]wintext.Row, error)
	}{
		{"quser-*.txt", wintext.ParseQuser},
		{"qwinsta-*.txt", wintext.ParseQwinsta},
	} {
		for _, file := range samples(t, tt.pattern) {
			t.Run(filepath.Base(file), func(t *testing.T) {
				text := sample(t, file)
				got := toGolden(tt.parse(text))
				path := strings.TrimSuffix(file, ".txt") + ".golden.json"
				if *update {
					b, err := json.Marshal(got)
					if err != nil {
						t.Fatal(err)
					}
					b = []byte(strings.NewReplacer(`[{`, "[\n {", `},{`, "},\n {", `}]`, "}\n]").Replace(string(b)) + "\n")
					if err := os.WriteFile(path, b, 0o644); err != nil {
						t.Fatal(err)
					}
				}
				b, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				var want golden
				if err := json.Unmarshal(b, &want); err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("(-want +got)\n%s", diff)
				}
				// As Windows sends it: CRLF, and blanks up to the end of the row.
				padded := strings.ReplaceAll(text, "\n", "     \r\n")
				if diff := cmp.Diff(want, toGolden(tt.parse(padded))); diff != "" && want.Error == "" {
					t.Errorf("padded, with CRLF (-want +got)\n%s", diff)
				}
			})
		}
	}
}

// The listings of other tools, and of the other one of ours, look similar.
func TestOtherListingsAreRefused(t *testing.T) {
	for _, tt := range []struct {
		pattern string
		parse   func(string) ([]wintext.Row, error)
	}{
		{"quser-*.txt", wintext.ParseQwinsta},
		{"qwinsta-*.txt", wintext.ParseQuser},
		{"qprocess-*.txt", wintext.ParseQuser},
		{"qprocess-*.txt", wintext.ParseQwinsta},
		{"tasklist-*.txt", wintext.ParseQuser},
		{"tasklist-*.txt", wintext.ParseQwinsta},
		{"error-*.txt", wintext.ParseQuser},
		{"error-*.txt", wintext.ParseQwinsta},
	} {
		for _, file := range samples(t, tt.pattern) {
			rows, err := tt.parse(sample(t, file))
			if err == nil && len(rows) > 0 {
				t.Errorf("%s was taken for a listing of another tool: %+v", file, rows)
			}
		}
	}
}
