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

// farm is a host with one disconnected session, and its description.
func farm(t *testing.T, options string) (*stubHost, *watched, sessions.Session) {
	h := newStubHost(t)
	h.Set(func() {
		h.Sessions[2] = agenttest.Row(4, "álice with a long name of her own", logonA, disconnectA, options)
	})
	w := watch(t, Config{Beat: time.Hour, Poll: time.Hour}, h)
	victim := w.untilSession(2, "disconnected", func(s sessions.Session) bool { return s.State == sessions.StateDisconnected })
	return h, w, victim
}

// onLogoff calls change, with the host locked, when WTSLogoffSession was called.
func (h *stubHost) onLogoff(ctx context.Context, change func()) {
	for len(h.Logoffs()) == 0 {
		select {
		case <-time.After(5 * time.Millisecond):
		case <-ctx.Done():
			return
		}
	}
	h.Set(change)
}

func TestEvict(t *testing.T) {
	defer goleak.VerifyNone(t)
	h, w, victim := farm(t, "")
	go h.onLogoff(t.Context(), func() { delete(h.Sessions, 2) })
	if err := w.Evict(t.Context(), "ts1", victim); err != nil {
		t.Fatal(err)
	}
	if got := h.Logoffs(); !slices.Equal(got, []string{"2 0"}) { // never waits inside Windows
		t.Errorf("logged off %q", got)
	}
	w.until("a report without it", func(r sessions.Report) bool { _, there := session(r, 2); return !there })
	w.stop()
	w.end()
}

// An ID goes to the next session at once: the victim is gone all the same.
func TestEvictSeesAnIDReused(t *testing.T) {
	for name, next := range map[string]string{
		"by a logon":               agenttest.Row(0, "bob", logonA+5, 0, ""),
		"by the same user":         agenttest.Row(0, "álice with a long name of her own", logonA+5, 0, ""),
		"by a console that is new": "1|Console",
	} {
		t.Run(name, func(t *testing.T) {
			h, w, victim := farm(t, "")
			go h.onLogoff(t.Context(), func() { h.Sessions[2] = next })
			if err := w.Evict(t.Context(), "ts1", victim); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestEvictRefused(t *testing.T) {
	const user = "álice with a long name of her own"
	for _, c := range []struct {
		name   string
		change func(h *stubHost, victim *sessions.Session)
		why    string
	}{
		{"gone", func(h *stubHost, _ *sessions.Session) { delete(h.Sessions, 2) }, "it is not there any more (Win32 error 7022)"},
		{"connected again", func(h *stubHost, _ *sessions.Session) {
			h.Sessions[2] = agenttest.Row(0, user, logonA, disconnectA, "")
		}, "the user is connected again"},
		{"connected between the two looks", func(h *stubHost, _ *sessions.Session) {
			h.Sessions[2] = agenttest.Row(4, user, logonA, disconnectA, "flip")
		}, "the user is connected again"},
		{"was connected in between", func(h *stubHost, _ *sessions.Session) {
			h.Sessions[2] = agenttest.Row(4, user, logonA, disconnectA+1, "")
		}, "the user was connected in between"},
		{"logged on anew", func(h *stubHost, _ *sessions.Session) {
			h.Sessions[2] = agenttest.Row(4, user, logonA+1, disconnectA, "")
		}, "its user has logged on anew since"},
		{"another user", func(h *stubHost, _ *sessions.Session) {
			h.Sessions[2] = agenttest.Row(4, user[:len(user)-1]+"r", logonA, disconnectA, "")
		}, "another user has this session ID now"},
		{"going down", func(h *stubHost, _ *sessions.Session) {
			h.Sessions[2] = agenttest.Row(8, user, logonA, disconnectA, "")
		}, "it is not disconnected but Down"},
		{"the agent's own", func(h *stubHost, v *sessions.Session) { v.ID = 0 }, "ID 0 is the services session or a listener"},
		{"a listener", func(h *stubHost, v *sessions.Session) { v.ID = 65536 }, "ID 65536 is the services session or a listener"},
		{"the console", func(h *stubHost, _ *sessions.Session) { h.Settings["console"] = "2" }, "it is the console session"},
		{"the console by name", func(h *stubHost, _ *sessions.Session) {
			h.Sessions[2] = strings.Replace(agenttest.Row(4, user, logonA, disconnectA, ""), "4|", "4|console", 1)
		}, "it is the console session"},
		{"unreadable", func(h *stubHost, _ *sessions.Session) {
			h.Sessions[2] = agenttest.Row(4, user, logonA, disconnectA, "error=5")
		}, "the host does not let the agent look at it (Win32 error 5)"},
		{"Windows says no", func(h *stubHost, _ *sessions.Session) {
			h.Sessions[2] = agenttest.Row(4, user, logonA, disconnectA, "logoff=7045")
		}, "WTSLogoffSession failed (Win32 error 7045)"},
		{"disconnected at no known time", func(_ *stubHost, v *sessions.Session) { v.DisconnectedAt = time.Time{} }, "it is not known since when it is disconnected"},
		{"described by text", func(_ *stubHost, v *sessions.Session) { v.Incarnation = "11/23/2026 2:11 AM" }, "it is not described well enough to be told from another session"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h, w, victim := farm(t, "")
			h.Set(func() { c.change(h, &victim) })
			err := w.Evict(t.Context(), "ts1", victim)
			var refused *sessions.RefusedError
			if !errors.As(err, &refused) || refused.Why != c.why || refused.Ref.Host != "ts1" {
				t.Errorf("%v, want refused: %s", err, c.why)
			}
			if got := h.Logoffs(); got != nil {
				t.Errorf("logged off %q", got)
			}
		})
	}
}

func TestEvictOwnSession(t *testing.T) {
	h := newStubHost(t)
	h.Set(func() {
		h.Settings["own"] = "2"
		h.Sessions[2] = agenttest.Row(4, "svc", logonA, disconnectA, "")
	})
	w := watch(t, Config{}, h)
	victim := w.untilSession(2, "there", func(sessions.Session) bool { return true })
	var refused *sessions.RefusedError
	if err := w.Evict(t.Context(), "ts1", victim); !errors.As(err, &refused) || refused.Why != refusals["own-session"] {
		t.Errorf("%v", err)
	}
}

// Names are compared as Windows does.
func TestEvictWithoutRegardToCase(t *testing.T) {
	h, w, victim := farm(t, "")
	go h.onLogoff(t.Context(), func() { delete(h.Sessions, 2) })
	victim.Account.User = strings.ToUpper(victim.Account.User)
	if err := w.Evict(t.Context(), "ts1", victim); err != nil {
		t.Fatal(err)
	}
}

// A session on its way down loses its user, and is still there.
func TestEvictStuck(t *testing.T) {
	h, w, victim := farm(t, "")
	go h.onLogoff(t.Context(), func() { h.Sessions[2] = "8|" })
	ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
	defer cancel()
	err := w.Evict(ctx, "ts1", victim)
	var stuck *sessions.StuckError
	if !errors.As(err, &stuck) || stuck.State != sessions.StateDown {
		t.Fatalf("%v", err)
	}
}

func TestEvictWithoutAnAgent(t *testing.T) {
	a := New(Config{}, nil, nil)
	var refused *sessions.RefusedError
	err := a.Evict(t.Context(), "ts1", sessions.Session{ID: 2, Account: sessions.Account{User: "a"}, Incarnation: "5",
		State: sessions.StateDisconnected, DisconnectedAt: time.Now()})
	if !errors.As(err, &refused) {
		t.Fatalf("%v", err)
	}
}

func TestEvictWhoseAgentDies(t *testing.T) {
	h, w, victim := farm(t, "")
	go h.onLogoff(t.Context(), func() { h.running[0].Process.Kill() })
	err := w.Evict(t.Context(), "ts1", victim)
	var refused *sessions.RefusedError
	if err == nil || errors.As(err, &refused) {
		t.Fatalf("%v", err)
	}
}
