//go:build unix

package winssh

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/crypto/ssh/knownhosts"

	"github.com/rdpbroker/rdpbroker/sessions"
	"github.com/rdpbroker/rdpbroker/sessions/sshlink"
	"github.com/rdpbroker/rdpbroker/sessions/sshlink/sshtest"
	"github.com/rdpbroker/rdpbroker/sessions/winagent"
	"github.com/rdpbroker/rdpbroker/sessions/winagent/agenttest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A real OpenSSH server, the real agent: what the farm needs of a host.
func TestSessionsOverSSH(t *testing.T) {
	t.Parallel()
	h, windows := newAgentHost(t)
	windows.Set(func() { windows.Sessions[2] = agenttest.Row(0, "alice", logonA, 0, "") })
	d := h.driver(nil)
	w := h.watch(d)
	r := w.until("a report", func(sessions.Report) bool { return true })
	if r.Source != "agent (ssh)" || r.NoEvict != "" || !slices.Equal(ids(r), []int{0, 1, 2, 65536}) {
		t.Errorf("report %+v", r)
	}
	if got := h.lines("commands"); len(got) != 1 || got[0] != winagent.Command() {
		t.Errorf("the host was told %q", got)
	}

	windows.Set(func() { windows.Sessions[2] = agenttest.Row(4, "alice", logonA, disconnectA, "") })
	alice := w.state(2, sessions.StateDisconnected)

	asked := time.Now()
	d.Refresh()
	w.until("the one asked for", func(r sessions.Report) bool { return !r.ReadAt.Before(asked) })

	// She has been connected in between: nothing is done.
	windows.Set(func() { windows.Sessions[2] = agenttest.Row(4, "alice", logonA, disconnectA+1, "") })
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var refused *sessions.RefusedError
	if err := d.Evict(ctx, ts1, alice); !errors.As(err, &refused) || !strings.Contains(err.Error(), "connected in between") || windows.Logoffs() != nil {
		t.Errorf("evicted with %v, logoffs %q", err, windows.Logoffs())
	}
	// As described: she is logged off, and Evict waits until she is gone.
	windows.Set(func() { windows.Sessions[2] = agenttest.Row(4, "alice", logonA, disconnectA, "") })
	evicted := make(chan error, 1)
	go func() { evicted <- d.Evict(ctx, ts1, alice) }()
	for windows.Logoffs() == nil && ctx.Err() == nil {
		time.Sleep(10 * time.Millisecond)
	}
	windows.Set(func() { delete(windows.Sessions, 2) })
	if err := <-evicted; err != nil || !slices.Equal(windows.Logoffs(), []string{"2 0"}) {
		t.Errorf("evicted with %v, logoffs %q", err, windows.Logoffs())
	}

	w.stop()
	if err := w.end(); !errors.Is(err, context.Canceled) {
		t.Errorf("ended with %v", err)
	}
	h.gone()
	if err := d.Evict(ctx, ts1, alice); !errors.As(err, &refused) {
		t.Errorf("evicted after the end with %v", err)
	}
}

// What else the agent tells and does, over a real OpenSSH server.
func TestProgramsMarkersAndOrdersOverSSH(t *testing.T) {
	t.Parallel()
	h, windows := newAgentHost(t)
	windows.Set(func() {
		windows.Sessions[2] = agenttest.Row(0, "alice", logonA, 0, "") + "\nP|2|10|csrss.exe|7|7\nP|2|700|winword.exe|5|5" +
			fmt.Sprintf("\nA|CONTOSO\\alice|1001\nK|1001|1|8h|%d", logonA)
	})
	d := h.driver(nil)
	var alice sessions.Session
	h.watch(d).until("alice's programs and her marker", func(r sessions.Report) bool {
		alice = r.Sessions[2]
		return slices.Equal(alice.Processes, []string{"winword.exe"}) && alice.KeepUntil.Equal(alice.LogonAt.Add(8*time.Hour))
	})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := d.Message(ctx, ts1, alice, "rdpbroker", "Good evening"); err != nil {
		t.Error(err)
	}
	if err := d.Disconnect(ctx, ts1, alice); err != nil {
		t.Error(err)
	}
	if got, want := windows.Logoffs(), []string{"message 2 64 0 0 rdpbroker: Good evening", "disconnect 2 0"}; !slices.Equal(got, want) {
		t.Errorf("done: %q, want %q", got, want)
	}
}

// A connection that breaks is an error and not an empty host; the next Watch gets
// another one, unless the host is not the same any more.
func TestConnectionsBreak(t *testing.T) {
	t.Parallel()
	h, windows := newAgentHost(t)
	windows.Set(func() { windows.Sessions[2] = agenttest.Row(4, "alice", logonA, disconnectA, "") })
	d := h.driver(nil)
	w := h.watch(d)
	alice := w.state(2, sessions.StateDisconnected)
	h.cut()
	if err := w.end(); err == nil || !strings.Contains(err.Error(), "ts1") || !strings.Contains(err.Error(), "is lost") {
		t.Errorf("ended with %v", err)
	}
	var refused *sessions.RefusedError
	if err := d.Evict(t.Context(), ts1, alice); !errors.As(err, &refused) {
		t.Errorf("evicted without a connection: %v", err)
	}
	h.gone()

	w = h.watch(d)
	if again := w.state(2, sessions.StateDisconnected); !again.SameIncarnation(alice) {
		t.Errorf("after the connection broke %+v, before %+v", again, alice)
	}
	h.ChangeHostKey(t)
	h.cut()
	if err := w.end(); err == nil {
		t.Error("ended without an error")
	}
	err := h.watch(d).end()
	var key *knownhosts.KeyError
	if !errors.As(err, &key) || !strings.Contains(err.Error(), "another key") {
		t.Errorf("ended with %v, want an error that tells of another key", err)
	}
}

// A host that goes without a word is lost soon.
func TestSilentHost(t *testing.T) {
	t.Parallel()
	h, _ := newAgentHost(t)
	wire := sshtest.StartWire(t, h.Addr)
	d := h.driver(func(c *Config) {
		c.Link.KeepAlive = 200 * time.Millisecond
		dial := c.Link.Dial
		c.Link.Dial = func(ctx context.Context, network, _ string) (net.Conn, error) { return dial(ctx, network, wire.Addr) }
	})
	w := h.watch(d)
	w.until("a report", func(sessions.Report) bool { return true })
	wire.Freeze()
	if err := w.end(); !errors.Is(err, sshlink.ErrSilent) {
		t.Errorf("ended with %v, want %v", err, sshlink.ErrSilent)
	}
}

func TestAgentsTakeOver(t *testing.T) {
	t.Parallel()
	h, windows := newAgentHost(t)
	w := h.watch(h.driver(func(c *Config) { c.Agent.Lifetime = time.Second }))
	w.until("a report", func(sessions.Report) bool { return true })
	for deadline := time.Now().Add(patience); len(h.lines("pids")) < 2; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("no agent has taken over")
		}
	}
	windows.Set(func() { windows.Sessions[2] = agenttest.Row(0, "alice", logonA, 0, "") })
	w.state(2, sessions.StateActive)
	w.stop()
	if err := w.end(); !errors.Is(err, context.Canceled) {
		t.Errorf("ended with %v", err)
	}
	h.gone()
}

func TestWrongKey(t *testing.T) {
	t.Parallel()
	h := newHost(t, "exit 1")
	d := h.driver(func(c *Config) {
		c.Link.KeyFile = filepath.Join(t.TempDir(), "id")
		sshtest.WriteKey(t, c.Link.KeyFile)
	})
	for range 2 {
		err := h.watch(d).end()
		var auth *sshlink.AuthError
		if !errors.As(err, &auth) || auth.RetryAfter() < time.Minute || !strings.Contains(err.Error(), "ts1") {
			t.Errorf("ended with %v, want an AuthError that asks for patience", err)
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.conns) != 1 {
		t.Errorf("%d connections; a refused key is not offered again at once", len(h.conns))
	}
}

// Hosts on which no agent can run say why.
func TestHostsWithoutAgent(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, script, want string
		unusable           bool
	}{
		{"constrained", `echo '{"t":"cannot","why":"mode","detail":"ConstrainedLanguage"}'; exit 3`, "constrained language mode (ConstrainedLanguage)", true},
		{"missing, says cmd.exe", `echo "'powershell.exe' is not recognized as an internal or external command," >&2; exit 1`, "PowerShell is missing", true},
		{"compiler blocked", `read class; echo '{"t":"cannot","why":"compile","base64":"bm8gY3Nj"}'; exit 4`, "could not be compiled on the host (no csc)", true},
		{"not Windows", "", "exit code 127", false},
		{"nothing", "exit 0", "ended at its start with exit code 0", false},
		{"a banner and an end", "echo Welcome; cat >/dev/null & sleep 0.1; kill $!; exit 7", "exit code 7", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t, c.script)
			err := h.watch(h.driver(nil)).end()
			if err == nil || !strings.Contains(err.Error(), c.want) || isUnusable(err) != c.unusable {
				t.Errorf("ended with %v, want %q", err, c.want)
			}
			if c.unusable && !strings.Contains(err.Error(), "in no other way") {
				t.Errorf("ended with %v", err)
			}
		})
	}
}
