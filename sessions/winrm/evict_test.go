package winrm

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/rdpbroker/rdpbroker/sessions"
	"github.com/rdpbroker/rdpbroker/sessions/wintext"
)

// evictor is a text channel over h that has read once, and the session with
// ID 3 as that reading showed it.
func evictor(t *testing.T, h *toolHost) (*textChannel, sessions.Session) {
	t.Helper()
	c := &textChannel{run: h.run, allowEvict: true, settle: time.Millisecond}
	r, err := c.report(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range r.Sessions {
		if s.ID == 3 {
			return c, s
		}
	}
	t.Fatal("no session 3")
	return nil, sessions.Session{}
}

// logoffs are the logoff commands that h ran.
func (h *toolHost) logoffs() []string {
	var list []string
	for _, c := range h.ran {
		if strings.HasPrefix(c, "logoff") {
			list = append(list, c)
		}
	}
	return list
}

// onLogoff makes logoff.exe answer out, after do.
func (h *toolHost) onLogoff(out output, do func()) {
	h.override = map[string][]*output{"logoff.exe 3 /V": {&out}}
	h.before = func(command string) {
		if strings.HasPrefix(command, "logoff") && do != nil {
			do()
		}
	}
}

func TestEvict(t *testing.T) {
	anna := disconnected("Anna", 3, time.Hour)
	for _, tt := range []struct {
		name  string
		out   output
		after func(h *toolHost) // when logoff.exe runs
	}{
		{"gone at once", output{stdout: "Logging off session ID 3\r\n"}, func(h *toolHost) { h.rows = usual() }},
		{"gone before logoff.exe found it", output{stderr: "Error [7022]:The specified session cannot be found.", exitCode: 1}, func(h *toolHost) { h.rows = usual() }},
		{"the ID is somebody else's now", output{}, func(h *toolHost) { h.rows = usual(active("Bob", 3)) }},
		{"the ID is the same user's new session", output{}, func(h *toolHost) { h.rows = usual(active("Anna", 3)) }},
		{"gone after a while on the way down", output{}, func(h *toolHost) {
			looks := 0
			down := wintext.Row{ID: 3, State: sessions.StateDown}
			h.rows = usual(down)
			h.before = func(command string) {
				if looks++; looks > 6 {
					h.rows = usual()
				}
			}
		}},
		{"a look fails in between", output{}, func(h *toolHost) {
			h.rows = usual()
			h.override["quser.exe"] = []*output{{stderr: "Error [1722]:The RPC server is unavailable.", exitCode: 1}, nil}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := &toolHost{rows: usual(anna)}
			c, victim := evictor(t, h)
			h.onLogoff(tt.out, func() { tt.after(h) })
			if err := c.evict(t.Context(), "rds1", victim); err != nil {
				t.Fatal(err)
			}
			if got := h.logoffs(); len(got) != 1 || got[0] != "logoff.exe 3 /V" {
				t.Errorf("ran %q", got)
			}
		})
	}
}

func TestEvictRefuses(t *testing.T) {
	anna := disconnected("Anna", 3, time.Hour)
	change := func(f func(r *wintext.Row)) func(*toolHost, *sessions.Session) {
		return func(h *toolHost, _ *sessions.Session) {
			row := anna
			f(&row)
			h.rows = usual(row)
		}
	}
	describe := func(f func(s *sessions.Session)) func(*toolHost, *sessions.Session) {
		return func(_ *toolHost, s *sessions.Session) { f(s) }
	}
	for _, tt := range []struct {
		name   string
		change func(h *toolHost, victim *sessions.Session) // between the reading and Evict
		why    string
	}{
		{"connected again", change(func(r *wintext.Row) { r.State = sessions.StateActive }), "connected again"},
		{"connected, and idle for as long", change(func(r *wintext.Row) { r.State, r.SessionName = sessions.StateActive, "rdp-tcp#9" }), "connected again"},
		{"disconnected, connected, disconnected", change(func(r *wintext.Row) { r.Idle = 0 }), "connected in between"},
		{"idle for a minute less", change(func(r *wintext.Row) { r.Idle -= time.Minute }), "connected in between"},
		{"going down", change(func(r *wintext.Row) { r.State = sessions.StateDown }), "not disconnected but Down"},
		{"a state word that is not known", change(func(r *wintext.Row) { r.StateText = "Rozł." }), "not disconnected but Unknown"},
		{"a new session of the same user", change(func(r *wintext.Row) { r.LogonText = "8/26/2021 7:00 AM" }), "logged on anew"},
		{"another user", change(func(r *wintext.Row) { r.User = "Bob" }), "another user"},
		{"gone", func(h *toolHost, _ *sessions.Session) { h.rows = usual() }, "not there any more"},
		{"our own", change(func(r *wintext.Row) { r.Own = true }), "own session"},
		{"idle time not readable", change(func(r *wintext.Row) { r.IdleText = "hm" }), "idle time"},

		{"the services session", describe(func(s *sessions.Session) { s.ID = 0 }), "ID 0"},
		{"a negative ID", describe(func(s *sessions.Session) { s.ID = -1 }), "ID -1"},
		{"a listener", describe(func(s *sessions.Session) { s.ID = 65536 }), "ID 65536"},
		{"described as active", describe(func(s *sessions.Session) { s.State = sessions.StateActive }), "since when"},
		{"described in an unknown state", describe(func(s *sessions.Session) { s.State = sessions.StateUnknown }), "since when"},
		{"described without a disconnect time", describe(func(s *sessions.Session) { s.DisconnectedAt = time.Time{} }), "since when"},
		{"described without a logon time", describe(func(s *sessions.Session) { s.Incarnation = "" }), "not described well enough"},
		{"described without a user", describe(func(s *sessions.Session) { s.Account = sessions.Account{} }), "not described well enough"},
		{"described with another disconnect time", describe(func(s *sessions.Session) { s.DisconnectedAt = s.DisconnectedAt.Add(-time.Second) }), "connected in between"},
		{"described with another domain", describe(func(s *sessions.Session) { s.Account.Domain = "X" }), "another user"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := &toolHost{rows: usual(anna)}
			c, victim := evictor(t, h)
			tt.change(h, &victim)
			err := c.evict(t.Context(), "rds1", victim)
			var refused *sessions.RefusedError
			if !errors.As(err, &refused) || !strings.Contains(refused.Why, tt.why) {
				t.Errorf("got %v, want a refusal with %q", err, tt.why)
			}
			if got := h.logoffs(); len(got) > 0 {
				t.Errorf("ran %q", got)
			}
		})
	}
}

func TestEvictIsOffByDefault(t *testing.T) {
	h := &toolHost{rows: usual(disconnected("Anna", 3, time.Hour))}
	c, victim := evictor(t, h)
	c.allowEvict = false
	ran := len(h.ran)
	var refused *sessions.RefusedError
	if err := c.evict(t.Context(), "rds1", victim); !errors.As(err, &refused) || !strings.Contains(refused.Why, "text_eviction: true") {
		t.Errorf("got %v", err)
	}
	if len(h.ran) != ran {
		t.Errorf("ran %q", h.ran[ran:])
	}
}

// A driver that has not seen the session yet believes the description as far as
// one minute goes.
func TestEvictOfASessionNotSeenBefore(t *testing.T) {
	h := &toolHost{rows: usual(disconnected("Anna", 3, time.Hour))}
	_, victim := evictor(t, h)
	for _, tt := range []struct {
		idle time.Duration
		ok   bool
	}{{2 * time.Hour, true}, {time.Hour, true}, {59 * time.Minute, true}, {58 * time.Minute, false}, {0, false}} {
		h.rows = usual(disconnected("Anna", 3, tt.idle))
		h.onLogoff(output{}, func() { h.rows = usual() })
		fresh := &textChannel{run: h.run, allowEvict: true, settle: time.Millisecond}
		if err := fresh.evict(t.Context(), "rds1", victim); (err == nil) != tt.ok {
			t.Errorf("idle %v: got %v", tt.idle, err)
		}
	}
}

func TestLogoffRefused(t *testing.T) {
	for _, tt := range []struct {
		out output
		why string
	}{
		{output{stderr: "Error [5]: Access is denied.", exitCode: 1}, "access denied"},
		{output{stderr: "Ошибка [5]:Отказано в доступе", exitCode: 1}, "access denied"},
		{output{stderr: "Error [7045]:The requested session access is denied.", exitCode: 1}, "access denied"},
		{output{stderr: "Error [7024]:busy", exitCode: 1}, "7024"},
		{output{stderr: "'logoff.exe' is not recognized", exitCode: 9009}, "no logoff.exe"},
		{output{stdout: "Niet gevonden", exitCode: 1}, "Niet gevonden"},
	} {
		h := &toolHost{rows: usual(disconnected("Anna", 3, time.Hour))}
		c, victim := evictor(t, h)
		h.onLogoff(tt.out, nil)
		err := c.evict(t.Context(), "rds1", victim)
		var refused *sessions.RefusedError
		if !errors.As(err, &refused) || !strings.Contains(refused.Why, tt.why) {
			t.Errorf("%+v: got %v", tt.out, err)
		}
	}
}

func TestEvictStuck(t *testing.T) {
	h := &toolHost{rows: usual(disconnected("Anna", 3, time.Hour))}
	c, victim := evictor(t, h)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	h.onLogoff(output{}, func() {
		h.rows = usual(wintext.Row{ID: 3, State: sessions.StateDown})
		looks := 0
		h.before = func(string) {
			if looks++; looks == 5 {
				cancel()
			}
		}
	})
	err := c.evict(ctx, "rds1", victim)
	var stuck *sessions.StuckError
	if !errors.As(err, &stuck) || stuck.State != sessions.StateDown || stuck.Ref != sessions.RefOf("rds1", victim) {
		t.Errorf("got %v", err)
	}
}

// Told to go, and then the host cannot be read: neither gone nor stuck.
func TestEvictUnknownOutcome(t *testing.T) {
	for name, failing := range map[string]error{"unreadable": errors.New("no route"), "logged out": &AuthError{Reason: "no"}} {
		t.Run(name, func(t *testing.T) {
			h := &toolHost{rows: usual(disconnected("Anna", 3, time.Hour))}
			c, victim := evictor(t, h)
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			h.onLogoff(output{}, nil)
			looks := 0
			c.run = func(ctx context.Context, command string) (*output, error) {
				if len(h.logoffs()) == 0 {
					return h.run(ctx, command)
				}
				if looks++; looks > 3 {
					cancel()
				}
				return nil, failing
			}
			err := c.evict(ctx, "rds1", victim)
			var refused *sessions.RefusedError
			var stuck *sessions.StuckError
			if err == nil || errors.As(err, &refused) || errors.As(err, &stuck) || !errors.Is(err, failing) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// logoff.exe waits for the logoff and may run out of its time: the looks go on.
func TestEvictGoesOnWhenLogoffTakesLong(t *testing.T) {
	h := &toolHost{rows: usual(disconnected("Anna", 3, time.Hour))}
	c, victim := evictor(t, h)
	c.run = func(ctx context.Context, command string) (*output, error) {
		if strings.HasPrefix(command, "logoff") {
			h.rows = usual()
			return nil, startedError{errTimeout}
		}
		return h.run(ctx, command)
	}
	if err := c.evict(t.Context(), "rds1", victim); err != nil {
		t.Error(err)
	}
	// Any other failure of the command leaves the outcome open, and so does a
	// command that the host may never have started: it is not stuck.
	for _, broken := range []error{startedError{errors.New("connection reset")}, errors.New("connection reset"), errTimeout} {
		h.rows = usual(disconnected("Anna", 3, time.Hour))
		c, victim = evictor(t, h)
		c.run = func(ctx context.Context, command string) (*output, error) {
			if strings.HasPrefix(command, "logoff") {
				return nil, broken
			}
			return h.run(ctx, command)
		}
		var stuck *sessions.StuckError
		if err := c.evict(t.Context(), "rds1", victim); !errors.Is(err, broken) || errors.As(err, &stuck) {
			t.Errorf("%v: got %v", broken, err)
		}
	}
}
