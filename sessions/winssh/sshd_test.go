//go:build unix

package winssh

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap/zaptest"

	"github.com/rdpbroker/rdpbroker/sessions"
	"github.com/rdpbroker/rdpbroker/sessions/sshlink"
	"github.com/rdpbroker/rdpbroker/sessions/sshlink/sshtest"
	"github.com/rdpbroker/rdpbroker/sessions/winagent"
	"github.com/rdpbroker/rdpbroker/sessions/winagent/agenttest"
)

// patience is how long the tests wait for what must come.
const patience = 20 * time.Second

// host is what sshd reaches: a directory in its PATH with a powershell.exe.
type host struct {
	*sshtest.SSHD
	t   *testing.T
	dir string

	mu    sync.Mutex
	conns []net.Conn
}

// newHost is a host whose powershell.exe is this shell script.
func newHost(t *testing.T, powershell string) *host {
	t.Helper()
	h := &host{t: t, dir: t.TempDir()}
	if powershell != "" {
		// It says which command line it was started with, and as which process.
		script := fmt.Sprintf("#!/bin/sh\nprintf '%%s\\n' \"powershell.exe $*\" >>%[1]s/commands\necho $$ >>%[1]s/pids\n%[2]s\n", h.dir, powershell)
		if err := os.WriteFile(filepath.Join(h.dir, "powershell.exe"), []byte(script), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	h.SSHD = sshtest.StartSSHD(t, "SetEnv PATH="+h.dir+":/usr/bin:/bin")
	return h
}

// newAgentHost is a host on which the real agent runs.
func newAgentHost(t *testing.T) (*host, *agenttest.Host) {
	t.Helper()
	windows := agenttest.New(t)
	cmd := windows.Command()
	env := cmd.Env[len(os.Environ()):]
	return newHost(t, "exec env "+quote(env...)+" "+quote(cmd.Args...)), windows
}

func quote(words ...string) string {
	for i, w := range words {
		words[i] = "'" + w + "'"
	}
	return strings.Join(words, " ")
}

// lines are those of a file that powershell.exe writes.
func (h *host) lines(name string) []string {
	b, _ := os.ReadFile(filepath.Join(h.dir, name)) // none at first
	return strings.Split(string(bytes.TrimSpace(b)), "\n")
}

// cut breaks all connections there have been.
func (h *host) cut() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, c := range h.conns {
		c.Close()
	}
}

func (h *host) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, network, addr)
	if err == nil {
		h.mu.Lock()
		h.conns = append(h.conns, c)
		h.mu.Unlock()
	}
	return c, err
}

// gone waits until the agents that were started on the host have ended.
func (h *host) gone() {
	h.t.Helper()
	for _, line := range h.lines("pids") {
		pid, err := strconv.Atoi(line)
		if err != nil {
			h.t.Fatal(err)
		}
		for deadline := time.Now().Add(patience); syscall.Kill(pid, 0) == nil; time.Sleep(20 * time.Millisecond) {
			if time.Now().After(deadline) {
				h.t.Fatalf("process %d runs on after its connection has ended", pid)
			}
		}
	}
}

// driver is one for the host.
func (h *host) driver(change func(*Config)) *Driver {
	h.t.Helper()
	cfg := Config{Link: sshlink.Config{Addr: h.Addr, User: h.User, KeyFile: h.KeyFile, KnownHosts: h.KnownHosts, Dial: h.dial}}
	if change != nil {
		change(&cfg)
	}
	d, err := New(cfg, zaptest.NewLogger(h.t))
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { d.Close() })
	return d
}

// ts1 is what the farm calls the host.
var ts1 = sessions.Host{Name: "ts1"}

// watched collects what a driver publishes.
type watched struct {
	t       *testing.T
	reports chan sessions.Report
	ended   chan error
	stop    context.CancelFunc
}

func (h *host) watch(d *Driver) *watched {
	h.t.Helper()
	ctx, stop := context.WithCancel(h.t.Context())
	w := &watched{t: h.t, reports: make(chan sessions.Report, 1000), ended: make(chan error, 1), stop: stop}
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.ended <- d.Watch(ctx, ts1, func(r sessions.Report) { w.reports <- r })
	}()
	h.t.Cleanup(func() { stop(); <-done })
	return w
}

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
			w.t.Fatalf("waiting for %s: Watch ended: %v", what, err)
		case <-deadline:
			w.t.Fatalf("%s: no such report", what)
		}
	}
}

// state waits until a session has a state.
func (w *watched) state(id int, want sessions.State) (found sessions.Session) {
	w.t.Helper()
	w.until(fmt.Sprintf("session %d in state %s", id, want), func(r sessions.Report) bool {
		for _, s := range r.Sessions {
			if s.ID == id && s.State == want {
				found = s
				return true
			}
		}
		return false
	})
	return found
}

// end is what Watch ended with.
func (w *watched) end() error {
	w.t.Helper()
	select {
	case err := <-w.ended:
		return err
	case <-time.After(patience):
		w.t.Fatal("Watch does not end")
		return nil
	}
}

// Times of sessions, as FILETIMEs.
const (
	logonA      = int64(134_000_000_000_000_001)
	disconnectA = int64(134_000_100_000_000_007)
)

// ids are the sessions of a report.
func ids(r sessions.Report) (all []int) {
	for _, s := range r.Sessions {
		all = append(all, s.ID)
	}
	return all
}

func isUnusable(err error) bool {
	var u *winagent.UnusableError
	return errors.As(err, &u)
}
