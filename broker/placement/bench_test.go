package placement_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/rdpbroker/rdpbroker/broker/placement"
	"github.com/rdpbroker/rdpbroker/sessions"
)

// thousand is a farm of 1,000 hosts with 50 sessions each, every second one
// disconnected, and with some claims on each tenth host.
func thousand(limit int) placement.View {
	hosts := make([]sessions.HostState, 1000)
	claims := &placement.Claims{}
	for i := range hosts {
		var ss []sessions.Session
		for id := range 50 {
			s := active(id+2, fmt.Sprintf(`CONTOSO\user%05d`, i*50+id))
			if id%2 == 0 {
				s = disc(id+2, s.Account.String(), time.Duration(i*50+id)*time.Second)
			}
			ss = append(ss, s)
		}
		hosts[i] = host(fmt.Sprintf("ts%04d", i), limit, ss...)
		for n := range 3 {
			if i%10 == 0 {
				claims.Add(placement.Claim{Host: hosts[i].Host.Name, Account: sessions.Account{User: fmt.Sprintf("new%d", i*3+n)}})
			}
		}
	}
	v := view(hosts...)
	v.Claims, v.Brief = claims, true
	return v
}

// common are the decisions that nearly every logon gets.
var common = []struct {
	name   string
	caller sessions.Identity
	policy placement.Policy
	kind   placement.Kind
}{
	{"own session", named(`CONTOSO\user33334`), evicting(), placement.Reconnect},
	{"own session by a bare name", named("User33334"), evicting(), placement.Reconnect},
	{"own active session", named(`CONTOSO\user33335`), evicting(), placement.TakeOver},
	{"free slot", named(`CONTOSO\zoe`), evicting(), placement.Place},
	{"free slot, weighted", named(`CONTOSO\zoe`), changed(evicting(), func(p *placement.Policy) { p.Balance = placement.Weighted }), placement.Place},
	{"free slot, fill-first", named(`CONTOSO\zoe`), changed(evicting(), func(p *placement.Policy) { p.Balance = placement.FillFirst }), placement.Place},
	{"free slot for nobody", nobody(), evicting(), placement.Place},
}

// The decisions that nearly every logon gets allocate nothing, however large the farm.
func TestCommonDecisionsAllocateNothing(t *testing.T) {
	v := thousand(60)
	for _, c := range common {
		if d := placement.Decide(v, c.caller, c.policy); d.Kind != c.kind {
			t.Errorf("%s: %s", c.name, summary(d))
		}
		if n := testing.AllocsPerRun(100, func() { placement.Decide(v, c.caller, c.policy) }); n != 0 {
			t.Errorf("%s: %v allocations", c.name, n)
		}
	}
}

func BenchmarkDecide(b *testing.B) {
	v := thousand(60)
	full := thousand(50)
	for _, c := range common {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				placement.Decide(v, c.caller, c.policy)
			}
		})
	}
	b.Run("victim", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			placement.Decide(full, named(`CONTOSO\zoe`), evicting())
		}
	})
	v.Brief, v.Few = false, true
	b.Run("free slot, told in few words", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			placement.Decide(v, named(`CONTOSO\zoe`), evicting())
		}
	})
	v.Few = false
	b.Run("free slot, every host explained", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			placement.Decide(v, named(`CONTOSO\zoe`), evicting())
		}
	})
}

// In brief it is the same choice, on farms of many hosts that are nearly alike.
func TestBriefIsTheSameChoice(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := someSituation(t)
		s.hosts = nil
		for i := range rapid.IntRange(1, 12).Draw(t, "hosts") {
			h := someHost(t, string(rune('a'+i)))
			if h.Report != nil {
				h.Report.Limit += rapid.IntRange(0, 4).Draw(t, "more")
			}
			s.hosts = append(s.hosts, h)
		}
		for range rapid.IntRange(0, 12).Draw(t, "claims") {
			s.claims = append(s.claims, placement.Claim{Host: string(rune('a' + rapid.IntRange(0, 12).Draw(t, "on")))})
		}
		want := s.decide()
		s.view.Brief = true
		if got := s.decide(); summary(got) != summary(want) {
			t.Fatalf("%s\nin brief %s\n%s", summary(want), summary(got), s)
		}
		// In few words it is told in the same way, and of those who wait everything.
		s.view.Brief, s.view.Few = false, true
		got := s.decide()
		if summary(got) != summary(want) || got.Reason != want.Reason || got.Class != want.Class {
			t.Fatalf("%s (%s)\nin few words %s (%s)\n%s", summary(want), want.Reason, summary(got), got.Reason, s)
		}
		if got.Host != "" && !slices.ContainsFunc(got.Candidates, func(c placement.Candidate) bool { return c.Chosen && c.Host == got.Host }) {
			t.Fatalf("%s is not among %+v\n%s", got.Host, got.Candidates, s)
		}
	})
}

// Whatever is added to claims and taken out again leaves nothing behind, whether slots are
// counted from the beginning, from some time on, as of another reading, or not at all.
func TestClaimsAreWhatWasAdded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, other := someSituation(t), someSituation(t)
		want := s.decide()
		v := s.view
		v.CannotEvict = func(host string) string { return s.cannot[host] }
		v.Snapshot, v.Claims = sessions.NewSnapshot(s.hosts), placement.NewClaims(other.claims...)
		maybeCount := func() {
			switch rapid.IntRange(0, 5).Draw(t, "count") {
			case 0:
				v.Claims.Count(v.Snapshot)
			case 1:
				v.Claims.Count(sessions.NewSnapshot(other.hosts))
			case 2:
				if len(s.hosts) > 0 { // most hosts are the same as before
					h := s.hosts[0]
					h.Report = nil
					next, _ := v.Snapshot.With(h)
					v.Claims.Count(next)
				}
			}
		}
		maybeCount()
		for _, c := range s.claims {
			v.Claims.Add(c)
			maybeCount()
		}
		for _, c := range rapid.Permutation(other.claims).Draw(t, "in another order") {
			v.Claims.Remove(c)
			maybeCount()
		}
		v.Claims.Count(v.Snapshot)
		if got := placement.Decide(v, s.id, s.policy); summary(got) != summary(want) {
			t.Fatalf("%s, not %s\n%s", summary(got), summary(want), s)
		}
		for _, h := range v.Snapshot.Hosts {
			naive := placement.View{Snapshot: v.Snapshot, Claims: placement.NewClaims(s.claims...)}
			if got, want := placement.Used(v, &h), placement.Used(naive, &h); got != want {
				t.Fatalf("%d of %s's slots are held, not %d\n%s", got, h.Host.Name, want, s)
			}
		}
	})
}

// A decision costs the same however many claims there are on each host.
func BenchmarkDecideAmongClaims(b *testing.B) {
	v := thousand(1000)
	v.Claims = &placement.Claims{}
	for i := range 100_000 {
		ref := v.Snapshot.Ref(i%1000, i/1000%50)
		v.Claims.Add(placement.Claim{Host: ref.Host, Own: ref})
	}
	for _, counted := range []bool{false, true} {
		b.Run(fmt.Sprintf("counted %v", counted), func(b *testing.B) {
			if counted {
				v.Claims.Count(v.Snapshot)
			}
			for b.Loop() {
				placement.Decide(v, named(`CONTOSO\zoe`), evicting())
			}
		})
	}
}
