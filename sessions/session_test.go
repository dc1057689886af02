package sessions_test

import (
	"encoding/json"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/rdpbroker/rdpbroker/sessions"
)

var t0 = time.Date(2026, 3, 2, 9, 0, 0, 0, time.UTC)

func TestStateTextRoundTrip(t *testing.T) {
	for s := sessions.StateUnknown; s <= sessions.StateInit; s++ {
		b, err := s.MarshalText()
		if err != nil {
			t.Fatal(err)
		}
		back := sessions.StateActive
		if err := back.UnmarshalText(b); err != nil || back != s {
			t.Errorf("%s came back as %s, %v", s, back, err)
		}
	}
	if got := sessions.State(200).String(); got != "State(200)" {
		t.Errorf("a state that does not exist is called %q", got)
	}
}

// A word that we do not know must never become a state that allows an eviction,
// whatever the variable held before.
func TestUnknownStateTextIsUnknown(t *testing.T) {
	for _, text := range []string{"", "Disc", "disconnected", "DISCONNECTED", "Getr.", "Disconnected ", "State(5)", "5"} {
		s := sessions.StateDisconnected
		if err := s.UnmarshalText([]byte(text)); err != nil || s != sessions.StateUnknown {
			t.Errorf("%q became %s, %v", text, s, err)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.String().Draw(t, "text")
		s := sessions.StateDisconnected
		if err := s.UnmarshalText([]byte(text)); err != nil {
			t.Fatal(err)
		}
		if (s == sessions.StateDisconnected) != (text == "Disconnected") {
			t.Fatalf("%q became %s", text, s)
		}
	})
}

func TestHasUser(t *testing.T) {
	alice := sessions.Account{User: "alice"}
	for _, c := range []struct {
		name string
		s    sessions.Session
		want bool
	}{
		{"somebody's desktop", sessions.Session{ID: 3, Account: alice, State: sessions.StateActive}, true},
		{"somebody's, disconnected", sessions.Session{ID: 3, Account: alice, State: sessions.StateDisconnected}, true},
		{"a state word that is not known", sessions.Session{ID: 3, Account: alice}, true},
		{"nobody's", sessions.Session{ID: 3, State: sessions.StateDisconnected}, false},
		{"services", sessions.Session{Name: "services", Account: alice, State: sessions.StateDisconnected}, false},
		{"Services, as WTSEnumerateSessions spells it", sessions.Session{Name: "Services", Account: alice, State: sessions.StateDisconnected}, false},
		{"listener", sessions.Session{ID: 65536, Account: alice, State: sessions.StateListen}, false},
	} {
		if got := c.s.HasUser(); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

func TestSameIncarnation(t *testing.T) {
	base := sessions.Session{ID: 4, Account: sessions.Account{Domain: "CONTOSO", User: "alice"}, State: sessions.StateDisconnected, LogonAt: t0, DisconnectedAt: t0.Add(time.Hour), Incarnation: "x"}
	with := func(change func(*sessions.Session)) sessions.Session {
		s := base
		change(&s)
		return s
	}
	for _, c := range []struct {
		name string
		s    sessions.Session
		want bool
	}{
		{"itself", base, true},
		{"in another time zone", with(func(s *sessions.Session) { s.LogonAt = t0.In(time.FixedZone("", 3600)) }), true},
		{"in another case", with(func(s *sessions.Session) { s.Account.User = "ALICE" }), true},
		{"reconnected", with(func(s *sessions.Session) { s.State, s.DisconnectedAt = sessions.StateActive, time.Time{} }), true},
		{"another ID", with(func(s *sessions.Session) { s.ID = 5 }), false},
		{"another user", with(func(s *sessions.Session) { s.Account.User = "bob" }), false},
		{"a domain that was not known before", with(func(s *sessions.Session) { s.Account.Domain = "" }), false},
		{"a later logon", with(func(s *sessions.Session) { s.LogonAt = t0.Add(time.Second) }), false},
		{"another incarnation", with(func(s *sessions.Session) { s.Incarnation = "y" }), false},
	} {
		if got := base.SameIncarnation(c.s); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
		if got := c.s.SameIncarnation(base); got != c.want {
			t.Errorf("%s: %v (it must be symmetric)", c.name, got)
		}
	}
}

// References are map keys: two readings of one session must give equal ones,
// even if one has passed through JSON or carries a monotonic clock.
func TestRefOfIsAKey(t *testing.T) {
	now := time.Now()
	s := sessions.Session{ID: 7, LogonAt: now, Incarnation: "a"}
	want := sessions.RefOf("ts1", s)

	b, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	var back sessions.Session
	if err := json.Unmarshal(b, &back); err != nil {
		t.Fatal(err)
	}
	if got := sessions.RefOf("ts1", back); got != want {
		t.Errorf("through JSON: %+v, want %+v", got, want)
	}
	s.LogonAt = now.In(time.FixedZone("elsewhere", -7200))
	if got := sessions.RefOf("ts1", s); got != want {
		t.Errorf("in another zone: %+v, want %+v", got, want)
	}
	s.LogonAt = now.Add(1)
	if sessions.RefOf("ts1", s) == want {
		t.Error("a later logon with the same ID has the same reference")
	}
	if want.String() != "ts1/7" {
		t.Errorf("for people: %q", want.String())
	}
}

func TestDisconnectedFor(t *testing.T) {
	disc := func(at time.Time) sessions.Session {
		return sessions.Session{ID: 1, State: sessions.StateDisconnected, DisconnectedAt: at}
	}
	hostClock := t0.Add(-3 * time.Hour) // a host whose clock is three hours behind
	for _, c := range []struct {
		name   string
		report sessions.Report
		s      sessions.Session
		now    time.Time
		want   time.Duration
		ok     bool
	}{
		{"by our clock", sessions.Report{ReadAt: t0}, disc(t0.Add(-time.Hour)), t0, time.Hour, true},
		{"and since the reading", sessions.Report{ReadAt: t0}, disc(t0.Add(-time.Hour)), t0.Add(time.Minute), 61 * time.Minute, true},
		{"by the host's clock", sessions.Report{ReadAt: t0, HostTime: hostClock}, disc(hostClock.Add(-time.Hour)), t0.Add(time.Minute), 61 * time.Minute, true},
		{"our clock went back", sessions.Report{ReadAt: t0}, disc(t0.Add(-time.Hour)), t0.Add(-time.Minute), time.Hour, true},
		{"at the very moment", sessions.Report{ReadAt: t0}, disc(t0), t0, 0, true},
		{"in the host's future", sessions.Report{ReadAt: t0, HostTime: hostClock}, disc(t0), t0, 0, false},
		{"not known since when", sessions.Report{ReadAt: t0}, disc(time.Time{}), t0, 0, false},
		{"active, with the time of an earlier disconnect", sessions.Report{ReadAt: t0}, sessions.Session{State: sessions.StateActive, DisconnectedAt: t0.Add(-time.Hour)}, t0, 0, false},
		{"a state that is not known", sessions.Report{ReadAt: t0}, sessions.Session{DisconnectedAt: t0.Add(-time.Hour)}, t0, 0, false},
	} {
		got, ok := c.report.DisconnectedFor(c.s, c.now)
		if got != c.want || ok != c.ok {
			t.Errorf("%s: %s, %v; want %s, %v", c.name, got, ok, c.want, c.ok)
		}
	}
}

// Whatever clocks say, a duration is not negative: it would pass for the most
// recent disconnect of all.
func TestDisconnectedForIsNeverNegative(t *testing.T) {
	moment := rapid.Custom(func(t *rapid.T) time.Time {
		if rapid.Bool().Draw(t, "zero") {
			return time.Time{}
		}
		return time.Unix(rapid.Int64Range(-20_000_000_000, 20_000_000_000).Draw(t, "unix"), 0)
	})
	rapid.Check(t, func(t *rapid.T) {
		r := sessions.Report{ReadAt: moment.Draw(t, "read at"), HostTime: moment.Draw(t, "host time")}
		s := sessions.Session{State: sessions.StateDisconnected, DisconnectedAt: moment.Draw(t, "disconnected at")}
		if d, ok := r.DisconnectedFor(s, moment.Draw(t, "now")); d < 0 || !ok && d != 0 {
			t.Fatalf("%s, %v", d, ok)
		}
	})
}
