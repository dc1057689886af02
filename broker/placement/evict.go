package placement

import (
	"fmt"
	"strings"

	"github.com/rdpbroker/rdpbroker/sessions"
)

// makeRoom chooses the stalest disconnected session that policy gives up, if the
// caller may have somebody logged off. When in doubt there is no victim.
func (d *decider) makeRoom() (Decision, bool) {
	if why := d.mayNotEvict(); why != "" {
		d.out.whyWait = d.noSlot() + ", and nobody is logged off for this caller: " + why
		return Decision{}, false
	}
	d.out.class = ClassNoVictim
	best, bestHost := d.stalest()
	if best == nil {
		d.out.whyWait = d.noSlot() + ", and no session may be logged off"
		return Decision{}, false
	}
	who := fmt.Sprintf("%s (session %d on %s, disconnected for %s)",
		best.Session.Account, best.Session.ID, best.Host, short(best.DisconnectedFor))
	needsProof := d.policy.Eviction.Proof == Credentials && d.view.Unproven == ""
	if needsProof {
		who += ", once the host has accepted the caller's password"
	}
	if d.policy.Eviction.Mode != Evict {
		d.out.would, d.out.wouldNeedProof, d.out.class = best, needsProof, ClassShadow
		d.out.whyWait = d.noSlot() + "; shadow mode would have logged off " + who
		return Decision{}, false
	}
	d.markChosen(bestHost.Host.Name, best.Session.ID)
	return Decision{
		Kind: MakeRoom, Host: best.Host, Victim: best, NeedsProof: needsProof, Class: ClassVictim,
		Reason: "the stalest session that policy gives up: " + who,
	}, true
}

// noSlot says that there is none for the caller.
func (d *decider) noSlot() string {
	if d.heldBack() != "" {
		return "the free slots are kept for others"
	}
	return "no slot is free"
}

// mayNotEvict is why nobody may be logged off for the caller, "" if somebody may.
func (d *decider) mayNotEvict() string {
	e := &d.policy.Eviction
	if why := d.noneMayGo(); why != "" {
		return why
	}
	if e.PerClientPerHour > 0 && d.view.EvictionsByClient >= e.PerClientPerHour {
		d.out.class = ClassClientCeiling
		return fmt.Sprintf("this client address has already set off %d evictions within the hour", d.view.EvictionsByClient)
	}
	if e.Proof == Credentials && d.view.Unproven == "" {
		return "" // whoever it is: the host will ask
	}
	if e.Proof == Credentials && e.RefuseUnproven {
		d.out.class = ClassUnproven
		return d.view.Unproven + " does not ask for a password before the session (NLA)"
	}
	if d.id.Trusted {
		return ""
	}
	d.out.class = ClassCaller
	_, exact := d.id.Account()
	switch {
	case len(d.id.Accounts) > 1:
		return fmt.Sprintf("%q could be %s", d.id.Said, accountList(d.id.Accounts))
	case !exact || d.id.Confidence == sessions.ConfidenceNone:
		return "it is not known who is coming"
	case d.id.Confidence < sessions.ConfidencePrefix:
		return "the caller is only guessed from the client address"
	case !d.id.Known:
		return "the caller is not a known account"
	}
	return ""
}

// noneMayGo is why nobody may be logged off now, for whomever; "" if somebody may.
func (d *decider) noneMayGo() string {
	e := &d.policy.Eviction
	if e.Mode == Off {
		d.out.class = ClassEvictionOff
		return "eviction is off"
	}
	if !e.Hours.Open(d.view.Now) {
		d.out.class = ClassHours
		return "it is outside the hours at which somebody may be: " + e.Hours.String()
	}
	if n := d.view.EvictionsInFarm; e.PerFarmPerHour > 0 && n >= e.PerFarmPerHour {
		d.out.class = ClassFarmCeiling
		return fmt.Sprintf("%d evictions in this farm within the hour, the ceiling", n)
	}
	if n := d.view.EvictionsInAll; e.PerHour > 0 && n >= e.PerHour {
		d.out.class = ClassFarmCeiling
		return fmt.Sprintf("%d evictions in all farms within the hour, the ceiling", n)
	}
	return ""
}

// stalest is the best victim of all hosts. Ties break by host name, then ID.
func (d *decider) stalest() (*Victim, *hostView) {
	var best *Victim
	var bestHost *hostView
	for i := range d.hosts {
		h := &d.hosts[i]
		if why := d.hostGivesUpNone(h); why != "" {
			d.note(h.Host.Name, nil, "victim", why)
			continue
		}
		for j := range h.Report.Sessions {
			s := &h.Report.Sessions[j]
			if !s.HasUser() || d.view.Brief && best != nil && !d.staler(h, s, bestHost, best) {
				continue
			}
			since, why := d.spared(h, *s)
			if why != "" {
				d.note(h.Host.Name, s, "victim", why)
				continue
			}
			if !d.view.Brief {
				d.note(h.Host.Name, s, "victim", "disconnected for "+short(since))
			}
			if best == nil || d.staler(h, s, bestHost, best) {
				best, bestHost = &Victim{Host: h.Host.Name, Session: *s, DisconnectedFor: since}, h
			}
		}
	}
	return best, bestHost
}

// staler reports whether s on h comes before the best one so far, on bestHost.
func (d *decider) staler(h *hostView, s *sessions.Session, bestHost *hostView, best *Victim) bool {
	since, ok := h.Report.DisconnectedFor(*s, d.view.Now)
	return ok && (since > best.DisconnectedFor || since == best.DisconnectedFor && h == bestHost && s.ID < best.Session.ID)
}

// hostGivesUpNone is why no session of h may be chosen, "" if one may.
func (d *decider) hostGivesUpNone(h *hostView) string {
	switch counts, _ := h.CountsDisconnected(); {
	case h.closed != "":
		return h.closed
	case h.noNew != "":
		return h.noNew
	case !counts:
		return "disconnected sessions hold no slot there"
	case h.Report.NoEvict != "":
		return h.Report.NoEvict
	case d.cannotEvict(h) != "":
		return d.cannotEvict(h)
	case d.policy.Eviction.Proof == Credentials && d.view.Unproven != "" && d.view.Unproven != h.Host.Name:
		return "that " + d.view.Unproven + " asks for no password is no reason to log anybody off here"
	case h.free() < 0:
		return fmt.Sprintf("over its limit (%s): one logoff would free no slot", slots(h))
	}
	if limit := d.policy.Eviction.PerHostPerHour; limit > 0 && d.view.EvictionsByHost[h.Host.Name] >= limit {
		d.out.class = ClassHostCeiling
		return fmt.Sprintf("%d evictions there within the hour, the ceiling", limit)
	}
	return ""
}

func (d *decider) cannotEvict(h *hostView) string {
	if d.view.CannotEvict == nil {
		return ""
	}
	return d.view.CannotEvict(h.Host.Name)
}

func (d *decider) markChosen(host string, id int) {
	for i := range d.out.candidates {
		c := &d.out.candidates[i]
		if c.As == "victim" && c.Host == host && c.Session == id {
			c.Chosen = true
		}
	}
}

func accountList(as []sessions.Account) string {
	names := make([]string, 0, 3)
	for i, a := range as {
		if i == 3 {
			names = append(names, fmt.Sprintf("%d more", len(as)-i))
			break
		}
		names = append(names, a.String())
	}
	return strings.Join(names, ", ")
}
