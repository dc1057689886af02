package placement

import (
	"fmt"
	"slices"
	"time"

	"github.com/rdpbroker/rdpbroker/sessions"
)

// tokenHost follows a token that names a host of the farm: somebody who knew
// sent the caller there. It gives no more than the host has: the caller's own
// session or a free slot.
func (d *decider) tokenHost() (Decision, bool) {
	if d.id.Host == "" {
		return Decision{}, false
	}
	for i := range d.hosts {
		h := &d.hosts[i]
		if h.Host.Name != d.id.Host {
			continue
		}
		if h.closed != "" {
			d.note(h.Host.Name, nil, "slot", "named by the token, but "+h.closed)
			return Decision{}, false
		}
		if n, s := d.bestOwn(h); s != nil && !d.keptOut(h, *s) {
			return d.back(h, n, "the token names this host, and the caller has a session there"), true
		}
		if !d.takesNew(h) {
			d.note(h.Host.Name, nil, "slot", "named by the token, but "+d.whyNoSlot(h))
			return Decision{}, false
		}
		if why := d.heldBack(); why != "" {
			d.note(h.Host.Name, nil, "slot", "named by the token, but "+why)
			return Decision{}, false
		}
		d.choose(h.Host.Name, nil, "slot", "named by the token")
		return Decision{Kind: Place, Host: h.Host.Name, Class: ClassToken, Reason: "the token names this host, which has a free slot"}, true
	}
	d.note(d.id.Host, nil, "slot", "named by the token, but not a host of this farm")
	return Decision{}, false
}

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

// guessedSlot places whoever is only guessed, and by that guess has a disconnected
// session, on its host: the last one, if there is a slot for them should the guess
// be wrong. Then they get a new session there, as they would elsewhere.
func (d *decider) guessedSlot() (Decision, bool) {
	if _, exact := d.id.Account(); exact || d.id.Guess.IsZero() {
		return Decision{}, false
	}
	var best *sessions.Session
	var bestHost hostView
	for _, at := range d.view.Snapshot.AppendHostsOf(nil, d.id.Guess) {
		if !d.inFarm(at) {
			continue
		}
		h := d.look(at)
		for i := range h.Report.Sessions {
			s := &h.Report.Sessions[i]
			if s.State == sessions.StateDisconnected && s.HasUser() && s.Account.Matches(d.id.Guess) &&
				!d.leaving(*d.view.Snapshot.Ref(at, i)) && d.takesNew(&h) &&
				(best == nil || d.preferOwn(&h, *s, &bestHost, *best)) {
				best, bestHost = s, h
			}
		}
	}
	if best == nil {
		return Decision{}, false
	}
	name := bestHost.Host.Name
	if !d.view.Brief {
		for i := range d.hosts {
			if h := &d.hosts[i]; h.Host.Name == name {
				d.choose(name, nil, "slot", slots(h)+", and who last came from there by this name has a session there")
			} else {
				d.note(h.Host.Name, nil, "slot", d.whyNoSlot(h)+", "+name+" is preferred")
			}
		}
	}
	return Decision{Kind: Place, Host: name, Class: ClassFreeSlot,
		Reason: fmt.Sprintf("a free slot on %s, where whoever last came from there by this name has a session", name)}, true
}

// freeSlot places the caller on the best host that has a free slot.
func (d *decider) freeSlot() (Decision, bool) {
	pinned, held := d.pinnedHost(), d.heldBack()
	var best *hostView
	for i := range d.hosts {
		h := &d.hosts[i]
		if !d.takesNew(h) {
			d.note(h.Host.Name, nil, "slot", d.whyNoSlot(h))
			continue
		}
		if held != "" {
			d.note(h.Host.Name, nil, "slot", held)
			continue
		}
		if best == nil || d.betterSlot(h, best, pinned) {
			if best != nil {
				d.note(best.Host.Name, nil, "slot", slots(best)+", "+h.Host.Name+" is preferred")
			}
			best = h
			continue
		}
		d.note(h.Host.Name, nil, "slot", slots(h)+", "+best.Host.Name+" is preferred")
	}
	if best == nil {
		return Decision{}, false
	}
	return d.placed(best, pinned), true
}

// firstFree is freeSlot without a word on each host: it goes through the hosts in the order in which
// they are best, as the sessions have it, and stops where claims cannot make a
// later one better.
func (d *decider) firstFree() (Decision, bool) {
	snap := d.view.Snapshot
	pinned := d.pinnedHost()
	if pinned != "" {
		if i := snap.Position(pinned); i >= 0 && d.inFarm(i) {
			if h := d.look(i); d.takesNew(&h) {
				return d.placed(&h, pinned), true
			}
		}
	}
	var best hostView
	better := func(h *hostView) bool {
		return best.HostState == nil || d.betterSlot(h, &best, "") || !d.betterSlot(&best, h, "") && h.at < best.at
	}
	for _, i := range snap.Free(d.view.Farm, d.order()) {
		// Without claims, that is at best, it would be like this:
		atBest := hostView{HostState: &snap.Hosts[i], used: snap.Counted(i)}
		if best.HostState != nil && d.policy.Balance != FillFirst && d.betterSlot(&best, &atBest, "") {
			break
		}
		h := d.look(i)
		if !d.takesNew(&h) {
			if !d.view.Brief {
				d.note(h.Host.Name, nil, "slot", d.whyNoSlot(&h))
			}
			continue
		}
		if better(&h) {
			best = h
		}
		if h.used == atBest.used {
			break // those behind it are no better, and claims only take slots
		}
	}
	if d.policy.Balance == FillFirst && best.HostState != nil {
		// Here a claim makes a host better.
		for name, cs := range d.view.Claims.hosts() {
			i := snap.Position(name)
			if i < 0 || !d.inFarm(i) {
				continue
			}
			least := snap.Hosts[i].Limit() - snap.Counted(i) - len(cs)
			if least > best.free() || least == best.free() && i > best.at {
				continue
			}
			if h := d.look(i); d.takesNew(&h) && better(&h) {
				best = h
			}
		}
	}
	if best.HostState == nil {
		return Decision{}, false
	}
	return d.placed(&best, pinned), true
}

// placed is the decision for a slot of h.
func (d *decider) placed(h *hostView, pinned string) Decision {
	dec := Decision{Kind: Place, Host: h.Host.Name, Class: ClassFreeSlot, Reason: "a free slot"}
	if h.Host.Name == pinned {
		dec.Class = ClassPinned
	}
	if d.view.Brief {
		return dec
	}
	d.choose(h.Host.Name, nil, "slot", slots(h))
	dec.Reason = fmt.Sprintf("a free slot on %s (%s)", h.Host.Name, slots(h))
	if dec.Class == ClassPinned {
		dec.Reason += ", the caller's pinned host"
	}
	return dec
}

// takesNew reports whether h has a slot for a new session.
func (d *decider) takesNew(h *hostView) bool {
	return h.closed == "" && h.noNew == "" && h.free() > 0
}

// order is that in which hosts with free slots are best.
func (d *decider) order() sessions.Order {
	switch d.policy.Balance {
	case FillFirst:
		return sessions.ByFree
	case Weighted:
		return sessions.ByShare
	}
	return sessions.BySessions
}

func (d *decider) pinnedHost() string {
	me, ok := d.id.Account()
	if !ok {
		return ""
	}
	for _, p := range d.policy.Pins {
		if p.Account.Matches(me) {
			return p.Host
		}
	}
	return ""
}

// betterSlot reports whether a new session is better put on a than on b, which
// comes first by name.
func (d *decider) betterSlot(a, b *hostView, pinned string) bool {
	if (a.Host.Name == pinned) != (b.Host.Name == pinned) {
		return a.Host.Name == pinned
	}
	switch d.policy.Balance {
	case FillFirst:
		return a.free() < b.free()
	case Weighted:
		return a.used*b.Host.Share() < b.used*a.Host.Share() // a.used/share(a) < b.used/share(b)
	}
	return a.used < b.used
}

func (d *decider) whyNoSlot(h *hostView) string {
	switch {
	case h.closed != "":
		return h.closed
	case h.noNew != "":
		return h.noNew
	}
	return slots(h)
}

func slots(h *hostView) string { return fmt.Sprintf("%d of %d slots in use", h.used, h.limit) }

func stateForPeople(h *hostView, s sessions.Session, now time.Time) string {
	if ago, ok := h.Report.DisconnectedFor(s, now); ok {
		return "disconnected " + short(ago) + " ago"
	}
	switch s.State {
	case sessions.StateDisconnected:
		return "disconnected"
	case sessions.StateActive:
		return "active"
	}
	return s.State.String()
}

// short prints a duration for people: seconds under two minutes, else minutes.
func short(d time.Duration) string {
	if d < 2*time.Minute {
		return d.Round(time.Second).String()
	}
	d = d.Round(time.Minute)
	if h := int(d.Hours()); h > 0 {
		return fmt.Sprintf("%dh%02dm", h, int(d.Minutes())%60)
	}
	return fmt.Sprintf("%dm", int(d.Minutes()))
}
