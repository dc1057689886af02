package placement

import (
	"fmt"
	"slices"

	"github.com/rdpbroker/rdpbroker/sessions"
)

// ownSession sends the caller back to their own session: a disconnected one
// before an active one, the most recently disconnected first. Draining and
// stale hosts take their users back. Who is kept out by a full host waits for it:
// a new session elsewhere would leave their work behind.
func (d *decider) ownSession() (Decision, bool) {
	if _, ok := d.id.Account(); !ok {
		return Decision{}, false
	}
	var best *sessions.Session
	var bestAt int
	var bestHost, full *hostView
	for i := range d.hosts {
		h := &d.hosts[i]
		n, s := d.bestOwn(h)
		if s == nil {
			continue
		}
		if h.closed != "" {
			d.note(h.Host.Name, s, "own", h.closed)
			continue
		}
		if d.keptOut(h, *s) {
			if !d.view.Brief {
				d.note(h.Host.Name, s, "own", slots(h)+", and a disconnected session holds none")
			}
			full = h
			continue
		}
		if best == nil || d.preferOwn(h, *s, bestHost, *best) {
			if best != nil {
				d.note(bestHost.Host.Name, best, "own", "another own session is preferred")
			}
			best, bestAt, bestHost = s, n, h
			continue
		}
		d.note(h.Host.Name, s, "own", "another own session is preferred")
	}
	if best == nil && full != nil {
		for i := range d.hosts {
			d.note(d.hosts[i].Host.Name, nil, "slot", "the caller's own session is on "+full.Host.Name)
		}
		return Decision{Kind: WaitForSlot, Class: ClassOwnHostFull, Reason: fmt.Sprintf("the caller's own session is on %s, which is full (%s)", full.Host.Name, slots(full))}, true
	}
	if best == nil {
		return Decision{}, false
	}
	return d.back(bestHost, bestAt, "the caller's own session"), true
}

// keptOut reports whether h would turn the owner of s away: where disconnected
// sessions hold no slot, the way back needs a free one.
func (d *decider) keptOut(h *hostView, s sessions.Session) bool {
	return s.State == sessions.StateDisconnected && !h.Counted(s) && h.limit > 0 && h.free() <= 0 && h.Fresh(d.view.Now)
}

// back is the decision for session n of h.
func (d *decider) back(h *hostView, n int, why string) Decision {
	s := &h.Report.Sessions[n]
	dec := Decision{Kind: Reconnect, Host: h.Host.Name, Own: d.view.Snapshot.Ref(h.at, n), Reason: why, Class: ClassOwn}
	if s.State != sessions.StateDisconnected {
		dec.Kind = TakeOver
	}
	if !d.view.Brief {
		d.choose(h.Host.Name, s, "own", why)
		dec.Reason = fmt.Sprintf("%s: session %d on %s, %s", why, s.ID, h.Host.Name, stateForPeople(h, *s, d.view.Now))
	}
	return dec
}

// bestOwn is the caller's own session on h that is worth going back to, and its
// place in the reading; nil if there is none. One that is being logged off is not:
// it would end under its user.
func (d *decider) bestOwn(h *hostView) (at int, best *sessions.Session) {
	if !slices.Contains(d.own, h.at) {
		return 0, nil
	}
	me, _ := d.id.Account()
	for i := range h.Report.Sessions {
		s := &h.Report.Sessions[i]
		if !s.Account.Matches(me) || !s.HasUser() {
			continue
		}
		switch {
		case d.leaving(*d.view.Snapshot.Ref(h.at, i)):
			d.note(h.Host.Name, s, "own", "it is being logged off")
		case s.State == sessions.StateDisconnected, s.State == sessions.StateActive && d.policy.TakeOverActive:
			if best == nil || d.preferOwn(h, *s, h, *best) {
				at, best = i, s
			}
		case s.State == sessions.StateActive:
			d.note(h.Host.Name, s, "own", "active, and take_over_active is off")
		default:
			if !d.view.Brief {
				d.note(h.Host.Name, s, "own", "its state is "+s.State.String())
			}
		}
	}
	return at, best
}

func (d *decider) leaving(ref sessions.Ref) bool {
	return d.view.Leaving[ref] || d.view.Claims.victim(ref)
}

// ownLeaving reports whether a session of the caller's is on its way out on h: the
// host would put them back into it, and it would end under them. A stuck one is
// no hindrance, or its user could never come back; nor is one that is only
// perhaps the caller's, or a cookie that fits many would find every host shut.
func (d *decider) ownLeaving(h *hostView) bool {
	if !slices.Contains(d.own, h.at) {
		return false
	}
	me, _ := d.id.Account()
	for i := range h.Report.Sessions {
		s := &h.Report.Sessions[i]
		if !s.Account.Matches(me) || !s.HasUser() {
			continue
		}
		if ref := d.view.Snapshot.Ref(h.at, i); d.leaving(*ref) && d.view.Untouchable[*ref] == "" {
			return true
		}
	}
	return false
}

// preferOwn reports whether own session a on ha is better than b on hb. A
// disconnected one beats an active one, a later disconnect an earlier one; on
// equal terms the first by host name, which was found already, and by ID.
func (d *decider) preferOwn(ha *hostView, a sessions.Session, hb *hostView, b sessions.Session) bool {
	aDisc, bDisc := a.State == sessions.StateDisconnected, b.State == sessions.StateDisconnected
	if aDisc != bDisc {
		return aDisc
	}
	aFor, aKnown := ha.Report.DisconnectedFor(a, d.view.Now)
	bFor, bKnown := hb.Report.DisconnectedFor(b, d.view.Now)
	if aKnown != bKnown {
		return aKnown
	}
	if aKnown && aFor != bFor {
		return aFor < bFor
	}
	return ha == hb && a.ID < b.ID
}
