package placement_test

import (
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/rdpbroker/rdpbroker/broker/placement"
	"github.com/rdpbroker/rdpbroker/sessions"
)

func TestHeadroomIsCounted(t *testing.T) {
	connecting := sessions.Session{ID: 9, Name: "rdp-tcp#9", State: sessions.StateConnected}
	hosts := []sessions.HostState{
		host("a", 3, active(1, "x"), disc(2, "old", 9*hour)), // one free
		host("b", 2, connecting, active(1, "y")),             // somebody who has not logged on counts for nothing: one free
		stale(host("c", 5)),
		host("d", 1, active(1, "z"), active(2, "zz")), // over its limit: none, and not less
	}
	for want, then := range map[int]string{0: "", 2: "", 3: "a/2"} {
		p := evicting()
		p.Eviction.Headroom = want
		v := view(hosts...)
		v.Claims = placement.NewClaims(placement.Claim{Host: "b"}) // a promise counts for nothing either
		d := placement.Headroom(v, p)
		switch {
		case then == "" && (d.Class != placement.ClassEnough || d.Victim != nil || d.Host != "" || d.Reason != "2 slots are free"):
			t.Errorf("%d wanted: %s: %s", want, summary(d), d.Reason)
		case then != "" && (d.Victim == nil || d.Victim.Ref().String() != then || d.Host != "a" || !strings.HasPrefix(d.Reason, "2 slots are free, and 3 are wanted")):
			t.Errorf("%d wanted: %s: %s", want, summary(d), d.Reason)
		}
	}
}

// By the same rules as for a caller: the oracle says who may go for one of whom it
// is known that no session is theirs.
func TestHeadroomFollowsTheRules(t *testing.T) {
	gone := 0
	rapid.Check(t, func(t *rapid.T) {
		s := someSituation(t)
		s.id = sessions.Identity{Trusted: true}
		s.view.Unproven, s.view.EvictionsByClient = "", 0
		s.policy.Eviction.Headroom = rapid.IntRange(0, 6).Draw(t, "headroom")
		free := 0
		for i := range s.hosts {
			h := &s.hosts[i]
			if h.Host.Farm != s.view.Farm || !s.usable(h) {
				continue
			}
			n := limitOf(h)
			for _, x := range h.Report.Sessions {
				if holdsSlot(h, x) && somebodys(x) {
					n--
				}
			}
			free += max(0, n)
		}
		victims := s.victims()
		mode := s.policy.Eviction.Mode
		if !s.mayEvict() || mode == placement.Off || free >= s.policy.Eviction.Headroom {
			victims = nil
		}
		d := placement.Headroom(s.whole(), s.policy)
		if d.Kind != placement.KeepFree || d.Reason == "" || d.NeedsProof || d.Own != nil {
			t.Fatalf("%+v\n%s", d, s)
		}
		got := d.Victim
		if mode == placement.Shadow {
			if got != nil || d.Host != "" {
				t.Fatalf("shadow mode: %+v\n%s", d, s)
			}
			got = d.Would
		}
		if (got != nil) != (len(victims) > 0) {
			t.Fatalf("%s: %s; victims %+v\n%s", summary(d), d.Reason, victims, s)
		}
		if got != nil {
			gone++
			checkVictim(t, s, d, *got, victims)
		}
	})
	if gone == 0 {
		t.Error("nobody ever had to go")
	}
}
