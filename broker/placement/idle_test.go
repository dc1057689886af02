package placement_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/rdpbroker/rdpbroker/broker/placement"
	"github.com/rdpbroker/rdpbroker/sessions"
)

// Who is disconnected for want of input: only an active session, of somebody who is
// not protected, pinned, kept or marked, of all such the one without input for
// longest, and only on a farm without enough free slots.
func TestDisconnectIdleFollowsTheRules(t *testing.T) {
	gone, all := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		all++
		s := someSituation(t)
		s.id = sessions.Identity{Trusted: true}
		s.view.Unproven, s.view.EvictionsByClient = "", 0
		e := &s.policy.Eviction
		e.IdleActive = rapid.SampledFrom([]time.Duration{hour, 20 * time.Minute, 20 * time.Minute, 0}).Draw(t, "idle")
		e.Headroom = rapid.SampledFrom([]int{0, 0, 3}).Draw(t, "headroom")
		if chance(t, 6, "cannot disconnect") {
			s.view.CannotDisconnect = map[string]string{"a": "no agent"}
		}
		for _, h := range s.hosts { // most are there, and the farm is full
			if h.Report == nil {
				continue
			}
			for j := range h.Report.Sessions {
				if x := &h.Report.Sessions[j]; x.State == sessions.StateDisconnected && !chance(t, 4, "away") {
					x.State, x.LastInputAt = sessions.StateActive, x.DisconnectedAt
				}
			}
		}
		s.fill()
		free := 0
		var idle []victim
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
				ref, age := sessions.RefOf(h.Host.Name, x), now.Sub(x.LastInputAt)
				switch {
				case x.State != sessions.StateActive, !somebodys(x), x.ID <= 0, strings.EqualFold(x.Name, "console"):
				case s.view.CannotDisconnect[h.Host.Name] != "", s.protected(x), s.view.Untouchable[ref] != "", s.isLeaving(ref):
				case slices.ContainsFunc(s.policy.Pins, func(p placement.Pin) bool { return p.Host == h.Host.Name && sameUser(p.Account, x.Account) }):
				case slices.ContainsFunc(s.claims, func(c placement.Claim) bool {
					return c.Own != nil && *c.Own == ref || !c.Confirmed && sameUser(c.Account, x.Account)
				}):
				case x.LastInputAt.IsZero(), age < 0, age < e.IdleActive, e.HonourKeepMark && x.KeepUntil.After(now):
				default:
					idle = append(idle, victim{h.Host.Name, x, age})
				}
			}
			free += max(0, n)
		}
		if e.IdleActive == 0 || e.Mode == placement.Off || free > e.Headroom || !s.mayEvict() {
			idle = nil
		}
		v := s.view
		v.Snapshot, v.Claims = sessions.NewSnapshot(s.hosts), placement.NewClaims(s.claims...)
		d := placement.DisconnectIdle(v, s.policy)
		if d.Kind != placement.Disconnect || d.Reason == "" || d.Victim != nil || d.Would != nil || (d.Idle != nil) != (len(idle) > 0) || !slices.Contains(d.Kind.Classes(), d.Class) {
			t.Fatalf("%+v; idle are %+v\n%s", d, idle, s)
		}
		if d.Idle == nil {
			return
		}
		gone++
		checkVictim(t, s, d, placement.Victim{Host: d.Idle.Host, Session: d.Idle.Session, DisconnectedFor: d.Idle.For}, idle)
		v.Brief = true
		if b := placement.DisconnectIdle(v, s.policy); b.Idle == nil || b.Idle.Ref() != d.Idle.Ref() || len(b.Candidates) > 0 {
			t.Fatalf("in brief %+v\n%s", b, s)
		}
	})
	if gone == 0 {
		t.Errorf("nobody was disconnected in %d situations", all)
	}
}
