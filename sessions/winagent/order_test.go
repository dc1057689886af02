package winagent

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/rdpbroker/rdpbroker/sessions"
	"github.com/rdpbroker/rdpbroker/sessions/winagent/agenttest"
)

// busyFarm is a host with one active session, and its description.
func busyFarm(t *testing.T, dumb bool) (*stubHost, *watched, sessions.Session) {
	h := newStubHost(t)
	h.dumb.Store(dumb)
	h.Set(func() { h.Sessions[2] = agenttest.Row(0, "álice", logonA, 0, "") })
	w := watch(t, Config{Beat: time.Hour, Poll: 50 * time.Millisecond}, h)
	return h, w, w.untilSession(2, "active", func(s sessions.Session) bool { return s.State == sessions.StateActive })
}

func TestMessageAndDisconnect(t *testing.T) {
	for name, dumb := range map[string]bool{"by commands": false, "where standard input is refused": true} {
		t.Run(name, func(t *testing.T) {
			defer goleak.VerifyNone(t)
			h, w, s := busyFarm(t, dumb)
			if err := w.Message(t.Context(), "ts1", s, "rdpbroker", "Your session is \"idle\"\x07:\nit ends soon."); err != nil {
				t.Fatal(err)
			}
			if err := w.Disconnect(t.Context(), "ts1", s); err != nil {
				t.Fatal(err)
			}
			want := []string{`message 2 64 0 0 rdpbroker: Your session is "idle":?it ends soon.`, "disconnect 2 0"}
			if got := h.Logoffs(); !slices.Equal(got, want) {
				t.Errorf("done:\n%q, want\n%q", got, want)
			}
			w.stop()
			w.end()
		})
	}
}

func TestDisconnectRefused(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(h *stubHost, s *sessions.Session)
		why    string
	}{
		{"gone", func(h *stubHost, _ *sessions.Session) { delete(h.Sessions, 2) }, "it is not there any more (Win32 error 7022)"},
		{"disconnected by now", func(h *stubHost, _ *sessions.Session) {
			h.Sessions[2] = agenttest.Row(4, "álice", logonA, disconnectA, "")
		}, "it is not active but Disconnected"},
		{"disconnected as described", func(_ *stubHost, s *sessions.Session) { s.State = sessions.StateDisconnected }, "it is not active but Disconnected"},
		{"another user", func(h *stubHost, _ *sessions.Session) {
			h.Sessions[2] = agenttest.Row(0, "bob", logonA, 0, "")
		}, "another user has this session ID now"},
		{"logged on anew", func(h *stubHost, _ *sessions.Session) {
			h.Sessions[2] = agenttest.Row(0, "álice", logonA+1, 0, "")
		}, "its user has logged on anew since"},
		{"used since", func(_ *stubHost, s *sessions.Session) { s.LastInputAt = s.LastInputAt.Add(-time.Second) }, "the user has done something since"},
		{"the console", func(h *stubHost, _ *sessions.Session) { h.Settings["console"] = "2" }, "it is the console session"},
		{"Windows says no", func(h *stubHost, _ *sessions.Session) {
			h.Sessions[2] = agenttest.Row(0, "álice", logonA, 0, "act=5")
		}, "WTSDisconnectSession failed (Win32 error 5)"},
		{"not described", func(_ *stubHost, s *sessions.Session) { s.Incarnation = "" }, "it is not described well enough to be told from another session"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h, w, s := busyFarm(t, false)
			h.Set(func() { c.change(h, &s) })
			err := w.Disconnect(t.Context(), "ts1", s)
			var refused *sessions.RefusedError
			if !errors.As(err, &refused) || refused.Why != c.why || refused.Act != "disconnected" {
				t.Errorf("%v, want refused: %s", err, c.why)
			}
			if got := h.Logoffs(); got != nil {
				t.Errorf("done: %q", got)
			}
		})
	}
}

// What is not known is not asked for: whoever has typed since is not spared then.
func TestDisconnectWhateverTheyDo(t *testing.T) {
	h, w, s := busyFarm(t, false)
	s.LastInputAt = time.Time{}
	if err := w.Disconnect(t.Context(), "ts1", s); err != nil || len(h.Logoffs()) != 1 {
		t.Errorf("%v, done: %q", err, h.Logoffs())
	}
}

func TestMessageRefused(t *testing.T) {
	h, w, s := busyFarm(t, false)
	h.Set(func() { h.Sessions[2] = agenttest.Row(0, "bob", logonA, 0, "") })
	err := w.Message(t.Context(), "ts1", s, "rdpbroker", "hello")
	var refused *sessions.RefusedError
	if !errors.As(err, &refused) || refused.Error() != "session ts1/2 was not sent a message: another user has this session ID now" {
		t.Error(err)
	}
	if err := w.Message(t.Context(), "ts1", s, "rdpbroker", " \x00\n"); err == nil || h.Logoffs() != nil {
		t.Errorf("%v, done: %q", err, h.Logoffs())
	}
}

// A host that takes no standard input is watched all the same, and logs off by an
// agent of its own.
func TestHostWithoutStandardInput(t *testing.T) {
	defer goleak.VerifyNone(t)
	h := newStubHost(t)
	h.dumb.Store(true)
	h.Set(func() { h.Sessions[2] = agenttest.Row(4, "alice", logonA, disconnectA, "") })
	w := watch(t, Config{Beat: 100 * time.Millisecond, Poll: 50 * time.Millisecond, Silence: time.Second}, h)
	r := w.until("a report", func(sessions.Report) bool { return true })
	if len(r.Warnings) != 1 || !strings.Contains(r.Warnings[0], "no standard input") {
		t.Errorf("warnings %q", r.Warnings)
	}
	victim, _ := session(r, 2)
	first := time.Now()
	w.until("a sign of life after the time in which another agent would have ended", func(r sessions.Report) bool {
		return r.ReadAt.Sub(first) > 1500*time.Millisecond
	})
	w.Refresh() // does nothing, and no harm

	changed := victim
	changed.DisconnectedAt = victim.DisconnectedAt.Add(time.Microsecond)
	var refused *sessions.RefusedError
	if err := w.Evict(t.Context(), "ts1", changed); !errors.As(err, &refused) || refused.Why != "the user was connected in between" {
		t.Errorf("%v", err)
	}
	go h.onLogoff(t.Context(), func() { delete(h.Sessions, 2) })
	if err := w.Evict(t.Context(), "ts1", victim); err != nil {
		t.Error(err)
	}
	if got := h.Logoffs(); !slices.Equal(got, []string{"2 0"}) {
		t.Errorf("logged off %q", got)
	}
	w.until("a report without it", func(r sessions.Report) bool { _, there := session(r, 2); return !there })
	h.mu.Lock()
	n := len(h.running)
	h.mu.Unlock()
	if n != 4 { // refused; resident; two for one order each
		t.Errorf("%d agents were started", n)
	}
	w.stop()
	w.end()
}

// Once in an agent's life a host is asked whether it takes standard input by now.
func TestHostThatTakesStandardInputLater(t *testing.T) {
	h := newStubHost(t)
	h.dumb.Store(true)
	w := watch(t, Config{Lifetime: 300 * time.Millisecond, Poll: 50 * time.Millisecond, Beat: 50 * time.Millisecond}, h)
	deaf := func(r sessions.Report) bool { return len(r.Warnings) > 0 }
	w.until("a report", deaf)
	h.mu.Lock()
	before := len(h.running)
	h.mu.Unlock()
	w.until("another agent that takes no commands", func(r sessions.Report) bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		return deaf(r) && len(h.running) > before+1
	})
	h.dumb.Store(false)
	w.until("an agent that does", func(r sessions.Report) bool { return !deaf(r) })
	w.stop()
	w.end()
}

// An agent that cannot be told to end does not live for ever.
func TestDeafAgentEndsItself(t *testing.T) {
	h := newStubHost(t)
	proc, err := h.StartWith(t.Context(), Command(), variables("start beat=0.1 poll=0.1 life=0.5"))
	if err != nil {
		t.Fatal(err)
	}
	defer proc.Close()
	last := ""
	for out := newLineReader(proc.Stdout()); ; {
		text, err := out.next()
		if err != nil {
			break
		}
		last = text
	}
	if want := `{"t":"bye","why":"life"}`; last != want || proc.ExitCode() != 0 {
		t.Errorf("last said %s, exit code %d", last, proc.ExitCode())
	}
}

// A transport without variables has no other way.
func TestNoStandardInputAndNoVariables(t *testing.T) {
	h := newStubHost(t)
	h.dumb.Store(true)
	w := watch(t, Config{}, onlyStart{h})
	var unusable *UnusableError
	if err := w.end(); !errors.As(err, &unusable) || unusable.Why != WhyNoInput {
		t.Errorf("ended with %v", err)
	}
}

type onlyStart struct{ t Transport }

func (o onlyStart) Start(ctx context.Context, command string) (Process, error) {
	return o.t.Start(ctx, command)
}
