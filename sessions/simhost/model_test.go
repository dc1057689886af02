package simhost

import (
	"errors"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/rdpbroker/rdpbroker/sessions"
	"pgregory.net/rapid"
)

// manualClock is a clock that moves when it is told to.
type manualClock struct{ now time.Time }

func newClock() *manualClock {
	return &manualClock{now: time.Date(2026, 3, 2, 9, 0, 0, 0, time.UTC)}
}
func (c *manualClock) Now() time.Time          { return c.now }
func (c *manualClock) advance(d time.Duration) { c.now = c.now.Add(d) }

func user(name string) sessions.Account { return sessions.Account{Domain: "CONTOSO", User: name} }

var somewhere = netip.MustParseAddr("192.0.2.7")

func logon(t *testing.T, m *Model, name string) *Attachment {
	t.Helper()
	a, err := m.Logon(user(name), "PC-"+name, somewhere, "")
	if err != nil {
		t.Fatalf("logon of %s: %v", name, err)
	}
	return a
}

func refusal(t *testing.T, m *Model, name string) *LogonError {
	t.Helper()
	a, err := m.Logon(user(name), "PC", somewhere, "")
	var refused *LogonError
	if !errors.As(err, &refused) {
		t.Fatalf("logon of %s: attachment %+v, error %v; want a refusal", name, a, err)
	}
	return refused
}

func byID(t *testing.T, m *Model, id int) sessions.Session {
	t.Helper()
	for _, s := range m.Sessions() {
		if s.ID == id {
			return s
		}
	}
	t.Fatalf("no session %d in %+v", id, m.Sessions())
	return sessions.Session{}
}

func has(m *Model, id int) bool {
	for _, s := range m.Sessions() {
		if s.ID == id {
			return true
		}
	}
	return false
}

func TestAnEmptyHostShowsServicesConsoleAndListener(t *testing.T) {
	m := NewModel(Options{}, newClock().Now, nil)
	got := m.Sessions()
	if len(got) != 3 || got[0].Name != "services" || got[0].ID != 0 || got[1].Name != "console" ||
		got[1].State != sessions.StateConnected || got[2].ID != 65536 || got[2].State != sessions.StateListen {
		t.Errorf("sessions are %+v", got)
	}
	if m.Used() != 0 {
		t.Errorf("%d slots used", m.Used())
	}
}

func TestTheLimitAndWhatItCounts(t *testing.T) {
	for _, c := range []struct {
		name              string
		countDisconnected bool
		refused           string // what carol gets to read; "" if she gets in
	}{
		{"2003 counts disconnected sessions", true, TextFull2003},
		{"2008 does not", false, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := NewModel(Options{Slots: 2, CountDisconnected: c.countDisconnected}, newClock().Now, nil)
			logon(t, m, "alice")
			logon(t, m, "bob").Disconnect()
			if c.refused != "" {
				if got := refusal(t, m, "carol"); got.Text != c.refused || got.Reason != ReasonFull {
					t.Errorf("refused with %+v", got)
				}
				if a := logon(t, m, "bob"); a.Kind != AttachedReconnected {
					t.Errorf("bob came back as %s", a.Kind)
				}
				return
			}
			logon(t, m, "carol")
			// Two are active now: bob's session does not help him back in.
			if got := refusal(t, m, "bob"); got.Text != TextFull2008 {
				t.Errorf("bob was refused with %+v", got)
			}
		})
	}
}

func TestReconnectTakesTheUsersOwnSession(t *testing.T) {
	clock := newClock()
	m := NewModel(Options{}, clock.Now, nil)
	first := logon(t, m, "alice")
	logonAt := first.Session.LogonAt
	clock.advance(time.Hour)
	first.Disconnect()
	s := byID(t, m, first.Session.ID)
	if s.State != sessions.StateDisconnected || s.Name != "" || !s.DisconnectedAt.Equal(clock.now) {
		t.Errorf("after the disconnect: %+v", s)
	}
	clock.advance(time.Hour)
	again, err := m.Logon(sessions.Account{Domain: "contoso", User: "ALICE"}, "PC2", somewhere, "")
	if err != nil || again.Kind != AttachedReconnected || again.Session.ID != first.Session.ID || !again.Session.LogonAt.Equal(logonAt) {
		t.Fatalf("reconnect gave %+v, %v", again, err)
	}
	first.Disconnect() // an ended attachment has no power
	if s := byID(t, m, first.Session.ID); s.State != sessions.StateActive {
		t.Errorf("the first client's second Disconnect hit the second client: %+v", s)
	}
}

func TestASecondClientTakesTheSessionOver(t *testing.T) {
	m := NewModel(Options{Slots: 1, CountDisconnected: true}, newClock().Now, nil)
	first, second := logon(t, m, "alice"), logon(t, m, "alice")
	if second.Kind != AttachedTookOver || second.Session.ID != first.Session.ID {
		t.Errorf("the second client got %+v", second)
	}
	select {
	case <-first.Done():
	default:
		t.Fatal("the first client was not told")
	}
	if first.Cause() != CauseTakeover || second.Cause() != "" {
		t.Errorf("causes %q and %q", first.Cause(), second.Cause())
	}
}

func TestManySessionsPerUser(t *testing.T) {
	m := NewModel(Options{ManySessionsPerUser: true}, newClock().Now, nil)
	a, b := logon(t, m, "alice"), logon(t, m, "alice")
	if a.Session.ID == b.Session.ID || b.Kind != AttachedNew {
		t.Fatalf("second logon gave %+v", b)
	}
	a.Disconnect()
	if c := logon(t, m, "alice"); c.Session.ID != a.Session.ID {
		t.Errorf("with one disconnected session, alice got %d and not %d", c.Session.ID, a.Session.ID)
	}
}

func TestAnotherInitialProgramIsAnotherSession(t *testing.T) {
	m := NewModel(Options{}, newClock().Now, nil)
	desktop := logon(t, m, "alice")
	desktop.Disconnect()
	app, err := m.Logon(user("alice"), "PC", somewhere, `C:\erp.exe`)
	if err != nil || app.Kind != AttachedNew || app.Session.ID == desktop.Session.ID {
		t.Errorf("got %+v, %v", app, err)
	}
}

func TestIDsAreReusedAndTheConsoleMoves(t *testing.T) {
	m := NewModel(Options{}, newClock().Now, nil)
	a := logon(t, m, "alice") // 2: the console has 1
	logon(t, m, "bob")
	a.Logoff()
	if has(m, a.Session.ID) {
		t.Fatal("alice's session is still there")
	}
	if c := logon(t, m, "carol"); c.Session.ID != a.Session.ID {
		t.Errorf("carol got ID %d, not the free %d", c.Session.ID, a.Session.ID)
	}
	if err := m.Seed(Seed{Account: user("admin"), State: sessions.StateActive, Console: true}); err != nil {
		t.Fatal(err)
	}
	before := byID(t, m, 1)
	if before.Name != "console" || before.Account.User != "admin" {
		t.Fatalf("session 1 is %+v", before)
	}
	if err := m.Disconnect(1); err != nil {
		t.Fatal(err)
	}
	for _, s := range m.Sessions() {
		if s.Name == "console" && (s.ID == 1 || s.HasUser()) {
			t.Errorf("the new console is %+v", s)
		}
	}
}

func TestDrainAndDisabledLogons(t *testing.T) {
	m := NewModel(Options{}, newClock().Now, nil)
	logon(t, m, "alice").Disconnect()
	for _, drain := range []Drain{DrainUntilRestart, DrainOn} {
		m.Configure(func(o *Options) { o.Drain = drain })
		if got := refusal(t, m, "bob"); got.Reason != ReasonDraining {
			t.Errorf("drain %d: %+v", drain, got)
		}
		logon(t, m, "alice").Disconnect()
	}
	m.Configure(func(o *Options) { o.Drain, o.LogonsDisabled = DrainUntilRestart, true })
	if got := refusal(t, m, "alice"); got.Reason != ReasonDisabled {
		t.Errorf("disabled: %+v", got)
	}
	m.Configure(func(o *Options) { o.LogonsDisabled = false })
	m.Reboot()
	if a := logon(t, m, "bob"); a.Session.ID != 2 {
		t.Errorf("after the restart bob has %+v", a.Session)
	}
}

func TestLogoff(t *testing.T) {
	for _, c := range []struct {
		name    string
		plan    LogoffPlan
		code    int // of the error, 0 for none
		waiting sessions.State
		goneIn  time.Duration // negative: never
	}{
		{"at once", LogoffPlan{}, 0, 0, 0},
		{"slowly", LogoffPlan{Takes: time.Minute}, 0, sessions.StateDown, time.Minute},
		{"slowly, looking disconnected", LogoffPlan{Takes: time.Minute, Shows: sessions.StateDisconnected}, 0, sessions.StateDisconnected, time.Minute},
		{"stuck", LogoffPlan{Sticks: true}, 0, sessions.StateDown, -1},
		{"refused", LogoffPlan{Refused: true}, 7045, sessions.StateDisconnected, -1},
	} {
		t.Run(c.name, func(t *testing.T) {
			clock := newClock()
			m := NewModel(Options{Slots: 1, CountDisconnected: true}, clock.Now, nil)
			if err := m.Seed(Seed{Account: user("bob"), ID: 5, DisconnectedAgo: 48 * time.Hour, Logoff: &c.plan}); err != nil {
				t.Fatal(err)
			}
			err := m.Logoff(5)
			var win *WinError
			if c.code != 0 != errors.As(err, &win) || (win != nil && win.Code != c.code) {
				t.Fatalf("Logoff: %v, want code %d", err, c.code)
			}
			if c.goneIn != 0 {
				if s := byID(t, m, 5); s.State != c.waiting {
					t.Errorf("while it goes: %+v", s)
				}
				if m.Used() != 1 {
					t.Errorf("%d slots used while it goes", m.Used())
				}
				if got := refusal(t, m, "carol"); got.Reason != ReasonFull {
					t.Errorf("carol: %+v", got)
				}
			}
			clock.advance(max(c.goneIn, 0))
			if c.goneIn < 0 {
				clock.advance(24 * time.Hour)
				if !has(m, 5) {
					t.Error("it went")
				}
				return
			}
			a := logon(t, m, "carol")
			if a.Room == nil || a.Room.Account != user("bob") || a.Room.DisconnectedFor != 48*time.Hour {
				t.Errorf("carol was not told that room was made: %+v", a.Room)
			}
		})
	}
}

func TestLogoffOfWhatIsNoSession(t *testing.T) {
	m := NewModel(Options{}, newClock().Now, nil)
	for id, code := range map[int]int{0: 5, 1: 5, ListenerID: 5, 99: 7022} {
		var win *WinError
		if err := m.Logoff(id); !errors.As(err, &win) || win.Code != code {
			t.Errorf("Logoff(%d): %v, want code %d", id, err, code)
		}
	}
	if len(m.Sessions()) != 3 {
		t.Errorf("something went: %+v", m.Sessions())
	}
}

func TestAUserWhoseSessionIsGoingMustWait(t *testing.T) {
	clock := newClock()
	m := NewModel(Options{Logoff: LogoffPlan{Takes: time.Minute}}, clock.Now, nil)
	a := logon(t, m, "alice")
	a.Logoff()
	if got := refusal(t, m, "alice"); got.Reason != ReasonBusy || got.Text != TextBusy {
		t.Errorf("%+v", got)
	}
	logon(t, m, "bob")
	clock.advance(time.Minute)
	if b := logon(t, m, "alice"); b.Kind != AttachedNew {
		t.Errorf("%+v", b)
	}
}

func TestRoomIsOnlyWhatWasNeeded(t *testing.T) {
	m := NewModel(Options{Slots: 3, CountDisconnected: true}, newClock().Now, nil)
	for _, n := range []string{"a", "b"} {
		logon(t, m, n).Disconnect()
	}
	if err := m.Logoff(2); err != nil { // a's, while a slot is free anyway
		t.Fatal(err)
	}
	if x := logon(t, m, "c"); x.Room != nil {
		t.Errorf("c did not need the room: %+v", x.Room)
	}
	if x := logon(t, m, "d"); x.Room == nil { // without the logoff a, b, c would have filled the host
		t.Error("d got in only because a was logged off, and is not told")
	}
	logon(t, m, "b").Logoff()
	if x := logon(t, m, "e"); x.Room != nil {
		t.Errorf("b left by itself: %+v", x.Room)
	}
}

func TestALogoffThatFreesNoSlotMakesNoRoom(t *testing.T) {
	m := NewModel(Options{Slots: 1}, newClock().Now, nil) // 2008: who is disconnected holds none
	if err := m.Seed(Seed{Account: user("bob"), ID: 4}); err != nil {
		t.Fatal(err)
	}
	if err := m.Logoff(4); err != nil {
		t.Fatal(err)
	}
	if a := logon(t, m, "alice"); a.Room != nil {
		t.Errorf("alice is told of %+v", a.Room)
	}
}

func TestTheHostLogsOldSessionsOff(t *testing.T) {
	clock := newClock()
	var gone []Event
	m := NewModel(Options{MaxDisconnection: time.Hour, ClockSkew: -3 * time.Hour}, clock.Now, func(e Event) {
		if e.Kind == EventGone {
			gone = append(gone, e)
		}
	})
	logon(t, m, "alice").Disconnect()
	stays := logon(t, m, "bob")
	clock.advance(59 * time.Minute)
	if m.Tick(); len(gone) != 0 {
		t.Fatalf("too early: %+v", gone)
	}
	clock.advance(time.Minute)
	if m.Tick(); len(gone) != 1 || gone[0].Session.Account.User != "alice" || gone[0].Cause != CausePolicy {
		t.Fatalf("gone: %+v", gone)
	}
	if !has(m, stays.Session.ID) {
		t.Error("an active session was logged off")
	}
}

func TestTimesAreInTheHostsOwnClock(t *testing.T) {
	clock := newClock()
	m := NewModel(Options{ClockSkew: 90 * time.Minute}, clock.Now, nil)
	a := logon(t, m, "alice")
	if want := clock.now.Add(90 * time.Minute); !a.Session.LogonAt.Equal(want) || !m.HostTime().Equal(want) {
		t.Errorf("logon at %v, host time %v, want %v", a.Session.LogonAt, m.HostTime(), want)
	}
}

func TestHiddenSessionsAreLeftOutSilently(t *testing.T) {
	m := NewModel(Options{}, newClock().Now, nil)
	if err := m.Seed(Seed{Account: user("boss"), Hidden: true}, Seed{Account: user("alice")}); err != nil {
		t.Fatal(err)
	}
	if all, seen := len(m.Sessions()), len(m.VisibleSessions()); seen != all-1 {
		t.Errorf("%d of %d sessions are visible", seen, all)
	}
}

func TestSeedRefusesWhatCannotBe(t *testing.T) {
	m := NewModel(Options{}, newClock().Now, nil)
	for _, bad := range []Seed{
		{Account: user("x"), ID: ListenerID},
		{Account: user("x"), ID: -1},
	} {
		if err := m.Seed(bad); err == nil {
			t.Errorf("seeded %+v", bad)
		}
	}
	if err := m.Seed(Seed{Account: user("a"), ID: 4}, Seed{Account: user("b"), ID: 4}); err == nil {
		t.Error("seeded ID 4 twice")
	}
	if err := m.Seed(Seed{Account: user("c"), ID: 1}); err != nil { // the console gives way
		t.Errorf("seed with the console's ID: %v", err)
	}
	if s := byID(t, m, 1); s.Account.User != "c" || s.Name == "console" {
		t.Errorf("session 1 is %+v", s)
	}
}

// Whatever changes what is read, by itself or by anybody, is a new version.
func TestChangesAreNewVersions(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		clock := newClock()
		m := NewModel(Options{Logoff: LogoffPlan{Takes: time.Minute}, MaxDisconnection: 10 * time.Minute}, clock.Now, nil)
		var attached []*Attachment
		client := func(t *rapid.T) *Attachment {
			if len(attached) == 0 {
				t.Skip("nobody")
			}
			return rapid.SampledFrom(attached).Draw(t, "client")
		}
		names, ids := rapid.SampledFrom([]string{"alice", "bob", "carol"}), rapid.IntRange(0, 5)
		old, _ := m.readSince(0, false)
		t.Repeat(map[string]func(*rapid.T){
			"logon": func(t *rapid.T) {
				if a, err := m.Logon(user(names.Draw(t, "who")), "PC", somewhere, ""); err == nil {
					attached = append(attached, a)
				}
			},
			"seed": func(t *rapid.T) {
				id := ids.Draw(t, "id")
				_ = m.Seed(Seed{Account: user("dave"), ID: id, Console: id == 0})
			},
			"disconnect": func(t *rapid.T) { client(t).Disconnect() },
			"logoff":     func(t *rapid.T) { client(t).Logoff() },
			"input":      func(t *rapid.T) { client(t).Input() },
			"managed": func(t *rapid.T) {
				id := ids.Draw(t, "id")
				_ = rapid.SampledFrom([]func(int) error{m.Logoff, m.Disconnect, m.Touch, m.Unkeep,
					func(id int) error { return m.Keep(id, "8h") },
					func(id int) error { return m.Run(id, 1, "a.exe") },
					func(id int) error { return m.SetState(id, sessions.StateDown) }}).Draw(t, "act")(id)
			},
			"configure": func(t *rapid.T) {
				slots := rapid.IntRange(0, 3).Draw(t, "slots")
				m.Configure(func(o *Options) { o.Slots, o.ClockSkew = slots, time.Duration(slots)*time.Minute })
			},
			"reboot": func(*rapid.T) { m.Reboot() },
			"time":   func(t *rapid.T) { clock.advance(time.Duration(rapid.IntRange(0, 200).Draw(t, "s")) * time.Second) },
			"": func(t *rapid.T) {
				r, _ := m.readSince(old.version, false)
				now, _ := m.readSince(0, false)
				if r != nil {
					old = r
				}
				inputs := func(r *reading) (all []time.Time) {
					for _, s := range r.sessions {
						all = append(all, s.LastInputAt)
					}
					return all
				}
				if old.hash() != now.hash() || !slices.Equal(inputs(old), inputs(now)) {
					t.Fatalf("read as unchanged:\n%+v\nis\n%+v", old.sessions, now.sessions)
				}
			},
		})
	})
}

// TestModelProperties drives the model with random logons, disconnects and
// logoffs, and checks what must hold after every step.
func TestModelProperties(t *testing.T) {
	names := []string{"alice", "bob", "carol", "dave"}
	rapid.Check(t, func(t *rapid.T) {
		clock := newClock()
		opt := Options{
			Slots:               rapid.IntRange(0, 3).Draw(t, "slots"),
			CountDisconnected:   rapid.Bool().Draw(t, "count"),
			ManySessionsPerUser: rapid.Bool().Draw(t, "many"),
			Logoff:              LogoffPlan{Takes: time.Duration(rapid.IntRange(0, 3).Draw(t, "takes")) * time.Minute},
		}
		if rapid.Bool().Draw(t, "policy") {
			opt.MaxDisconnection = 10 * time.Minute
		}
		m := NewModel(opt, clock.Now, nil)
		var attached []*Attachment
		any := rapid.SampledFrom(names)
		t.Repeat(map[string]func(*rapid.T){
			"logon": func(t *rapid.T) {
				a, err := m.Logon(user(any.Draw(t, "who")), "PC", somewhere, "")
				var refused *LogonError
				if err != nil && !errors.As(err, &refused) {
					t.Fatalf("logon: %v", err)
				}
				if err == nil {
					attached = append(attached, a)
				}
			},
			"client": func(t *rapid.T) {
				if len(attached) == 0 {
					t.Skip("nobody")
				}
				a := attached[rapid.IntRange(0, len(attached)-1).Draw(t, "client")]
				if rapid.Bool().Draw(t, "logoff") {
					a.Logoff()
				} else {
					a.Disconnect()
				}
				select {
				case <-a.Done():
				default:
					t.Fatal("an attachment survived its end")
				}
			},
			"manage": func(t *rapid.T) { _ = m.Logoff(rapid.IntRange(0, 8).Draw(t, "id")) },
			"time":   func(t *rapid.T) { clock.advance(time.Duration(rapid.IntRange(1, 5).Draw(t, "m")) * time.Minute) },
			"": func(t *rapid.T) {
				list := m.Sessions()
				if opt.Slots > 0 && m.Used() > opt.Slots {
					t.Fatalf("%d of %d slots are used: %+v", m.Used(), opt.Slots, list)
				}
				consoles, active := 0, map[string]int{}
				for i, s := range list {
					if i > 0 && s.ID <= list[i-1].ID {
						t.Fatalf("IDs do not ascend: %+v", list)
					}
					if s.Name == "console" {
						consoles++
					}
					if s.HasUser() {
						active[s.Account.User]++
					}
				}
				if consoles != 1 {
					t.Fatalf("%d consoles: %+v", consoles, list)
				}
				for who, n := range active {
					if n > 1 && !opt.ManySessionsPerUser {
						t.Fatalf("%s has %d sessions: %+v", who, n, list)
					}
				}
				open := map[int]int{}
				for _, a := range attached {
					select {
					case <-a.Done():
					default:
						open[a.Session.ID]++
					}
				}
				for _, s := range list {
					want := 0
					if s.State == sessions.StateActive && s.Name != "console" {
						want = 1
					}
					if open[s.ID] != want {
						t.Fatalf("session %+v has %d clients", s, open[s.ID])
					}
				}
			},
		})
	})
}
