package tsts

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/rdpbroker/rdpbroker/sessions"
)

// victim is session 3 of office, as a report describes it.
func victim() sessions.Session {
	return sessions.Session{ID: 3, Account: sessions.Account{Domain: "contoso", User: "Jürgen"}, State: sessions.StateDisconnected,
		LogonAt: timeOf(noon - 300*minute), DisconnectedAt: timeOf(noon - 60*minute), Incarnation: incarnationOf(noon - 300*minute)}
}

func TestEvict(t *testing.T) {
	for name, c := range map[string]struct {
		edit func(*fakeHost)
		op   string
	}{
		"session manager": {func(*fakeHost) {}, "Logoff"},
		"legacy":          {oldHost, "Reset"},
		"a while":         {func(f *fakeHost) { f.onLogoff = slowly }, "Logoff"},
		"a while, legacy": {func(f *fakeHost) { oldHost(f); f.onLogoff = slowly }, "Reset"},
		"the ID is used again at once": {func(f *fakeHost) {
			f.onLogoff = func(f *fakeHost, id int32) {
				f.change(func(f *fakeHost) { *f.find(id) = winSession{id: id, state: 0, user: "other", logon: noon} })
			}
		}, "Logoff"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newHost(t, c.edit)
			if err := f.driver(t).Evict(within(t), host, victim()); err != nil {
				t.Fatal(err)
			}
			if f.count(c.op) != 1 || f.count("Logoff")+f.count("Reset") != 1 {
				t.Errorf("calls: %v", f.calls)
			}
			waitFor(t, func() bool { return f.Connections() == 0 })
		})
	}
}

// slowly logs a session off in steps: its user goes first, its ID last.
func slowly(f *fakeHost, id int32) {
	f.change(func(f *fakeHost) { *f.find(id) = winSession{id: id, state: 8} })
	time.AfterFunc(50*time.Millisecond, func() { f.change(func(f *fakeHost) { f.remove(id) }) })
}

// A victim that came from a report is the one that is evicted.
func TestEvictWhatWasReported(t *testing.T) {
	f := newHost(t)
	d := f.driver(t)
	w := watch(t, d)
	s := byID(t, w.next(t), 3)
	errs := make(chan error, 1)
	go func() { errs <- d.Evict(within(t), host, s) }()
	w.until(t, func(r sessions.Report) bool { return len(r.Sessions) == 4 })
	if err := <-errs; err != nil {
		t.Error(err)
	}
}

// Nothing is logged off unless it is exactly what was described.
func TestEvictRefused(t *testing.T) {
	now := func(edit func(*winSession)) func(*fakeHost) {
		return func(f *fakeHost) { edit(f.find(3)) }
	}
	for name, c := range map[string]struct {
		host func(*fakeHost)
		want string
	}{
		"connected again":              {now(func(s *winSession) { s.state = 0 }), "connected again"},
		"in another state":             {now(func(s *winSession) { s.state = 8 }), "Down"},
		"in no known state":            {now(func(s *winSession) { s.state = 99 }), "Unknown"},
		"connected in between":         {now(func(s *winSession) { s.disconnect++ }), "connected in between"},
		"disconnect time lost":         {now(func(s *winSession) { s.disconnect = 0 }), "connected in between"},
		"another logon":                {now(func(s *winSession) { s.logon++ }), "logged on anew"},
		"another user":                 {now(func(s *winSession) { s.user = "mary" }), "another user"},
		"another domain":               {now(func(s *winSession) { s.domain = "FABRIKAM" }), "another user"},
		"nobody":                       {now(func(s *winSession) { s.user = "" }), "nobody"},
		"gone":                         {func(f *fakeHost) { f.remove(3) }, "not there"},
		"gone after it was opened":     {now(func(s *winSession) { s.code = 0xC00A0015 }), "not there"},
		"query denied":                 {now(func(s *winSession) { s.code = 0x80070005 }), "access denied"},
		"logoff denied":                {func(f *fakeHost) { f.codes["Logoff"] = 0x80070005 }, "access denied"},
		"logoff denied by fault":       {func(f *fakeHost) { f.faults["Logoff"] = 5 }, "access denied"},
		"busy":                         {func(f *fakeHost) { f.codes["Logoff"] = 0x80071B70 }, "busy"},
		"a code nobody knows":          {func(f *fakeHost) { f.codes["Logoff"] = 0x8000FFFF }, "0x8000FFFF"},
		"connected again, legacy":      {func(f *fakeHost) { oldHost(f); f.find(3).state = 0 }, "connected again"},
		"connected in between, legacy": {func(f *fakeHost) { oldHost(f); f.find(3).disconnect += second }, "connected in between"},
		"gone, legacy":                 {func(f *fakeHost) { oldHost(f); f.remove(3) }, "not there"},
		"denied, legacy":               {func(f *fakeHost) { oldHost(f); f.codes["Reset"] = 0xC0000022 }, "access denied"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newHost(t, c.host)
			f.onLogoff = func(*fakeHost, int32) { t.Error("it was logged off") }
			err := f.driver(t).Evict(within(t), host, victim())
			var refused *sessions.RefusedError
			if !errors.As(err, &refused) || !strings.Contains(refused.Why, c.want) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// Some descriptions are refused without a word to the host.
func TestEvictUntouchable(t *testing.T) {
	d := newHost(t).driver(t, func(c *Config) {
		c.Password = func() (string, error) { t.Error("it connects"); return "", nil }
	})
	for name, edit := range map[string]func(*sessions.Session){
		"services":                 func(s *sessions.Session) { s.ID = 0 },
		"listener":                 func(s *sessions.Session) { s.ID = 65536 },
		"negative":                 func(s *sessions.Session) { s.ID = -1 },
		"active":                   func(s *sessions.Session) { s.State = sessions.StateActive },
		"unknown state":            func(s *sessions.Session) { s.State = sessions.StateUnknown },
		"nobody":                   func(s *sessions.Session) { s.Account = sessions.Account{} },
		"no incarnation":           func(s *sessions.Session) { s.Incarnation = "" },
		"no logon time":            func(s *sessions.Session) { s.LogonAt = time.Time{} },
		"disconnected since never": func(s *sessions.Session) { s.DisconnectedAt = time.Time{} },
	} {
		v := victim()
		edit(&v)
		var refused *sessions.RefusedError
		if err := d.Evict(within(t), host, v); !errors.As(err, &refused) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestEvictStuck(t *testing.T) {
	f := newHost(t, func(f *fakeHost) {
		f.onLogoff = func(f *fakeHost, id int32) {
			f.change(func(f *fakeHost) { s := f.find(id); s.state, s.user, s.logon = 8, "", 0 })
		}
	})
	ctx, cancel := context.WithCancel(within(t))
	go func() {
		waitFor(t, func() bool { return f.count("GetSessionInformationEx") > 10 })
		cancel()
	}()
	var stuck *sessions.StuckError
	if err := f.driver(t).Evict(ctx, host, victim()); !errors.As(err, &stuck) || stuck.State != sessions.StateDown {
		t.Errorf("got %v", err)
	}
	if f.count("Logoff") != 1 {
		t.Error("told more than once")
	}
}

// A host that does not answer the logoff is looked at on a new connection.
func TestEvictWithoutAnswer(t *testing.T) {
	f := newHost(t, func(f *fakeHost) { f.hang["Logoff"] = true })
	d := f.driver(t, func(c *Config) { c.Timeout = 200 * time.Millisecond })
	go func() {
		waitFor(t, func() bool { return f.count("Logoff") > 0 })
		f.change(func(f *fakeHost) { f.remove(3) })
	}()
	if err := d.Evict(within(t), host, victim()); err != nil {
		t.Error(err)
	}
}

// After a connection that broke nobody knows whether the host heard the logoff.
func TestEvictUnknownOutcome(t *testing.T) {
	f := newHost(t)
	f.onLogoff = func(f *fakeHost, _ int32) { f.Drop() }
	err := f.driver(t).Evict(within(t), host, victim())
	var refused *sessions.RefusedError
	var stuck *sessions.StuckError
	if err == nil || errors.As(err, &refused) || errors.As(err, &stuck) {
		t.Errorf("got %v", err)
	}
}

// A host that dies after the logoff and returns is looked at again.
func TestEvictHostReturns(t *testing.T) {
	f := newHost(t)
	dropped := false
	f.onLogoff = func(f *fakeHost, id int32) {
		f.change(func(f *fakeHost) { f.remove(id); f.hang["OpenEnum"] = true })
	}
	d := f.driver(t, func(c *Config) { c.Timeout = 100 * time.Millisecond })
	go func() {
		waitFor(t, func() bool { return f.count("OpenEnum") > 1 })
		f.change(func(f *fakeHost) { delete(f.hang, "OpenEnum"); dropped = true })
	}()
	err := d.Evict(within(t), host, victim())
	f.change(func(f *fakeHost) {
		if err != nil || !dropped {
			t.Errorf("got %v", err)
		}
	})
}

// Who is refused the listing does not learn that the victim has gone.
func TestEvictUnprivilegedIsNotGone(t *testing.T) {
	f := newHost(t)
	f.onLogoff = func(f *fakeHost, _ int32) { f.change(func(f *fakeHost) { f.sessions = nil }) }
	ctx, cancel := context.WithCancel(within(t))
	go func() {
		waitFor(t, func() bool { return f.count("GetEnumResult") > 3 })
		cancel()
	}()
	if err := f.driver(t).Evict(ctx, host, victim()); err == nil || !strings.Contains(err.Error(), "not known") {
		t.Errorf("got %v", err)
	}
}
