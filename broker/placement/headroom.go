package placement

import (
	"fmt"

	"github.com/rdpbroker/rdpbroker/sessions"
)

// Headroom decides whether somebody is to be logged off so that Eviction.Headroom
// slots are free before anybody needs them: then the decision, of kind KeepFree, has
// a Victim, or in shadow mode a Would.
//
// There is no caller, so that there is no proof to ask for and nobody whose own
// session it could be: asking for it is the operator's word that those sessions may
// go. All else is as in Decide. That no stranger can have people logged off by it,
// a slot counts as free unless a *session that somebody is logged on to* holds it:
// what is promised to callers changes nothing, be it ever so much.
func Headroom(v View, p Policy) Decision {
	if v.Snapshot == nil {
		v.Snapshot = sessions.NewSnapshot(nil)
	}
	v.Unproven = ""
	var out outcome
	d := decider{view: &v, id: &sessions.Identity{}, policy: &p, out: &out, nobody: true}
	d.hosts = d.survey()
	dec := Decision{Kind: KeepFree, Class: ClassEnough}
	want, free := p.Eviction.Headroom, 0
	for i := range d.hosts {
		free += d.unused(&d.hosts[i])
	}
	if want <= 0 || free >= want {
		dec.Reason = fmt.Sprintf("%d slots are free", free)
		return dec
	}
	tooFew := fmt.Sprintf("%d slots are free, and %d are wanted", free, want)
	if why := d.noneMayGo(); why != "" {
		dec.Reason, dec.Class = tooFew+"; nobody is logged off: "+why, out.class
		return d.done(dec)
	}
	out.class = ClassNoVictim
	best, host := d.stalest()
	if best == nil {
		dec.Reason, dec.Class = tooFew+", but no session may be logged off", out.class
		return d.done(dec)
	}
	who := fmt.Sprintf("%s (session %d on %s, disconnected for %s)",
		best.Session.Account, best.Session.ID, best.Host, short(best.DisconnectedFor))
	if p.Eviction.Mode != Evict {
		dec.Would, dec.Class, dec.Reason = best, ClassShadow, tooFew+"; shadow mode would have logged off "+who
		return d.done(dec)
	}
	d.markChosen(host.Host.Name, best.Session.ID)
	dec.Host, dec.Victim, dec.Class, dec.Reason = best.Host, best, ClassVictim, tooFew+": the stalest session that policy gives up goes, "+who
	return d.done(dec)
}

// unused is how many slots of h no session holds that somebody is logged on to.
func (d *decider) unused(h *hostView) int {
	if h.closed != "" || h.noNew != "" {
		return 0
	}
	n := h.limit
	for _, s := range h.Report.Sessions {
		if s.HasUser() && h.Counted(s) {
			n--
		}
	}
	return max(0, n)
}
