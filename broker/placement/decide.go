// Package placement decides where a caller goes: back to their own session, to
// a free slot, or to a slot that somebody's stale session gives up. It is pure:
// the same view, identity and policy give the same decision, time is part of
// the view, and ties break by name. Others carry the decision out.
package placement

import (
	"fmt"
	"slices"

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
	// Room for the common case on the stack, so that it need not be allocated.
	var own [4]int
	var few [4]hostView
	var out outcome
	d := decider{view: &v, id: &id, policy: &p, out: &out}
	if v.Snapshot.FarmSize(v.Farm) == 0 {
		return d.done(Decision{Kind: Refuse, Class: ClassNoHost, Reason: fmt.Sprintf("farm %q has no host", v.Farm)})
	}
	d.own = d.findOwn(own[:0])
	quick := (v.Brief || v.Few) && p.Reserve.Slots <= 0
	if quick { // no other host matters to the first steps
		d.hosts = d.surveyOwn(few[:0])
	} else {
		d.hosts = d.survey()
	}
	if dec, ok := d.tokenHost(); ok {
		return d.done(dec)
	}
	if dec, ok := d.ownSession(); ok {
		return d.done(dec)
	}
	if dec, ok := d.guessedSlot(); ok {
		return d.done(dec)
	}
	if quick {
		n := len(out.candidates)
		if dec, ok := d.firstFree(); ok {
			return d.done(dec)
		}
		out.candidates = out.candidates[:n] // all are told of below
		d.hosts = d.survey()
	}
	if !quick || !v.Brief { // else it is known that there is none
		if dec, ok := d.freeSlot(); ok {
			return d.done(dec)
		}
	}
	if dec, ok := d.makeRoom(); ok {
		return d.done(dec)
	}
	return d.done(Decision{Kind: WaitForSlot, Would: out.would, NeedsProof: out.wouldNeedProof, Reason: out.whyWait, Class: out.class})
}

// decider is one decision in the making. What is only looked at stands behind
// pointers, what leaves is kept apart, and the slices are set by Decide alone: so
// the compiler sees that they can stay on the stack.
type decider struct {
	view   *View
	id     *sessions.Identity
	policy *Policy
	// own are the positions of the hosts, of whatever farm, on which the caller has a
	// session, if it is known who they are.
	own   []int
	hosts []hostView // of the farm, by name
	out   *outcome
	// nobody: there is no caller.
	nobody bool
}

// outcome is what leaves a decision.
type outcome struct {
	candidates []Candidate
	would      *Victim
	// wouldNeedProof is what NeedsProof would be for would.
	wouldNeedProof bool
	whyWait        string
	class          Class // of whyWait
}

// hostView is a host of the farm with what the decision needs to know of it.
type hostView struct {
	*sessions.HostState
	at    int // in Snapshot.Hosts
	limit int
	used  int
	// closed is why the host takes no caller at all, "" if it does.
	closed string
	// noNew is why it takes no new sessions, "" if it does.
	noNew string
}

func (h *hostView) free() int { return h.limit - h.used }

// findOwn appends to buf where the caller has sessions.
func (d *decider) findOwn(buf []int) []int {
	me, ok := d.id.Account()
	if !ok {
		return buf
	}
	return d.view.Snapshot.AppendHostsOf(buf, me)
}

// survey looks once at every host of the farm.
func (d *decider) survey() []hostView {
	hosts := make([]hostView, 0, d.view.Snapshot.FarmSize(d.view.Farm))
	for i := range d.view.Snapshot.Hosts {
		if d.inFarm(i) {
			hosts = append(hosts, d.look(i))
		}
	}
	return hosts
}

// surveyOwn looks only at the hosts of the farm on which the caller has a session,
// and at the one that a token names.
func (d *decider) surveyOwn(buf []hostView) []hostView {
	named := -1
	if d.id.Host != "" {
		named = d.view.Snapshot.Position(d.id.Host)
	}
	if named >= 0 && d.inFarm(named) && !slices.Contains(d.own, named) {
		buf = append(buf, d.look(named))
	}
	for _, i := range d.own {
		if d.inFarm(i) {
			buf = append(buf, d.look(i))
		}
	}
	slices.SortFunc(buf, func(a, b hostView) int { return a.at - b.at })
	return buf
}

func (d *decider) inFarm(i int) bool { return d.view.Snapshot.Hosts[i].Host.Farm == d.view.Farm }

// look is what the decision needs to know of Hosts[i].
func (d *decider) look(i int) hostView {
	hs := &d.view.Snapshot.Hosts[i]
	h := hostView{HostState: hs, at: i, limit: hs.Limit(), used: d.view.Snapshot.Counted(i) + d.view.Claims.heldOn(d.view.Snapshot, hs)}
	h.closed, h.noNew = d.availability(hs, h.limit)
	if h.noNew == "" && d.ownLeaving(&h) {
		h.noNew = "the caller's own session there is being logged off"
	}
	return h
}

func (d *decider) availability(hs *sessions.HostState, limit int) (closed, noNew string) {
	switch {
	case d.view.Unreachable[hs.Host.Name] != "" && d.view.Brief:
		return "cannot be reached", "cannot be reached"
	case d.view.Unreachable[hs.Host.Name] != "":
		closed = "cannot be reached: " + d.view.Unreachable[hs.Host.Name]
		return closed, closed
	case hs.Report == nil && hs.Problem != "":
		return "", "never read: " + hs.Problem
	case hs.Report == nil:
		return "", "not read yet"
	case !hs.Fresh(d.view.Now) && d.view.Brief:
		return "", "its reading is old"
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

func (d *decider) done(dec Decision) Decision {
	dec.Candidates = d.out.candidates
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
	d.out.candidates = append(d.out.candidates, c)
}

func (d *decider) choose(host string, s *sessions.Session, as, why string) {
	d.note(host, s, as, why)
	if n := len(d.out.candidates); n > 0 {
		d.out.candidates[n-1].Chosen = true
	}
}
