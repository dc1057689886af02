package broker_test

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/rdpbroker/rdpbroker/"

// arrows says which of our packages each of our packages may import. A package
// that is not here is a room that nobody has thought about.
var arrows = map[string][]string{
	"sessions":                       {},
	"sessions/inventory":             {"sessions"},
	"sessions/wintext":               {"sessions"},
	"sessions/winrm":                 {"sessions", "sessions/wintext", "sessions/winagent", "sessions/lockout"},
	"sessions/xrdp":                  {"sessions", "sessions/sshlink"},
	"sessions/winssh":                {"sessions", "sessions/sshlink", "sessions/winagent"},
	"sessions/sshlink":               {"sessions/lockout"},
	"sessions/lockout":               {},
	"sessions/winagent":              {"sessions"},
	"sessions/tsts":                  {"sessions", "sessions/lockout", "sessions/tsts/internal/rpc"},
	"sessions/tsts/internal/rpc":     {},
	"sessions/tsts/internal/rpctest": {"sessions/tsts/internal/rpc"},
	"sessions/simhost":               {"sessions", "sessions/wintext", "rdpproxy/rdpserver", "rdpproxy/x224"},

	"sessions/simhost/nlatest":    {"rdpproxy/x224"},
	"sessions/winagent/agenttest": {},
	"sessions/sshlink/sshtest":    {},

	"broker/placement":         {"sessions"},
	"broker/identity":          {"sessions", "broker/token"},
	"broker/token":             {"sessions"},
	"broker/ledger":            {"sessions", "broker/placement", "broker/due"},
	"broker/ledger/ledgertest": {"broker/ledger"},
	"broker/audit":             {"sessions", "broker/placement"},
	"broker":                   {"sessions", "broker/placement", "broker/ledger", "broker/audit", "broker/due"},
	"broker/webhook":           {"broker/audit"},
	"broker/config":            {"sessions", "broker/placement", "broker/audit"},
	"broker/due":               {},
	"broker/statefile":         {},
	"broker/lines":             {},
	"broker/handover":          {},
	"broker/metrics":           {"sessions", "broker/placement", "broker/audit", "broker/token"},
	"broker/admin":             {"sessions", "broker/placement", "broker/audit"},
	"broker/admin/live":        {},
	"broker/admin/auth":        {"broker/admin"},
	"broker/admin/api":         {"sessions", "broker/admin", "broker/admin/auth", "broker/admin/live", "broker/audit"},
	"broker/admin/page":        {"sessions", "broker/placement", "broker/audit", "broker/admin", "broker/admin/auth", "broker/admin/live"},
	"broker/admin/site":        {"broker/admin", "broker/admin/auth", "broker/admin/api", "broker/admin/page"},
	"broker/admin/client":      {"sessions", "broker/placement", "broker/admin", "broker/audit"},
	"broker/admin/admintest":   {"sessions", "broker/placement", "broker/admin"},
	"broker/daemon":            {"*"},
	"broker/doctor":            {"sessions", "sessions/winagent", "sessions/winrm", "broker/placement", "rdpproxy/reach"},
	"broker/e2e":               {},
	"broker/rdpfile":           {},
	"broker/abuse":             {},
	"broker/soak":              {},
	"broker/bench":             {"rdpproxy/loadgen", "sessions", "sessions/simhost"},
	"broker/soak/memnet":       {},
	"broker/demo":              {"sessions", "sessions/simhost", "broker/audit", "broker/config", "broker/daemon", "broker/placement"},
	"broker/cmd/rdpbroker":     {"broker/handover", "broker/lines", "broker/admin/site", "broker/admin", "broker/admin/auth", "broker/admin/client", "broker/audit", "broker/config", "broker/daemon", "broker/demo", "broker/doctor", "broker/identity", "broker/rdpfile", "broker/token", "rdpproxy/reach", "sessions"},
	"broker/cmd/rdpprobe":      {"rdpproxy/probe"},
	"broker/cmd/rdpbench":      {"broker/bench"},

	"rdpproxy/x224":            {},
	"rdpproxy/relay":           {},
	"rdpproxy/tlswatch":        {},
	"rdpproxy/relay/relaytest": {"rdpproxy/relay"},
	"rdpproxy/loop":            {"rdpproxy/relay"},
	"rdpproxy":                 {"rdpproxy/x224", "rdpproxy/relay", "rdpproxy/loop", "rdpproxy/tlswatch"},
	"rdpproxy/rdpserver":       {"rdpproxy/x224"},
	"rdpproxy/reach":           {"rdpproxy/x224"},
	"rdpproxy/loadgen":         {"rdpproxy/x224"},
	"rdpproxy/probe":           {"rdpproxy/x224"},

	"deploy/testlab": {},
}

// pure packages keep no clock, do no I/O and draw no random numbers.
var pure = map[string]bool{"sessions": true, "broker/placement": true, "broker/token": true, "rdpproxy/tlswatch": true}

type listed struct {
	ImportPath string
	Imports    []string
	GoFiles    []string
}

func listPackages(t *testing.T, args ...string) []listed {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list", "-json=ImportPath,Imports,GoFiles"}, args...)...)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var all []listed
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p listed
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

func TestTheArrowsOfTheHouse(t *testing.T) {
	for _, p := range listPackages(t, module+"...") {
		room, ours := strings.CutPrefix(p.ImportPath, module)
		if !ours || len(p.GoFiles) == 0 {
			continue
		}
		allowed, known := arrows[room]
		if !known {
			t.Errorf("%s is not in the picture of the house", room)
			continue
		}
		for _, imp := range p.Imports {
			to, ours := strings.CutPrefix(imp, module)
			if ours && !slices.Contains(allowed, to) && !slices.Contains(allowed, "*") {
				t.Errorf("%s imports %s", room, to)
			}
			if imp == "testing" && room != "deploy/testlab" && !strings.HasSuffix(room, "test") {
				t.Errorf("%s imports testing outside of tests", room)
			}
		}
		if pure[room] {
			for _, imp := range p.Imports {
				if slices.Contains([]string{"os", "net", "math/rand", "math/rand/v2", "crypto/rand", "io", "context", "sync"}, imp) {
					t.Errorf("%s is pure and imports %s", room, imp)
				}
			}
		}
	}
}

// TestTheProbesLicenceStaysInTheProbe: grdp is GPL-3.0 and brings a TLS of 2019.
func TestTheProbesLicenceStaysInTheProbe(t *testing.T) {
	for _, p := range listPackages(t, "-deps", module+"broker/cmd/rdpbroker") {
		if strings.Contains(p.ImportPath, "tomatome") || strings.Contains(p.ImportPath, "icodeface") {
			t.Errorf("rdpbroker contains %s", p.ImportPath)
		}
	}
}

// TestPureRoomsKeepNoClock looks for the words, since imports cannot tell
// time.Now from time.Duration.
func TestPureRoomsKeepNoClock(t *testing.T) {
	clock := regexp.MustCompile(`time\.(Now|Since|Until|After|AfterFunc|Sleep|NewTimer|NewTicker|Tick)\b`)
	for room := range pure {
		files, err := filepath.Glob("../" + room + "/*.go")
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: no files (%v)", room, err)
		}
		for _, f := range files {
			text, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			if hit := clock.Find(text); hit != nil && !strings.HasSuffix(f, "_test.go") {
				t.Errorf("%s looks at the clock: %s", f, hit)
			}
		}
	}
}
