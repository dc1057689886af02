package placement_test

import (
	"flag"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/rdpbroker/rdpbroker/broker/placement"
	"github.com/rdpbroker/rdpbroker/sessions"
)

// Decisions are cheap and the space is large: draw more than rapid's hundred.
func TestMain(m *testing.M) {
	if err := flag.Set("rapid.checks", "2000"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

// Every decision is the one that the oracle comes to: never over Slots, a victim
// always Disconnected and never protected, one's own session first, and no slot,
// session or victim overlooked.
func TestDecideFollowsTheOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := someSituation(t)
		d := s.decide()
		fail := func(what string) {
			t.Helper()
			t.Fatalf("%s: %s (%s)\n%s", what, summary(d), d.Reason, s)
		}

		own, taken := s.own(sessions.StateDisconnected), s.own(sessions.StateActive)
		if !s.policy.TakeOverActive {
			taken = nil
		}
		kept := s.keptOut(own)
		out := func(x victim) bool { return slices.Contains(kept, x.host) }
		own, taken = slices.DeleteFunc(own, out), slices.DeleteFunc(taken, out)
		slots, victims := s.hostsWithSlot(), s.victims()
		if !s.mayEvict() {
			victims = nil
		}
		mine := func(x victim) bool { return d.Own != nil && *d.Own == sessions.RefOf(x.host, x.s) && d.Host == x.host }

		if s.id.Host != "" && s.host(s.id.Host) != nil && s.reachable(s.id.Host) {
			there := func(x victim) bool { return x.host == s.id.Host }
			switch {
			case slices.ContainsFunc(own, there):
				own = slices.DeleteFunc(own, func(x victim) bool { return !there(x) })
			case slices.ContainsFunc(taken, there):
				own, taken = nil, slices.DeleteFunc(taken, func(x victim) bool { return !there(x) })
			case slices.Contains(slots, s.id.Host):
				own, taken, kept, slots = nil, nil, nil, []string{s.id.Host}
			}
		}

		switch {
		case len(s.hosts) == 0:
			if d.Kind != placement.Refuse {
				fail("a farm without hosts")
			}
		case len(own) > 0:
			if d.Kind != placement.Reconnect || !slices.ContainsFunc(own, mine) {
				fail("there is an own disconnected session")
			}
			i := slices.IndexFunc(own, mine)
			if slices.ContainsFunc(own, func(x victim) bool { return x.age < own[i].age }) {
				fail("not the most recently disconnected one")
			}
		case len(taken) > 0:
			if d.Kind != placement.TakeOver || !slices.ContainsFunc(taken, mine) {
				fail("there is an own active session")
			}
		case len(kept) > 0:
			if d.Kind != placement.WaitForSlot {
				fail("the host of an own disconnected session is full")
			}
		case len(slots) > 0:
			if d.Kind != placement.Place || !slices.Contains(slots, d.Host) {
				fail("there is a free slot")
			}
		case len(victims) > 0 && s.policy.Eviction.Mode == placement.Evict:
			if d.Kind != placement.MakeRoom || d.Would != nil {
				fail("there is a victim")
			}
			checkVictim(t, s, d, *d.Victim, victims)
			if d.NeedsProof != (s.policy.Eviction.Proof == placement.Credentials && s.view.Unproven == "") {
				fail("the wrong proof")
			}
			if d.Host != d.Victim.Host {
				fail("the slot is not where the victim is")
			}
		case len(victims) > 0 && s.policy.Eviction.Mode == placement.Shadow:
			if d.Kind != placement.WaitForSlot || d.Would == nil {
				fail("there would be a victim")
			}
			checkVictim(t, s, d, *d.Would, victims)
			if d.NeedsProof != (s.policy.Eviction.Proof == placement.Credentials && s.view.Unproven == "") {
				fail("the wrong proof in shadow mode")
			}
		default:
			if d.Kind != placement.WaitForSlot || d.Would != nil {
				fail("there is nothing to give")
			}
		}
	})
}

// checkVictim checks that v is the stalest of victims, the first by name and ID.
func checkVictim(t *rapid.T, s situation, d placement.Decision, v placement.Victim, victims []victim) {
	t.Helper()
	slices.SortFunc(victims, func(a, b victim) int {
		switch {
		case a.age != b.age:
			return int(b.age/time.Second) - int(a.age/time.Second)
		case a.host != b.host:
			return map[bool]int{true: -1, false: 1}[a.host < b.host]
		}
		return a.s.ID - b.s.ID
	})
	if want := sessions.RefOf(victims[0].host, victims[0].s); v.Ref() != want || v.DisconnectedFor != victims[0].age {
		t.Fatalf("the stalest is %s (%s): %s, %s\n%s", want, victims[0].age, summary(d), v.DisconnectedFor, s)
	}
}

// classWords stand in the reasons of a class.
var classWords = map[placement.Class]string{
	placement.ClassOwn: "session", placement.ClassToken: "token", placement.ClassPinned: "pinned", placement.ClassFreeSlot: "free slot",
	placement.ClassVictim: "stalest", placement.ClassEvictionOff: "eviction is off", placement.ClassShadow: "shadow mode",
	placement.ClassClientCeiling: "this client address", placement.ClassUnproven: "does not ask for a password",
	placement.ClassCaller: "nobody is logged off for this caller", placement.ClassNoVictim: "no session may be logged off",
	placement.ClassHostCeiling: "no session may be logged off", placement.ClassOwnHostFull: "the caller's own session is on",
	placement.ClassNoHost: "has no host", placement.ClassHours: "outside the hours", placement.ClassFarmCeiling: "within the hour, the ceiling",
}

// What is said of a decision agrees with it.
func TestDecisionsAreWellFormed(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := someSituation(t)
		d := s.decide()
		chosen := 0
		seen := map[string]bool{}
		for _, c := range d.Candidates {
			seen[c.Host] = true
			if c.Why == "" || c.As == "" {
				t.Fatalf("nothing is said of %+v", c)
			}
			if c.Chosen {
				chosen++
				if c.Host != d.Host {
					t.Fatalf("%s is chosen, not %s\n%s", c.Host, d.Host, s)
				}
			}
		}
		going := d.Kind == placement.Reconnect || d.Kind == placement.TakeOver || d.Kind == placement.Place || d.Kind == placement.MakeRoom
		if (d.Host != "") != going || (chosen == 1) != going || chosen > 1 {
			t.Fatalf("%s with %d chosen: %+v\n%s", summary(d), chosen, d.Candidates, s)
		}
		if d.NeedsProof && d.Victim == nil && d.Would == nil {
			t.Fatalf("proof for nothing: %+v", d)
		}
		if !slices.Contains(d.Kind.Classes(), d.Class) || (d.Class == placement.ClassShadow) != (d.Would != nil) {
			t.Fatalf("a decision to %s of class %q\n%s", d.Kind, d.Class, s)
		}
		if word := classWords[d.Class]; word == "" || !strings.Contains(d.Reason, word) {
			t.Fatalf("of class %q: %s", d.Class, d.Reason)
		}
		if d.Reason == "" || (d.Victim != nil) != (d.Kind == placement.MakeRoom) || (d.Own != nil) != (d.Kind == placement.Reconnect || d.Kind == placement.TakeOver) {
			t.Fatalf("%+v", d)
		}
		if d.Kind == placement.WaitForSlot {
			for _, h := range s.hosts {
				if !seen[h.Host.Name] {
					t.Fatalf("%s is not accounted for\n%s", h.Host.Name, s)
				}
			}
		}
	})
}

// The same input gives the same output, in whatever order it comes.
func TestDecideIsDeterministic(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := someSituation(t)
		want := s.decide()
		if got := s.decide(); !reflect.DeepEqual(got, want) {
			t.Fatalf("first %+v\nthen %+v\n%s", want, got, s)
		}
		s.view.Brief = true
		if got := s.decide(); len(got.Candidates) != 0 || summary(got) != summary(want) {
			t.Fatalf("%s\nin brief %s\n%s", summary(want), summary(got), s)
		}
		s.view.Brief = false
		s.hosts = rapid.Permutation(s.hosts).Draw(t, "hosts in another order")
		s.claims = rapid.Permutation(s.claims).Draw(t, "claims in another order")
		if got := s.decide(); !reflect.DeepEqual(got, want) {
			t.Fatalf("%+v\nin another order %+v\n%s", want, got, s)
		}
		// The order of a reading changes the order of what is told, not the choice.
		for i := range s.hosts {
			if r := s.hosts[i].Report; r != nil {
				shuffled := *r
				shuffled.Sessions = rapid.Permutation(r.Sessions).Draw(t, "sessions in another order")
				s.hosts[i].Report = &shuffled
			}
		}
		if got := s.decide(); summary(got) != summary(want) {
			t.Fatalf("%s\nin another order %s\n%s", summary(want), summary(got), s)
		}
	})
}

// What happens on another farm changes nothing.
func TestOtherFarmsDoNotMatter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := someSituation(t)
		want := s.decide()
		other := someHost(t, "m")
		other.Host.Farm = "school"
		s.hosts = append(s.hosts, other)
		if got := s.decide(); !reflect.DeepEqual(got, want) {
			t.Fatalf("%+v\nwith another farm's host %+v\n%s", want, got, s)
		}
	})
}

// Losing sight of a host never makes it attractive: it is stale, not empty.
func TestStaleIsNeverEmpty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := someSituation(t)
		if len(s.hosts) == 0 {
			t.Skip("no host to lose sight of")
		}
		h := &s.hosts[rapid.IntRange(0, len(s.hosts)-1).Draw(t, "lost host")]
		if h.Report != nil {
			r := *h.Report
			r.ReadAt = now.Add(-h.FreshFor - time.Nanosecond)
			r.HostTime = now // so that ages stay as they were
			h.Report = &r
		}
		if d := s.decide(); d.Host == h.Host.Name && (d.Kind == placement.Place || d.Kind == placement.MakeRoom) {
			t.Fatalf("%s: %s\n%s", summary(d), d.Reason, s)
		}
	})
}

// Shadow mode says what evict mode does, and evict mode does nothing else.
func TestShadowAgreesWithEvict(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := someSituation(t)
		s.policy.Eviction.Mode = placement.Evict
		evict := s.decide()
		s.policy.Eviction.Mode = placement.Shadow
		shadow := s.decide()
		s.policy.Eviction.Mode = placement.Off
		off := s.decide()
		if evict.Kind != placement.MakeRoom {
			if summary(shadow) != summary(evict) || summary(off) != summary(evict) {
				t.Fatalf("evict: %s, shadow: %s, off: %s\n%s", summary(evict), summary(shadow), summary(off), s)
			}
			return
		}
		if shadow.Kind != placement.WaitForSlot || shadow.Would == nil || shadow.Would.Ref() != evict.Victim.Ref() {
			t.Fatalf("evict: %s, shadow: %s\n%s", summary(evict), summary(shadow), s)
		}
		if off.Kind != placement.WaitForSlot || off.Would != nil {
			t.Fatalf("off: %s\n%s", summary(off), s)
		}
	})
}

// A victim's logoff is enough: once it is gone and the caller's promise stands,
// the host is not over its limit, and the next caller is not promised that slot.
func TestAVictimMakesExactlyOneSlot(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := someSituation(t)
		d := s.decide()
		if d.Kind != placement.MakeRoom && d.Kind != placement.Place {
			t.Skip("no new slot is promised")
		}
		c := placement.Claim{Host: d.Host}
		if d.Victim != nil {
			ref := d.Victim.Ref()
			c.Victim = &ref
		}
		s.claims = append(s.claims, c)
		h := s.host(d.Host)
		inUse := func() int {
			v := s.view
			v.Snapshot, v.Claims = sessions.NewSnapshot(s.hosts), placement.NewClaims(s.claims...)
			return placement.Used(v, v.Snapshot.Host(d.Host))
		}
		if before := inUse(); before > limitOf(h) || before != s.used(h) {
			t.Fatalf("%s: %d of %d in use once it is promised, by the oracle %d\n%s", summary(d), before, limitOf(h), s.used(h), s)
		}
		if d.Victim == nil {
			return
		}
		before := inUse()
		r := *h.Report
		r.Sessions = slices.DeleteFunc(slices.Clone(r.Sessions), func(x sessions.Session) bool { return x.ID == d.Victim.Session.ID })
		h.Report = &r
		if after := inUse(); after != before {
			t.Fatalf("%s: %d in use before the victim is gone, %d after\n%s", summary(d), before, after, s)
		}
	})
}

// Decide is total: zero values, missing reports, farms that are not there,
// numbers that make no sense. It never panics and always gives a reason.
func TestDecideNeverPanics(t *testing.T) {
	anyTime := rapid.Custom(func(t *rapid.T) time.Time {
		if rapid.Bool().Draw(t, "zero") {
			return time.Time{}
		}
		return time.Unix(rapid.Int64Range(-1<<40, 1<<40).Draw(t, "unix"), 0)
	})
	rapid.Check(t, func(t *rapid.T) {
		s := someSituation(t)
		for i := range s.hosts {
			h := &s.hosts[i]
			h.Host.Slots = rapid.Int().Draw(t, "slots")
			h.Host.Weight = rapid.Int().Draw(t, "weight")
			h.FreshFor = time.Duration(rapid.Int64().Draw(t, "fresh for"))
			h.Host.Name = rapid.SampledFrom([]string{h.Host.Name, "", "a"}).Draw(t, "name")
			if h.Report != nil {
				h.Report.ReadAt, h.Report.HostTime = anyTime.Draw(t, "read at"), anyTime.Draw(t, "host time")
				h.Report.Limit = rapid.Int().Draw(t, "limit")
				for j := range h.Report.Sessions {
					x := &h.Report.Sessions[j]
					x.ID = rapid.IntRange(-2, 2).Draw(t, "id")
					x.DisconnectedAt = anyTime.Draw(t, "disconnected at")
				}
			}
		}
		s.view.Now = anyTime.Draw(t, "now")
		s.view.Farm = rapid.SampledFrom([]string{farm, "", "elsewhere"}).Draw(t, "farm")
		s.id.Confidence = sessions.Confidence(rapid.Uint8().Draw(t, "confidence"))
		s.id.Accounts = append(s.id.Accounts, sessions.Account{})
		s.policy.Balance = placement.Balance(rapid.Uint8().Draw(t, "balance"))
		s.policy.Eviction.Mode = placement.Mode(rapid.Uint8().Draw(t, "mode"))
		s.policy.Eviction.Proof = placement.Proof(rapid.Uint8().Draw(t, "proof"))
		s.policy.Eviction.MinDisconnected = time.Duration(rapid.Int64().Draw(t, "min disconnected"))

		d := s.decide()
		if d.Reason == "" || d.Kind < placement.Reconnect || d.Kind > placement.Refuse {
			t.Fatalf("%+v", d)
		}
		v := s.view
		whole := v
		whole.Snapshot = sessions.NewSnapshot(s.hosts)
		placement.Headroom(whole, s.policy)
		placement.DisconnectIdle(whole, s.policy)
		for _, c := range placement.Look(whole, s.id, s.policy) {
			if c.Chosen || c.Why == "" {
				t.Fatalf("looked at %+v", c)
			}
		}
		v.Snapshot = nil
		if d := placement.Decide(v, s.id, s.policy); d.Kind != placement.Refuse {
			t.Fatalf("without a snapshot: %+v", d)
		}
		// One that was not made by NewSnapshot need not be sorted; still no panic.
		v.Snapshot = &sessions.Snapshot{Hosts: s.hosts}
		placement.Decide(v, s.id, s.policy)
	})
}
