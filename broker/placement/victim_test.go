package placement_test

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rdpbroker/rdpbroker/broker/placement"
	"github.com/rdpbroker/rdpbroker/sessions"
)

// One session, one host without a free slot, one caller: is it given up, and if
// not, why?
func TestVictimSpared(t *testing.T) {
	old := disc(1, `CONTOSO\old`, 9*hour) // would be given up
	change := func(f func(*sessions.Session)) sessions.Session {
		s := old
		f(&s)
		return s
	}
	mapped := netip.AddrFrom16(client.As16())
	ref := sessions.RefOf("a", old)

	for _, c := range []struct {
		name   string
		s      sessions.Session
		id     sessions.Identity
		policy func(*placement.Policy)
		view   func(*placement.View)
		want   string // "" if it is the victim, else what the reason says
	}{
		{name: "nothing speaks for it", s: old},

		// its state
		{name: "active", s: withState(old, sessions.StateActive), want: "not disconnected: Active"},
		{name: "state not known", s: withState(old, sessions.StateUnknown), want: "not disconnected: Unknown"},
		{name: "down", s: withState(old, sessions.StateDown), want: "not disconnected: Down"},
		{name: "connected", s: withState(old, sessions.StateConnected), want: "not disconnected: Connected"},
		{name: "idle", s: withState(old, sessions.StateIdle), want: "not disconnected: Idle"},
		{name: "reset", s: withState(old, sessions.StateReset), want: "not disconnected: Reset"},
		{name: "shadow", s: withState(old, sessions.StateShadow), want: "not disconnected: Shadow"},

		// the console
		{name: "the console by name", s: change(func(s *sessions.Session) { s.Name = "Console" }), want: "the console"},
		{name: "the console by ID", s: change(func(s *sessions.Session) { s.ID = 0 }), want: "the console"},
		{name: "an ID that is none", s: change(func(s *sessions.Session) { s.ID = -1 }), want: "the console"},

		// its owner may be the caller
		{name: "a prefix could be its owner's", s: old, id: trusted(prefix(`CONTOSO\old`, `CONTOSO\older`)), want: "may be the caller's own"},
		{name: "its domain is not known", s: change(func(s *sessions.Session) { s.Account.Domain = "" }), id: trusted(prefix(`CONTOSO\old`, `CONTOSO\older`)), want: "may be the caller's own"},
		{name: "from the caller's address", s: change(func(s *sessions.Session) { s.ClientAddr = client }), id: trusted(prefix()), want: "from the caller's address"},
		{name: "from the caller's address, written as IPv6", s: change(func(s *sessions.Session) { s.ClientAddr = mapped }), id: trusted(nobody()), want: "from the caller's address"},
		{name: "from the caller's address, but the caller is known by name", s: change(func(s *sessions.Session) { s.ClientAddr = client })},
		{name: "from another address", s: change(func(s *sessions.Session) { s.ClientAddr = client.Next() }), id: trusted(prefix())},
		{name: "nobody's address is not everybody's", s: old, id: trusted(sessions.Identity{})},

		// protection
		{name: "protected by user", s: old, policy: protect("old"), want: "protected by old"},
		{name: "protected by glob", s: old, policy: protect("x*", "o?d"), want: "protected by o?d"},
		{name: "protected in another case", s: old, policy: protect(`contoso\OLD`), want: "protected"},
		{name: "protected with its domain", s: change(func(s *sessions.Session) { s.Account.User = "svc-backup" }), policy: protect(`CONTOSO\svc-*`), want: `protected by CONTOSO\svc-*`},
		{name: "protected, and the host does not tell the domain", s: change(func(s *sessions.Session) { s.Account = sessions.Account{User: "svc-backup"} }), policy: protect(`CONTOSO\svc-*`), want: `protected by CONTOSO\svc-*`},
		{name: "protected in another domain only", s: change(func(s *sessions.Session) { s.Account.User = "svc-backup" }), policy: protect(`FABRIKAM\svc-*`)},
		{name: "somebody else is protected", s: old, policy: protect("older", `CONTOSO\ol`, "")},
		{name: "runs a protected program", s: change(func(s *sessions.Session) { s.Processes = []string{"explorer.exe", "SETUP.EXE"} }), policy: protectProcess("robocopy*", "setup.exe"), want: "protected by setup.exe"},
		{name: "its programs were not read", s: old, policy: protectProcess("setup.exe"), want: "processes are not known"},
		{name: "runs no program", s: change(func(s *sessions.Session) { s.Processes = []string{} }), policy: protectProcess("setup.exe")},
		{name: "runs others", s: change(func(s *sessions.Session) { s.Processes = []string{"explorer.exe"} }), policy: protectProcess("setup.exe")},
		{name: "pinned there", s: old, policy: pinned("old", "a"), want: "pinned"},
		{name: "pinned elsewhere", s: old, policy: pinned("old", "b")},

		// what is going on with it
		{name: "told to go", s: old, view: func(v *placement.View) { v.Leaving = map[sessions.Ref]bool{ref: true} }, want: "already being logged off"},
		{name: "somebody else's victim", s: old, view: claims(placement.Claim{Host: "a", Victim: &ref}), want: "already being logged off"},
		{name: "somebody else's victim, who has arrived", s: old, view: claims(placement.Claim{Host: "a", Victim: &ref, Confirmed: true}), want: "already being logged off"},
		{name: "untouchable", s: old, view: func(v *placement.View) { v.Untouchable = map[sessions.Ref]string{ref: "kept by an operator"} }, want: "kept by an operator"},
		{name: "its user is coming back to it", s: old, view: claims(placement.Claim{Host: "a", Own: &ref}), want: "on the way back"},
		{name: "its user is on the way somewhere", s: old, view: claims(placement.Claim{Host: "b", Account: sessions.Account{User: "OLD"}}), want: "on the way back"},
		{name: "its user has arrived elsewhere", s: old, view: claims(placement.Claim{Host: "b", Account: sessions.Account{User: "OLD"}, Confirmed: true})},
		{name: "somebody unknown is on the way", s: old, view: claims(placement.Claim{Host: "b"})},

		// since when
		{name: "not known since when", s: with0(old), want: "not known since when"},
		{name: "in the host's future", s: change(func(s *sessions.Session) { s.DisconnectedAt = now.Add(time.Second) }), want: "not known since when"},
		{name: "a second too short", s: disc(1, `CONTOSO\old`, hour-time.Second), want: "less than 1h00m"},
		{name: "just long enough", s: disc(1, `CONTOSO\old`, hour)},
		{name: "longer for some", s: disc(1, `CONTOSO\old`, 8*hour-time.Second), policy: graces("o*", 8*hour), want: "less than 8h00m"},
		{name: "longer for some, long enough", s: disc(1, `CONTOSO\old`, 8*hour), policy: graces("o*", 8*hour)},
		{name: "longer for others", s: old, policy: graces("x*", 48*hour)},
		{name: "the longest that applies", s: old, policy: graces("*", 2*hour, "old", 10*hour, `CONTOSO\*`, 3*hour), want: "less than 10h00m"},
		{name: "a shorter one changes nothing", s: disc(1, `CONTOSO\old`, 59*time.Minute), policy: graces("old", time.Minute), want: "less than 1h00m"},

		// what its user has asked for
		{name: "marked", s: marked(old, hour), policy: honour(24 * hour), want: "marked it to be kept for another 1h00m"},
		{name: "marked, and the time is over", s: marked(old, 0), policy: honour(24 * hour)},
		{name: "marked, but that does not count", s: marked(old, hour), policy: func(p *placement.Policy) { p.Eviction.KeepMarkMax = 24 * hour }},
		{name: "marked, but for too long already", s: marked(old, hour), policy: honour(9 * hour)},
		{name: "marked, without a bound", s: marked(old, hour), policy: honour(0), want: "marked"},
	} {
		t.Run(c.name, func(t *testing.T) {
			id, policy := c.id, evicting()
			if id.Said == "" && !id.Trusted {
				id = named(`CONTOSO\alice`)
			}
			if c.policy != nil {
				c.policy(&policy)
			}
			// One slot, so that a session of any state fills the host.
			v := view(host("a", 1, c.s))
			if c.s.State == sessions.StateIdle { // holds no slot
				v = view(host("a", 1, c.s, active(9, "zoe")))
			}
			if c.view != nil {
				c.view(&v)
			}
			d := placement.Decide(v, id, policy)
			if c.want == "" {
				if d.Kind != placement.MakeRoom || d.Victim.Ref() != sessions.RefOf("a", c.s) || d.Host != "a" {
					t.Errorf("got %s, it should be the victim", summary(d))
					explain(t, d)
				}
				return
			}
			if d.Kind != placement.WaitForSlot {
				t.Errorf("got %s, it should be spared", summary(d))
			}
			if got := why(d, "victim", "a", c.s.ID); !strings.Contains(got, c.want) {
				t.Errorf("spared because %q, want %q", got, c.want)
				explain(t, d)
			}
		})
	}
}

func protect(globs ...string) func(*placement.Policy) {
	return func(p *placement.Policy) { p.Eviction.Protect = globs }
}

func protectProcess(globs ...string) func(*placement.Policy) {
	return func(p *placement.Policy) { p.Eviction.ProtectProcesses = globs }
}

func pinned(account, host string) func(*placement.Policy) {
	return func(p *placement.Policy) {
		p.Pins = []placement.Pin{{Account: sessions.ParseAccount(account), Host: host}}
	}
}

// graces are patterns and times.
func graces(pairs ...any) func(*placement.Policy) {
	return func(p *placement.Policy) {
		for i := 0; i < len(pairs); i += 2 {
			p.Eviction.MinDisconnectedFor = append(p.Eviction.MinDisconnectedFor, placement.Grace{Pattern: pairs[i].(string), For: pairs[i+1].(time.Duration)})
		}
	}
}

func marked(s sessions.Session, left time.Duration) sessions.Session {
	s.KeepUntil = now.Add(left)
	return s
}

func honour(most time.Duration) func(*placement.Policy) {
	return func(p *placement.Policy) { p.Eviction.HonourKeepMark, p.Eviction.KeepMarkMax = true, most }
}

func claims(cs ...placement.Claim) func(*placement.View) {
	return func(v *placement.View) { v.Claims = placement.NewClaims(cs...) }
}

// Sessions that nobody holds are not even looked at.
func TestWhoIsNoCandidate(t *testing.T) {
	ss := []sessions.Session{
		{ID: 0, Name: "services", State: sessions.StateDisconnected, DisconnectedAt: now.Add(-99 * hour)},
		{ID: 1, State: sessions.StateDisconnected, DisconnectedAt: now.Add(-99 * hour)},
		{ID: 65536, Name: "rdp-tcp", State: sessions.StateListen, Account: sessions.Account{User: "x"}, DisconnectedAt: now.Add(-99 * hour)},
		{ID: 2, State: sessions.StateDown},
	}
	d := placement.Decide(view(host("a", 1, ss...)), named("alice"), evicting())
	if d.Kind != placement.WaitForSlot {
		t.Fatalf("got %s", summary(d))
	}
	for _, c := range d.Candidates {
		if c.As == "victim" && c.Session != 0 {
			t.Errorf("looked at %+v", c)
		}
	}
}

// May this caller have somebody logged off?
func TestWhoMayEvict(t *testing.T) {
	v := view(host("a", 1, disc(1, "old", 9*hour)))
	stranger := named("alice")
	stranger.Known = false
	for _, c := range []struct {
		name   string
		id     sessions.Identity
		policy func(*placement.Policy)
		since  int // evictions that the client address set off within the hour
		want   string
	}{
		{name: "by name", id: named("alice")},
		{name: "by token", id: at(sessions.ConfidenceToken, named("alice"))},
		{name: "by a prefix that fits one account", id: prefix("administrator")},
		{name: "by a prefix that fits two", id: prefix("administrator", `CONTOSO\administratrix`), want: `could be administrator, CONTOSO\administratrix`},
		{name: "by a prefix that fits many", id: prefix("a1", "a2", "a3", "a4", "a5"), want: "a1, a2, a3, 2 more"},
		{name: "by a prefix that fits nobody", id: prefix(), want: "not known who is coming"},
		{name: "by address", id: at(sessions.ConfidenceAddress, named("alice")), want: "only guessed from the client address"},
		{name: "without anything", id: nobody(), want: "not known who is coming"},
		{name: "an account, but no confidence", id: at(sessions.ConfidenceNone, named("alice")), want: "not known who is coming"},
		{name: "a name that nobody has", id: stranger, want: "not a known account"},
		{name: "from a trusted client: by address", id: trusted(at(sessions.ConfidenceAddress, named("alice")))},
		{name: "from a trusted client: by nothing", id: trusted(nobody())},
		{name: "from a trusted client: a name that nobody has", id: trusted(stranger)},
		{name: "from a trusted client: a prefix that fits two", id: trusted(prefix("administrator", "administratrix"))},
		{name: "off", id: named("alice"), policy: func(p *placement.Policy) { p.Eviction.Mode = placement.Off }, want: "eviction is off"},
		{name: "off, for trusted clients too", id: trusted(named("alice")), policy: func(p *placement.Policy) { p.Eviction.Mode = placement.Off }, want: "eviction is off"},
		{name: "the zero policy", id: named("alice"), policy: func(p *placement.Policy) { *p = placement.Policy{} }, want: "eviction is off"},
		{name: "at the client's ceiling", id: named("alice"), policy: func(p *placement.Policy) { p.Eviction.PerClientPerHour = 2 }, since: 2, want: "2 evictions within the hour"},
		{name: "at the client's ceiling, trusted", id: trusted(named("alice")), policy: func(p *placement.Policy) { p.Eviction.PerClientPerHour = 2 }, since: 2, want: "2 evictions within the hour"},
		{name: "below the client's ceiling", id: named("alice"), policy: func(p *placement.Policy) { p.Eviction.PerClientPerHour = 2 }, since: 1},
		{name: "no ceiling", id: named("alice"), since: 1000},
		{name: "outside the hours", id: named("alice"), policy: func(p *placement.Policy) { p.Eviction.Hours = hours(t, "Europe/Berlin", "Mon-Fri 07:00-10:00") }, want: "outside the hours at which somebody may be: Mon-Fri 07:00-10:00 Europe/Berlin"},
		{name: "within the hours", id: named("alice"), policy: func(p *placement.Policy) { p.Eviction.Hours = hours(t, "Europe/Berlin", "Mon-Fri 07:00-10:01") }},
		{name: "at the farm's ceiling", id: named("alice"), policy: func(p *placement.Policy) { p.Eviction.PerFarmPerHour = 5 }, want: "5 evictions in this farm within the hour"},
		{name: "below the farm's ceiling", id: named("alice"), policy: func(p *placement.Policy) { p.Eviction.PerFarmPerHour = 6 }},
		{name: "at the ceiling for all", id: named("alice"), policy: func(p *placement.Policy) { p.Eviction.PerHour = 7 }, want: "7 evictions in all farms within the hour"},
		{name: "below the ceiling for all", id: named("alice"), policy: func(p *placement.Policy) { p.Eviction.PerHour = 8 }},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := evicting()
			if c.policy != nil {
				c.policy(&p)
			}
			v := v
			v.EvictionsByClient, v.EvictionsInFarm, v.EvictionsInAll = c.since, 5, 7
			d := placement.Decide(v, c.id, p)
			if c.want == "" {
				if d.Kind != placement.MakeRoom {
					t.Errorf("got %s: %s", summary(d), d.Reason)
				}
				return
			}
			if d.Kind != placement.WaitForSlot || d.Would != nil || !strings.Contains(d.Reason, c.want) {
				t.Errorf("got %s: %s; want %q", summary(d), d.Reason, c.want)
			}
		})
	}
}

// Does this host give up any of its sessions?
func TestWhichHostGivesUp(t *testing.T) {
	base := host("a", 1, disc(1, "old", 9*hour))
	for _, c := range []struct {
		name   string
		h      sessions.HostState
		policy func(*placement.Policy)
		view   func(*placement.View)
		want   string
	}{
		{name: "a full one", h: base},
		{name: "one that does not tell whether disconnected sessions count", h: with(base, func(h *sessions.HostState) { h.Host.CountDisconnected = sessions.Unknown })},
		{name: "stale", h: stale(base), want: "its reading is"},
		{name: "never read", h: with(base, func(h *sessions.HostState) { h.Report, h.Host.Slots = nil, 1 }), want: "not read yet"},
		{name: "draining", h: with(base, func(h *sessions.HostState) { h.Report.Draining = true }), want: "draining"},
		{name: "cannot be reached", h: base, view: func(v *placement.View) { v.Unreachable = map[string]string{"a": "timeout"} }, want: "cannot be reached: timeout"},
		{name: "its limit is not known", h: with(base, func(h *sessions.HostState) { h.Report.Limit = 0 }), want: "limit is not known"},
		{name: "its reading is not good enough", h: with(base, func(h *sessions.HostState) { h.Report.NoEvict = "text listings only" }), want: "text listings only"},
		{name: "nothing can log anybody off there", h: base, view: cannotEvict(map[string]string{"a": "no driver", "b": "x"}), want: "no driver"},
		{name: "nothing can log anybody off elsewhere", h: base, view: cannotEvict(map[string]string{"b": "no driver"})},
		{name: "disconnected sessions hold no slot", h: with(host("a", 1, disc(1, "old", 9*hour), active(2, "x")), func(h *sessions.HostState) { h.Host.CountDisconnected = sessions.No }), want: "hold no slot there"},
		{name: "over its limit", h: host("a", 1, disc(1, "old", 9*hour), active(2, "x")), want: "over its limit"},
		{name: "over its limit by a promise", h: base, view: claims(placement.Claim{Host: "a"}), want: "over its limit"},
		{name: "at its ceiling", h: base, policy: func(p *placement.Policy) { p.Eviction.PerHostPerHour = 3 }, view: func(v *placement.View) { v.EvictionsByHost = map[string]int{"a": 3} }, want: "3 evictions there within the hour"},
		{name: "below its ceiling", h: base, policy: func(p *placement.Policy) { p.Eviction.PerHostPerHour = 3 }, view: func(v *placement.View) { v.EvictionsByHost = map[string]int{"a": 2, "b": 99} }},
		{name: "no ceiling", h: base, view: func(v *placement.View) { v.EvictionsByHost = map[string]int{"a": 99} }},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := evicting()
			if c.policy != nil {
				c.policy(&p)
			}
			v := view(c.h)
			if c.view != nil {
				c.view(&v)
			}
			d := placement.Decide(v, named("alice"), p)
			if c.want == "" {
				if d.Kind != placement.MakeRoom {
					t.Errorf("got %s: %s", summary(d), d.Reason)
				}
				return
			}
			if got := why(d, "victim", "a", 0); d.Kind != placement.WaitForSlot || !strings.Contains(got, c.want) {
				t.Errorf("got %s because %q, want %q", summary(d), got, c.want)
			}
		})
	}
}

func cannotEvict(why map[string]string) func(*placement.View) {
	return func(v *placement.View) { v.CannotEvict = func(host string) string { return why[host] } }
}

// A slot that a logoff is about to free belongs to whom it is freed for: the
// next one gets another victim, and the one after that waits.
func TestOneVictimPerCaller(t *testing.T) {
	first, second := disc(1, "old", 9*hour), disc(2, "older", 10*hour)
	v := view(host("a", 2, first, second))
	d := placement.Decide(v, named("alice"), evicting())
	if summary(d) != "make-room a victim a/2" {
		t.Fatalf("alice: %s", summary(d))
	}
	ref := d.Victim.Ref()
	v.Claims = placement.NewClaims(placement.Claim{Account: sessions.Account{User: "alice"}, Host: "a", Victim: &ref})
	v.Leaving = map[sessions.Ref]bool{ref: true}
	d = placement.Decide(v, named("bob"), evicting())
	if summary(d) != "make-room a victim a/1" {
		t.Fatalf("bob: %s", summary(d))
	}
	ref2 := d.Victim.Ref()
	v.Claims.Add(placement.Claim{Account: sessions.Account{User: "bob"}, Host: "a", Victim: &ref2})
	v.Leaving[ref2] = true
	if d = placement.Decide(v, named("carol"), evicting()); d.Kind != placement.WaitForSlot {
		t.Fatalf("carol: %s", summary(d))
	}
	// The first victim is gone, alice has not logged on yet: still nothing for carol.
	v.Snapshot = sessions.NewSnapshot([]sessions.HostState{host("a", 2, first)})
	if d = placement.Decide(v, named("carol"), evicting()); d.Kind != placement.WaitForSlot {
		t.Fatalf("carol, after the first logoff: %s", summary(d))
	}
}

func TestShadowSaysWhatItWouldDo(t *testing.T) {
	v := view(host("a", 2, disc(1, "old", 9*hour), disc(2, "older", 10*hour)))
	shadow := changed(evicting(), func(p *placement.Policy) { p.Eviction.Mode = placement.Shadow })
	d := placement.Decide(v, named("alice"), shadow)
	if summary(d) != "wait would a/2" || !strings.Contains(d.Reason, "shadow mode would have logged off older (session 2 on a, disconnected for 10h00m)") {
		t.Errorf("got %s: %s", summary(d), d.Reason)
	}
	if slices.ContainsFunc(d.Candidates, func(c placement.Candidate) bool { return c.Chosen }) {
		t.Error("somebody is marked as chosen")
	}
	if d := placement.Decide(v, nobody(), shadow); d.Would != nil {
		t.Errorf("for somebody who may not evict: %s", summary(d))
	}
}

func TestTheVictimIsMarkedAndDescribed(t *testing.T) {
	d := placement.Decide(view(host("a", 1, disc(4, `CONTOSO\old`, 90*time.Minute))), named("alice"), evicting())
	if d.Victim == nil || d.Victim.DisconnectedFor != 90*time.Minute || d.Victim.Session.Account.User != "old" {
		t.Fatalf("got %s, %+v", summary(d), d.Victim)
	}
	if !strings.Contains(d.Reason, `CONTOSO\old (session 4 on a, disconnected for 1h30m)`) {
		t.Errorf("the reason is %q", d.Reason)
	}
	n := 0
	for _, c := range d.Candidates {
		if c.Chosen {
			n++
			if c.As != "victim" || c.Host != "a" || c.Session != 4 || c.Account != `CONTOSO\old` {
				t.Errorf("chosen: %+v", c)
			}
		}
	}
	if n != 1 {
		t.Errorf("%d candidates are chosen", n)
	}
}
