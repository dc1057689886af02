// Package placement decides where a caller goes: back to their own session, to
// a free slot, or to a slot that somebody's stale session gives up. It is pure:
// the same view, identity and policy give the same decision, time is part of
// the view, and ties break by name. Others carry the decision out.
package placement

import (
	"fmt"

	"github.com/rdpbroker/rdpbroker/sessions"
)

// Decide chooses for the caller id. It is total: there is always a decision,
// and it says why. The order is that of the house:
//
//  1. the host that a token names, 2. the caller's own disconnected session,
//     the last one first, 3. their own active session, 4. a free slot,
//  5. the slot of the stalest disconnected session that policy gives up,
//  6. waiting. Refuse is only for a farm in which waiting cannot help.
func Decide(v View, id sessions.Identity, p Policy) Decision {
	if v.Snapshot == nil { // nothing has been read yet
		v.Snapshot = sessions.NewSnapshot(nil)
	}
	d := &decider{view: v, id: id, policy: p}
	d.survey()
	if len(d.hosts) == 0 {
		return d.done(Decision{Kind: Refuse, Reason: fmt.Sprintf("farm %q has no host", v.Farm)})
	}
	for _, step := range []func() (Decision, bool){d.tokenHost, d.ownSession, d.freeSlot, d.makeRoom} {
		if dec, ok := step(); ok {
			return d.done(dec)
		}
	}
	return d.done(Decision{Kind: WaitForSlot, Would: d.would, Reason: d.whyWait})
}

// decider is one decision in the making.
type decider struct {
	view       View
	id         sessions.Identity
	policy     Policy
	hosts      []hostView // of the farm, by name
	candidates []Candidate
	would      *Victim
	whyWait    string
}

// hostView is a host of the farm with what the decision needs to know of it.
type hostView struct {
	*sessions.HostState
	limit int
	used  int
	// closed is why the host takes no caller at all, "" if it does.
	closed string
	// noNew is why it takes no new sessions, "" if it does.
	noNew string
}

func (h *hostView) free() int { return h.limit - h.used }

// survey looks once at every host of the farm.
func (d *decider) survey() {
	for i := range d.view.Snapshot.Hosts {
		hs := &d.view.Snapshot.Hosts[i]
		if hs.Host.Farm != d.view.Farm {
			continue
		}
		h := hostView{HostState: hs, limit: hs.Limit(), used: Used(d.view, hs)}
		h.closed, h.noNew = d.availability(hs, h.limit)
		if h.noNew == "" && d.ownLeaving(&h) {
			h.noNew = "the caller's own session there is being logged off"
		}
		d.hosts = append(d.hosts, h)
	}
}

func (d *decider) availability(hs *sessions.HostState, limit int) (closed, noNew string) {
	switch {
	case d.view.Unreachable[hs.Host.Name] != "":
		closed = "cannot be reached: " + d.view.Unreachable[hs.Host.Name]
		return closed, closed
	case hs.Report == nil && hs.Problem != "":
		return "", "never read: " + hs.Problem
	case hs.Report == nil:
		return "", "not read yet"
	case !hs.Fresh(d.view.Now):
		why := fmt.Sprintf("its reading is %s old", short(d.view.Now.Sub(hs.Report.ReadAt)))
		if hs.Problem != "" {
			why += ": " + hs.Problem
		}
		return "", why
	case hs.Draining():
		return "", "draining"
	case limit == 0:
		return "", "its session limit is not known; set slots"
	}
	return "", ""
}

// Used is the number of slots of h that are held: by sessions that the host
// counts (a session on its way out counts until it is gone), and by claims whose
// session the reading does not show yet. It errs towards too many.
func Used(v View, h *sessions.HostState) int {
	n := 0
	if h.Report != nil {
		for _, s := range h.Report.Sessions {
			if h.Counted(s) {
				n++
			}
		}
	}
	for _, c := range v.Claims {
		if c.Host == h.Host.Name && !c.Confirmed && claimHolds(v, h, c) {
			n++
		}
	}
	return n
}

// claimHolds reports whether c needs a slot beside the sessions in the reading.
func claimHolds(v View, h *sessions.HostState, c Claim) bool {
	if c.Own != nil {
		// The way back to one's own session takes no further slot, unless the
		// session held none while it was disconnected, or it is gone.
		s, there := v.Snapshot.Find(*c.Own)
		return !there || !h.Counted(s)
	}
	if c.Victim != nil {
		// Until the victim is gone its own entry stands for this slot.
		if s, there := v.Snapshot.Find(*c.Victim); there && h.Counted(s) {
			return false
		}
	}
	return true
}

func (d *decider) done(dec Decision) Decision {
	dec.Candidates = d.candidates
	return dec
}

func (d *decider) note(host string, s *sessions.Session, as, why string) {
	if d.view.Brief {
		return
	}
	c := Candidate{Host: host, As: as, Why: why}
	if s != nil {
		c.Session, c.Account = s.ID, s.Account.String()
	}
	d.candidates = append(d.candidates, c)
}

func (d *decider) choose(host string, s *sessions.Session, as, why string) {
	d.note(host, s, as, why)
	if n := len(d.candidates); n > 0 {
		d.candidates[n-1].Chosen = true
	}
}
