package winrm

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/rdpbroker/rdpbroker/sessions/winagent"
)

// The live form is proven as a whole with the simulated host, in package simhost.

func TestParseDuration(t *testing.T) {
	for in, want := range map[string]time.Duration{
		"P0DT0H0M0S": 0, "P0DT0H1M5S": 65 * time.Second, "PT180.700S": idleTimeout, "PT180.7S": idleTimeout, "P1DT2H": 26 * time.Hour,
		" PT1M ": time.Minute, "PT7200.000S": 2 * time.Hour,
	} {
		if got, ok := parseDuration(in); !ok || got != want {
			t.Errorf("%q: %s, %v", in, got, ok)
		}
	}
	for _, in := range []string{"", "PT", "7200", "P1M", "PT-5S", "PT99999999999S", "PT1S2M", "x"} {
		if got, ok := parseDuration(in); ok && in != "PT" {
			t.Errorf("%q: %s", in, got)
		}
	}
}

func TestIsOrphan(t *testing.T) {
	orphan := shellInfo{ID: "849551A1-E6F1", Resource: shellResource, Owner: `CONTOSO\Svc-Broker`, Idle: "PT180.700S", Inactivity: "P0DT0H0M45S"}
	if !orphan.isOrphan("svc-broker") || !orphan.isOrphan("svc-broker@contoso.example") || !orphan.isOrphan(`contoso\svc-broker`) {
		t.Error("a shell that was left behind is not recognised")
	}
	for name, change := range map[string]func(*shellInfo){
		"in use":            func(s *shellInfo) { s.Inactivity = "P0DT0H0M44S" },
		"of another":        func(s *shellInfo) { s.Owner = `CONTOSO\svc-backup` },
		"of another tool":   func(s *shellInfo) { s.Idle = "PT7200.000S" },
		"a PowerShell one":  func(s *shellInfo) { s.Resource = "http://schemas.microsoft.com/powershell/Microsoft.PowerShell" },
		"of unknown age":    func(s *shellInfo) { s.Inactivity = "" },
		"with a strange ID": func(s *shellInfo) { s.ID = "<x/>" },
	} {
		s := orphan
		change(&s)
		if s.isOrphan("svc-broker") {
			t.Errorf("%s: taken for left behind", name)
		}
	}
}

// Sends and lists of shells are read back as the host would.
func TestMessagesOfTheLiveForm(t *testing.T) {
	type envelope struct {
		Header struct {
			Action   string
			Resource string `xml:"http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd ResourceURI"`
			Shell    string `xml:"SelectorSet>Selector"`
		}
		Body struct {
			Stream struct {
				Name    string `xml:"Name,attr"`
				Command string `xml:"CommandId,attr"`
				Data    string `xml:",chardata"`
			} `xml:"http://schemas.microsoft.com/wbem/wsman/1/windows/shell Send>Stream"`
			Enumerate *struct{} `xml:"http://schemas.xmlsoap.org/ws/2004/09/enumeration Enumerate"`
			Pull      *struct {
				Context string `xml:"http://schemas.xmlsoap.org/ws/2004/09/enumeration EnumerationContext"`
			} `xml:"http://schemas.xmlsoap.org/ws/2004/09/enumeration Pull"`
		}
	}
	read := func(text string) (e envelope) {
		t.Helper()
		if err := xml.Unmarshal([]byte(text), &e); err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		return e
	}
	e := read(sendMessage("http://ts1/wsman", "S1", "C1", []byte("ping 1\n"), time.Second))
	if e.Header.Shell != "S1" || e.Header.Resource != shellResource || e.Body.Stream.Name != "stdin" || e.Body.Stream.Command != "C1" || e.Body.Stream.Data != "cGluZyAxCg==" {
		t.Errorf("Send: %+v", e)
	}
	e = read(enumerateMessage("http://ts1/wsman", time.Second))
	if e.Body.Enumerate == nil || e.Header.Shell != "" || e.Header.Resource != "http://schemas.microsoft.com/wbem/wsman/1/windows/shell" {
		t.Errorf("Enumerate: %+v", e)
	}
	e = read(pullMessage("http://ts1/wsman", "uuid:7", time.Second))
	if e.Body.Pull == nil || e.Body.Pull.Context != "uuid:7" {
		t.Errorf("Pull: %+v", e)
	}
}

// remoteOn starts a command that never ends on a fake host. sendFault is what the
// host answers to Send, 0 for success.
func remoteOn(t *testing.T, sendFault uint32) (*fakeHost, winagent.Process) {
	t.Helper()
	f := &fakeHost{
		execute: func(string) *fakeResult { return &fakeResult{stdout: strings.Repeat("x", 200), forever: true} },
		intercept: func(w http.ResponseWriter, _ *http.Request, action string, _ int) bool {
			switch action {
			case "Enumerate":
				writeFault(w, 5, "w:AccessDenied", "Zugriff verweigert")
			case "Send":
				if sendFault != 0 {
					writeFault(w, sendFault, "w:InternalError", "kein stdin")
				} else {
					writeSOAP(w, http.StatusOK, "SendResponse", "<rsp:SendResponse/>")
				}
			default:
				return false
			}
			return true
		},
	}
	f.start(t)
	d := f.driver()
	p, err := (&remote{client: d.client}).Start(t.Context(), "powershell.exe")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return f, p
}

func TestRemoteProcessIsDeletedAtClose(t *testing.T) {
	f, p := remoteOn(t, 0)
	if err := p.Send(t.Context(), make([]byte, 3*maxSend)); err != nil {
		t.Fatal(err)
	}
	if n := f.count("Send"); n != 3 {
		t.Errorf("%d messages for three times what fits into one", n)
	}
	p.Close() // nobody reads its output
	p.Close()
	if n := f.openShells(); n != 0 {
		t.Errorf("%d shells are left", n)
	}
	if _, err := io.ReadAll(p.Stdout()); err == nil {
		t.Error("a command that was ended has ended by itself")
	}
}

func TestRefusedStandardInput(t *testing.T) {
	_, p := remoteOn(t, 2147942487)
	var unusable *winagent.UnusableError
	if err := p.Send(t.Context(), []byte("x")); !errors.As(err, &unusable) || unusable.Why != "its standard input is refused" {
		t.Errorf("%v", err)
	}
	_, p = remoteOn(t, FaultShellGone)
	var fault *Fault
	if err := p.Send(t.Context(), []byte("x")); !errors.As(err, &fault) || errors.As(err, &unusable) {
		t.Errorf("of a shell that is gone: %v", err)
	}
}

func TestMissingPowerShellByFault(t *testing.T) {
	f := &fakeHost{intercept: func(w http.ResponseWriter, _ *http.Request, action string, _ int) bool {
		if action != "Command" && action != "Enumerate" {
			return false
		}
		writeFault(w, faultFileNotFound, "w:InternalError", "Das System kann die angegebene Datei nicht finden.")
		return true
	}}
	f.start(t)
	d := f.driver()
	var unusable *winagent.UnusableError
	if _, err := (&remote{client: d.client}).Start(t.Context(), "powershell.exe"); !errors.As(err, &unusable) || unusable.Why != "PowerShell is missing" {
		t.Errorf("%v", err)
	}
	if n := f.openShells(); n != 0 {
		t.Errorf("%d shells are left", n)
	}
}

// When a host is read by text: at once where it cannot run the agent, after some
// tries where the agent only fails, and not where the host is away.
func TestAutoJudges(t *testing.T) {
	a := &autoChannel{live: &liveChannel{remote: &remote{}}, log: zap.NewNop()}
	lost := errors.New("lost")
	step := func(name string, err error, began, read bool, want string) {
		t.Helper()
		a.live.remote.began.Store(began)
		if got := a.judge(err, read); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	step("cannot", fmt.Errorf("watch: %w", &winagent.UnusableError{Why: "constrained language mode"}), true, false, "constrained language mode")
	for range 5 {
		step("not there", lost, false, false, "")
	}
	step("fails once", lost, true, false, "")
	step("fails twice", lost, true, false, "")
	step("ran", lost, true, true, "")
	step("fails once", lost, true, false, "")
	step("fails twice", lost, true, false, "")
	step("fails again", lost, true, false, "it failed to start several times")
}

func TestModes(t *testing.T) {
	f := (&fakeHost{}).start(t)
	for mode, want := range map[Mode]string{"": "*winrm.textChannel", ModeText: "*winrm.textChannel", ModeAgent: "*winrm.liveChannel", ModeAuto: "*winrm.autoChannel"} {
		d := f.driver(func(c *Config) { c.Mode = mode })
		if got := fmt.Sprintf("%T", d.channel); got != want {
			t.Errorf("%q: %s", mode, got)
		}
	}
	cfg := f.config()
	cfg.Mode = "telepathy"
	if _, err := New(cfg, nil); err == nil {
		t.Error("a mode that does not exist was taken")
	}
}
