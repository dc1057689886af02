package placement

import "github.com/rdpbroker/rdpbroker/sessions"

// Look says of every host whether it has a slot for the caller id, and of every
// session why it may be logged off for them or not, whether Decide comes to ask that
// or not: it stops at the first answer. None is chosen.
func Look(v View, id sessions.Identity, p Policy) []Candidate {
	if v.Snapshot == nil {
		return nil
	}
	v.Brief = false
	var out outcome
	d := decider{view: &v, id: &id, policy: &p, out: &out}
	d.own = d.findOwn(nil)
	d.hosts = d.survey()
	d.freeSlot()
	d.stalest()
	for i := range out.candidates {
		out.candidates[i].Chosen = false
	}
	return out.candidates
}
