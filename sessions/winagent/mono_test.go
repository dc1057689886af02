package winagent

import (
	"context"
	"fmt"
	"io"
	"os/exec"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rdpbroker/rdpbroker/sessions"
	"github.com/rdpbroker/rdpbroker/sessions/winagent/agenttest"
)

// Times of sessions, as FILETIMEs.
const (
	logonA      = int64(134_000_000_000_000_001)
	disconnectA = int64(134_000_100_000_000_007)
)

// stubHost is a host and the Transport to it.
type stubHost struct {
	*agenttest.Host
	t       *testing.T
	mu      sync.Mutex
	running []*exec.Cmd
	dumb    atomic.Bool // it takes no standard input
}

func newStubHost(t *testing.T) *stubHost { return &stubHost{Host: agenttest.New(t), t: t} }

// Start is Transport.
func (h *stubHost) Start(_ context.Context, command string) (Process, error) {
	if command != Command() {
		h.t.Errorf("command %q", command)
	}
	p, err := h.run(h.Command())
	if err == nil && h.dumb.Load() {
		p.(*localProcess).stdin.Close()
	}
	return p, err
}

// StartWith is VariableTransport.
func (h *stubHost) StartWith(_ context.Context, command string, variables map[string]string) (Process, error) {
	if command != Command() {
		h.t.Errorf("command %q", command)
	}
	cmd := h.Command()
	for name, value := range variables {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	return h.run(cmd)
}

func (h *stubHost) run(cmd *exec.Cmd) (Process, error) {
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
