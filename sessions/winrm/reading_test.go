package winrm

import (
	"bytes"
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/rdpbroker/rdpbroker/sessions"
	"github.com/rdpbroker/rdpbroker/sessions/wintext"
)

// toolHost is a host of which only the tools' output is simulated.
type toolHost struct {
	rows   []wintext.Row
	locale string // default en
	// override replaces the output of a command, per call; nil entries do not.
	override map[string][]*output
	// before is called ahead of each command.
	before func(command string)
	ran    []string
}

func (h *toolHost) run(ctx context.Context, command string) (*output, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	h.ran = append(h.ran, command)
	if h.before != nil {
		h.before(command)
	}
	if list := h.override[command]; len(list) > 0 {
		out := list[0]
		if len(list) > 1 {
			h.override[command] = list[1:]
		}
		if out != nil {
			return out, nil
		}
	}
	locale, _ := wintext.LocaleByName("en")
	if h.locale != "" {
		locale, _ = wintext.LocaleByName(h.locale)
	}
	var b bytes.Buffer
	switch command {
	case "quser.exe":
		if !hasUser(h.rows) {
			return &output{stderr: "No User exists for *\r\n", exitCode: 1}, nil
		}
		wintext.RenderQuser(&b, locale, h.rows)
	case "qwinsta.exe":
		wintext.RenderQwinsta(&b, locale, h.rows, false)
	default:
		return nil, errors.New("unexpected command " + command)
	}
	return &output{stdout: b.String()}, nil
}

// usual are the rows of a host over WinRM: our own session, the console and the
// listener, beside more.
func usual(more ...wintext.Row) []wintext.Row {
	return append([]wintext.Row{
		{Own: true, SessionName: "services", ID: 0, State: sessions.StateDisconnected},
		{SessionName: "console", ID: 1, State: sessions.StateConnected},
		{SessionName: "rdp-tcp", ID: 65536, State: sessions.StateListen},
	}, more...)
}

func disconnected(user string, id int, idle time.Duration) wintext.Row {
	return wintext.Row{User: user, ID: id, State: sessions.StateDisconnected, Idle: idle, HasIdle: true, LogonText: "8/25/2021 1:23 AM"}
}

func active(user string, id int) wintext.Row {
	return wintext.Row{User: user, SessionName: "rdp-tcp#5", ID: id, State: sessions.StateActive, HasIdle: true, LogonText: "8/25/2021 1:28 AM"}
}

func TestRead(t *testing.T) {
	// The rules for exit codes, texts and rows of both tools.
	quser := func(out ...*output) map[string][]*output { return map[string][]*output{"quser.exe": out} }
	qwinsta := func(out ...*output) map[string][]*output { return map[string][]*output{"qwinsta.exe": out} }
	text := func(rows []wintext.Row) string {
		var b bytes.Buffer
		en, _ := wintext.LocaleByName("en")
		wintext.RenderQuser(&b, en, rows)
		return b.String()
	}
	anna := usual(disconnected("Anna", 3, time.Hour))
	for _, tt := range []struct {
		name     string
		rows     []wintext.Row
		override map[string][]*output
		want     int // rows; if there is no error
		wantErr  string
	}{
		{name: "a disconnected and an active user", rows: append(anna, active("Bob", 4)), want: 5},
		{name: "nobody", rows: usual(), want: 3},
		{name: "nobody, in German", rows: usual(), override: quser(&output{stderr: "Kein Benutzer vorhanden für *\r\n", exitCode: 1}), want: 3},
		{name: "nobody, in a language without a capture", rows: usual(), override: quser(&output{stderr: "Nie ma użytkownika\r\n", exitCode: 1}), want: 3},
		{name: "an unknown text while there are users", rows: anna, override: quser(&output{stderr: "Nie ma użytkownika\r\n", exitCode: 1}), wantErr: "not known"},
		{name: "the unknown text was true when it was said", rows: anna, override: quser(&output{stderr: "Nie ma użytkownika\r\n", exitCode: 1}, nil), want: 4},
		{name: "rows with exit code 1", rows: anna, override: quser(&output{stdout: text(anna), exitCode: 1}), want: 4},
		{name: "rows with another exit code", rows: anna, override: quser(&output{stdout: text(anna), exitCode: 3}), wantErr: "exit code 3"},
		{name: "rows and an error", rows: anna, override: quser(&output{stdout: text(anna), stderr: "Error [5]:Access is denied."}), wantErr: "access denied"},
		{name: "rows and an unknown text", rows: anna, override: quser(&output{stdout: text(anna), stderr: "Achtung!"}), wantErr: "Achtung!"},
		{name: "access denied", rows: anna, override: quser(&output{stderr: "Error 0x00000005 enumerating sessionnames\r\nError [5]:Access is denied.", exitCode: 1}), wantErr: "access denied"},
		{name: "access denied in Russian", rows: usual(), override: quser(&output{stderr: "Ошибка [5]:Отказано в доступе", exitCode: 1}), wantErr: "access denied"},
		{name: "no RPC server", rows: usual(), override: quser(&output{stderr: "Error [1722]:The RPC server is unavailable.", exitCode: 1}), wantErr: "RPC server"},
		{name: "no quser", rows: usual(), override: quser(&output{stderr: "'quser.exe' is not recognized as an internal or external command,\r\noperable program or batch file.", exitCode: 9009}), wantErr: "Home editions"},
		{name: "nothing with exit code 0", rows: usual(), override: quser(&output{}), wantErr: "printed nothing"},
		{name: "nothing with exit code 1", rows: usual(), override: quser(&output{exitCode: 1}), wantErr: "printed nothing"},
		{name: "a header only", rows: usual(), override: quser(&output{stdout: " USERNAME              SESSIONNAME        ID  STATE   IDLE TIME  LOGON TIME\r\n"}), wantErr: "no session"},
		{name: "no qwinsta", rows: anna, override: qwinsta(&output{stderr: "'qwinsta.exe' is not recognized", exitCode: 9009}), wantErr: "Home editions"},
		{name: "qwinsta denied", rows: anna, override: qwinsta(&output{stderr: "Error [5]:Access is denied.", exitCode: 1}), wantErr: "access denied"},
		{name: "qwinsta empty", rows: anna, override: qwinsta(&output{}), wantErr: "printed nothing"},
		{name: "sessions left out without a word", rows: []wintext.Row{anna[0], active("Bob", 4)}, wantErr: "may not query"},
		{name: "session 0 of others is enough", rows: []wintext.Row{{SessionName: "services", ID: 0, State: sessions.StateDisconnected}}, want: 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := &toolHost{rows: tt.rows, override: tt.override}
			r, err := read(t.Context(), h.run)
			if tt.wantErr != "" {
				if err == nil || !strings.Contains(err.Error(), tt.wantErr) {
					t.Fatalf("got %v, want %q", err, tt.wantErr)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if len(r.rows) != tt.want {
				t.Errorf("%d rows, want %d", len(r.rows), tt.want)
			}
		})
	}
}

// A session that comes or goes between the two tools is read again, once.
func TestReadTwiceWhenTheToolsDisagree(t *testing.T) {
	h := &toolHost{rows: usual(disconnected("Anna", 3, time.Hour))}
	h.before = func(command string) {
		if command == "qwinsta.exe" && len(h.ran) == 2 {
			h.rows = usual(active("Bob", 3)) // Anna left, Bob came, with her ID
		}
	}
	r, err := read(t.Context(), h.run)
	if err != nil {
		t.Fatal(err)
	}
	if r.rows[3].User != "Bob" {
		t.Errorf("got %+v", r.rows[3])
	}
	if got := strings.Join(h.ran, " "); got != "quser.exe qwinsta.exe quser.exe qwinsta.exe" {
		t.Errorf("ran %s", got)
	}

	h = &toolHost{}
	h.before = func(command string) {
		h.rows = usual(disconnected("Anna", 3, 0))
		if command == "qwinsta.exe" {
			h.rows = usual(disconnected("Bob", 3, 0))
		}
	}
	if _, err := read(t.Context(), h.run); err == nil || !strings.Contains(err.Error(), "belongs to") {
		t.Errorf("got %v", err)
	}
	if len(h.ran) != 4 {
		t.Errorf("ran %q", h.ran)
	}
}

func TestReport(t *testing.T) {
	for _, tt := range []struct {
		name    string
		user    string
		allow   bool
		noEvict string
	}{
		{"eviction is off", "Anna", false, whyNoTextEviction},
		{"eviction is on", "Anna", true, ""},
		{"a damaged name", "J?rg", true, whyGarbled},
		{"damaged bytes", "J\x94rg", true, whyGarbled},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := &toolHost{rows: usual(disconnected(tt.user, 3, 90*time.Minute), active("Bob", 4))}
			c := &textChannel{run: h.run, allowEvict: tt.allow}
			before := time.Now()
			r, err := c.report(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if r.ReadAt.Before(before) || r.ReadAt.After(time.Now()) {
				t.Errorf("read at %v", r.ReadAt)
			}
			if r.NoEvict != tt.noEvict {
				t.Errorf("NoEvict %q, want %q", r.NoEvict, tt.noEvict)
			}
			if r.Source != "quser" || r.Limit != 0 || r.CountsDisconnected != sessions.Unknown || !r.HostTime.IsZero() {
				t.Errorf("the report says what it cannot know: %+v", r)
			}
			d, ok := r.DisconnectedFor(r.Sessions[3], r.ReadAt)
			if !ok || d > 90*time.Minute || d < 89*time.Minute {
				t.Errorf("disconnected for %v, %v", d, ok)
			}
			r.Sessions[3].Account.User = "" // differs by case
			r.Sessions[3].DisconnectedAt, r.Sessions[4].LastInputAt = time.Time{}, time.Time{}
			want := []sessions.Session{
				{ID: 0, Name: "services", State: sessions.StateDisconnected},
				{ID: 1, Name: "console", State: sessions.StateConnected},
				{ID: 65536, Name: "rdp-tcp", State: sessions.StateListen},
				{ID: 3, State: sessions.StateDisconnected, Incarnation: "8/25/2021 1:23 AM " + strings.ToLower(tt.user)},
				{ID: 4, Name: "rdp-tcp#5", State: sessions.StateActive, Account: sessions.Account{User: "Bob"}, Incarnation: "8/25/2021 1:28 AM bob"},
			}
			if diff := cmp.Diff(want, r.Sessions, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}
