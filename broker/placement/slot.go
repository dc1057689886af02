package placement

import (
	"fmt"

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
