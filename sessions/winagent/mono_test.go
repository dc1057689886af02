package winagent

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rdpbroker/rdpbroker/sessions"
)

// peers skips a test whose programs are missing, but not where they must be there.
func peers(t *testing.T, names ...string) {
	t.Helper()
	for _, n := range names {
		if _, err := exec.LookPath(n); err != nil {
			if os.Getenv("CI") == "true" {
				t.Fatalf("%v (deploy/install-test-peers.sh installs it)", err)
			}
			t.Skip(err)
		}
	}
}

var (
	buildOnce sync.Once
	builtIn   string
	buildErr  error
)

// TestMain removes what build has left.
func TestMain(m *testing.M) {
	code := m.Run()
	if builtIn != "" {
		os.RemoveAll(builtIn)
	}
	os.Exit(code)
}

// build compiles the agent as PowerShell's Add-Type would (C# 5, warnings are
// errors) and the library that stands in for Windows.
func build(t *testing.T) string {
	t.Helper()
	peers(t, "mcs", "mono", "gcc")
	buildOnce.Do(func() {
		if builtIn, buildErr = os.MkdirTemp("", "winagent"); buildErr != nil {
			return
		}
		stub := filepath.Join(builtIn, "stub.so")
		config := "<configuration>"
		for _, dll := range []string{"wtsapi32", "kernel32", "shell32"} {
			config += fmt.Sprintf(`<dllmap dll="%s.dll" target="%s"/>`, dll, stub)
		}
		for _, args := range [][]string{
			{"mcs", "-langversion:5", "-warn:4", "-warnaserror", "-nostdlib-", "-out:" + filepath.Join(builtIn, "agent.exe"), "agent.cs", "testdata/program.cs"},
			{"gcc", "-Wall", "-Werror", "-shared", "-fPIC", "-o", stub, "testdata/wtsapi32.c", "-lpthread"},
		} {
			if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
				buildErr = fmt.Errorf("%s: %w\n%s", strings.Join(args, " "), err, out)
				return
			}
		}
		buildErr = os.WriteFile(filepath.Join(builtIn, "agent.exe.config"), []byte(config+"</configuration>"), 0o600)
	})
	if buildErr != nil {
		t.Fatal(buildErr)
	}
	return builtIn
}

// stubHost is a Windows host made of a file, see testdata/wtsapi32.c. It is the
// Transport to itself.
type stubHost struct {
	t    *testing.T
	bin  string
	path string

	mu       sync.Mutex
	sessions map[int]string // rows without the ID, by ID
	settings map[string]string
	registry string // directory
	running  []*exec.Cmd
}

func newStubHost(t *testing.T) *stubHost {
	dir := t.TempDir()
	h := &stubHost{
		t: t, bin: build(t), path: filepath.Join(dir, "host"), registry: filepath.Join(dir, "registry"),
		sessions: map[int]string{0: "4|Services", 1: "1|Console", 65536: "6|RDP-Tcp"},
		settings: map[string]string{"own": "0", "console": "1", "admin": "1"},
	}
	h.write()
	return h
}

// Times of the stub's sessions, as FILETIMEs.
const (
	logonA      = int64(134_000_000_000_000_001)
	disconnectA = int64(134_000_100_000_000_007)
)

// row is a session of CONTOSO.
func row(state int, user string, logon, disconnect int64, options string) string {
	return fmt.Sprintf("%d||%s|CONTOSO|%d|%d|%d|%d||||%s", state, user, logon, logon, disconnect, logon, options)
}

// set changes the host in one step.
func (h *stubHost) set(change func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	change()
	h.write()
}

func (h *stubHost) write() {
	var b strings.Builder
	for name, value := range h.settings {
		fmt.Fprintf(&b, "%s|%s\n", name, value)
	}
	for id, row := range h.sessions {
		if strings.Contains(row, "\n") { // has processes
			row, processes, _ := strings.Cut(row, "\n")
			fmt.Fprintf(&b, "S|%d|%s\n%s\n", id, row, processes)
			continue
		}
		fmt.Fprintf(&b, "S|%d|%s\n", id, row)
	}
	if err := os.WriteFile(h.path+".new", []byte(b.String()), 0o600); err != nil {
		h.t.Fatal(err)
	}
	if err := os.Rename(h.path+".new", h.path); err != nil {
		h.t.Fatal(err)
	}
}

// logoffs are the IDs that WTSLogoffSession was called with, "ID WAIT" each.
func (h *stubHost) logoffs() []string {
	b, err := os.ReadFile(h.path + ".log")
	if err != nil {
		return nil
	}
	return strings.Split(strings.TrimSpace(string(b)), "\n")
}

// value puts a value into the host's registry, below HKEY_LOCAL_MACHINE.
func (h *stubHost) value(key, name, kind, value string) {
	h.t.Helper()
	dir := filepath.Join(append([]string{h.registry, "LocalMachine"}, strings.Split(strings.ToLower(key), `\`)...)...)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		h.t.Fatal(err)
	}
	path := filepath.Join(dir, "values.xml")
	old, _ := os.ReadFile(path)
	inner := strings.TrimSuffix(strings.TrimPrefix(string(old), "<values>\n"), "</values>")
	text := fmt.Sprintf("<values>\n%s<value name=\"%s\"\ntype=\"%s\">%s</value>\n</values>", inner, name, kind, value)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		h.t.Fatal(err)
	}
}

// Start is Transport.
func (h *stubHost) Start(_ context.Context, command string) (Process, error) {
	if command != Command() {
		h.t.Errorf("command %q", command)
	}
	cmd := exec.Command("mono", filepath.Join(h.bin, "agent.exe"))
	cmd.Env = append(os.Environ(), "WTS_STUB="+h.path, "MONO_REGISTRY_PATH="+h.registry)
	p, err := startProcess(cmd)
	if err == nil {
		h.mu.Lock()
		h.running = append(h.running, cmd)
		h.mu.Unlock()
	}
	return p, err
}

// localProcess is a Process of this machine.
type localProcess struct {
	cmd            *exec.Cmd
	stdin          io.WriteCloser
	stdout, stderr io.Reader
	wait           func() error
}

func startProcess(cmd *exec.Cmd) (*localProcess, error) {
	p := &localProcess{cmd: cmd}
	var err error
	if p.stdin, err = cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if p.stdout, err = cmd.StdoutPipe(); err != nil {
		return nil, err
	}
	if p.stderr, err = cmd.StderrPipe(); err != nil {
		return nil, err
	}
	p.wait = sync.OnceValue(cmd.Wait)
	return p, cmd.Start()
}

func (p *localProcess) Send(_ context.Context, b []byte) error {
	_, err := p.stdin.Write(b)
	return err
}
func (p *localProcess) Stdout() io.Reader { return p.stdout }
func (p *localProcess) Stderr() io.Reader { return p.stderr }
func (p *localProcess) ExitCode() int     { p.wait(); return p.cmd.ProcessState.ExitCode() }
func (p *localProcess) Close() error {
	p.cmd.Process.Kill() // it may have ended
	p.wait()
	return nil
}

// watched runs an agent for a test and collects its reports.
type watched struct {
	*Agent
	t       *testing.T
	reports chan sessions.Report
	ended   chan error
	stop    context.CancelFunc
}

func watch(t *testing.T, cfg Config, tr Transport) *watched {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	w := &watched{Agent: New(cfg, tr, nil), t: t, reports: make(chan sessions.Report, 1000), ended: make(chan error, 1), stop: stop}
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.ended <- w.Run(ctx, func(r sessions.Report) { w.reports <- r })
	}()
	t.Cleanup(func() { stop(); <-done })
	return w
}

// patience is how long the tests wait for what must come.
const patience = 20 * time.Second

// until returns the first report that fits.
func (w *watched) until(what string, fits func(sessions.Report) bool) sessions.Report {
	w.t.Helper()
	deadline := time.After(patience)
	for {
		select {
		case r := <-w.reports:
			if fits(r) {
				return r
			}
		case err := <-w.ended:
			w.t.Fatalf("waiting for %s: the agent ended: %v", what, err)
		case <-deadline:
			w.t.Fatalf("%s: no such report", what)
		}
	}
}

// session is the session with this ID.
func session(r sessions.Report, id int) (sessions.Session, bool) {
	for _, s := range r.Sessions {
		if s.ID == id {
			return s, true
		}
	}
	return sessions.Session{}, false
}

func (w *watched) untilSession(id int, what string, fits func(sessions.Session) bool) sessions.Session {
	w.t.Helper()
	var found sessions.Session
	w.until(fmt.Sprintf("session %d %s", id, what), func(r sessions.Report) bool {
		s, ok := session(r, id)
		found = s
		return ok && fits(s)
	})
	return found
}

func (w *watched) end() error {
	w.t.Helper()
	select {
	case err := <-w.ended:
		return err
	case <-time.After(patience):
		w.t.Fatal("the agent does not end")
		return nil
	}
}
