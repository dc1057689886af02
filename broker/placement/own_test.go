package placement_test

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/rdpbroker/rdpbroker/broker/placement"
	"github.com/rdpbroker/rdpbroker/sessions"
)

// Whoever is known less than by name never loses a session that could be their own:
// one whose account they could stand for, or that was last used from where they
// are. Whoever is not known by anything that they said loses none either of which
// nobody can tell from where it was used, unless they are trusted.
func TestNobodyLosesWhatCouldBeTheirOwn(t *testing.T) {
	evicted, all := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		all++
		s := someSituation(t)
		// Nothing else shall stand in the way.
		s.policy.Eviction = placement.Eviction{Mode: placement.Evict, Proof: s.policy.Eviction.Proof}
		s.view = placement.View{Farm: farm, Now: now, Unproven: s.view.Unproven}
		s.claims = nil
		for i := range s.hosts {
			h := &s.hosts[i]
			h.Host.Draining, h.Host.CountDisconnected = false, sessions.Yes
			if h.Report == nil {
				continue
			}
			h.Report.ReadAt, h.Report.Draining, h.Report.NoEvict = now, false, ""
			for j := range h.Report.Sessions {
				x := &h.Report.Sessions[j]
				x.Name, x.State, x.DisconnectedAt = "", sessions.StateDisconnected, now.Add(-hour)
			}
		}
		s.fill()
		d := s.decide()
		if d.Victim == nil {
			return
		}
		evicted++
		v := d.Victim.Session
		for _, mine := range s.id.Accounts {
			if sameUser(mine, v.Account) {
				t.Fatalf("%s could be %s\n%s", mine, v.Account, s)
			}
		}
		if s.id.Confidence >= sessions.ConfidenceName {
			return
		}
		from := v.ClientAddr.Unmap()
		if s.id.Client.IsValid() && from == s.id.Client.Unmap() {
			t.Fatalf("%s was last used from the caller's address\n%s", summary(d), s)
		}
		if s.id.Confidence < sessions.ConfidencePrefix && !s.id.Trusted && !from.IsValid() {
			t.Fatalf("%s could be anybody's\n%s", summary(d), s)
		}
	})
	if evicted*20 < all {
		t.Errorf("only %d evictions were looked at, of %d decisions", evicted, all)
	}
}
