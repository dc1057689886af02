package placement

import (
	"fmt"
	"strings"
	"time"

	"github.com/rdpbroker/rdpbroker/sessions"
)

// Idle is an active session whose user has done nothing for a while.
type Idle struct {
	Host    string           `json:"host"`
	Session sessions.Session `json:"session"`
	// For is how long there had been no input at the decision.
	For time.Duration `json:"for_ns"`
}

// Ref names the session.
func (i Idle) Ref() sessions.Ref { return sessions.RefOf(i.Host, i.Session) }

// DisconnectIdle decides whether an active session is to be disconnected because its
// user has done nothing for Eviction.IdleActive: then the decision, of kind
// Disconnect, has an Idle. A disconnected session goes on running, and its user finds
// it as they left it; whether it may be logged off later is another decision, by
// Decide's rules, which begins with min_disconnected.
//
// It is only for a farm without more free slots than Eviction.Headroom, counted as
// Headroom counts them: by sessions, so that no stranger brings it about.
func DisconnectIdle(v View, p Policy) Decision {
	if v.Snapshot == nil {
		v.Snapshot = sessions.NewSnapshot(nil)
	}
	var out outcome
	d := decider{view: &v, id: &sessions.Identity{}, policy: &p, out: &out, nobody: true}
	d.hosts = d.survey()
	dec := Decision{Kind: Disconnect, Class: ClassEnough}
	free := 0
	for i := range d.hosts {
		free += d.unused(&d.hosts[i])
	}
	switch why := d.noneMayGo(); {
	case p.Eviction.IdleActive <= 0:
		dec.Reason, dec.Class = "sessions are not disconnected for want of input", ClassEvictionOff
		return dec
	case free > p.Eviction.Headroom:
		dec.Reason = fmt.Sprintf("%d slots are free", free)
		return dec
	case why != "":
		dec.Reason, dec.Class = "nobody is disconnected: "+why, out.class
		return dec
	}
	for i := range d.hosts {
		h := &d.hosts[i]
		if h.closed != "" || h.noNew != "" {
			d.note(h.Host.Name, nil, "idle", d.whyNoSlot(h))
			continue
		}
		if why := v.CannotDisconnect[h.Host.Name]; why != "" {
			d.note(h.Host.Name, nil, "idle", why)
			continue
		}
		for j := range h.Report.Sessions {
			s := &h.Report.Sessions[j]
			if !s.HasUser() || s.State != sessions.StateActive {
				continue
			}
			idle, why := d.staysActive(h, s)
			if why != "" {
				d.note(h.Host.Name, s, "idle", why)
				continue
			}
			if best := dec.Idle; best == nil || idle > best.For || idle == best.For && best.Host == h.Host.Name && s.ID < best.Session.ID {
				dec.Idle = &Idle{Host: h.Host.Name, Session: *s, For: idle}
			}
			if !v.Brief {
				d.note(h.Host.Name, s, "idle", "no input for "+short(idle))
			}
		}
	}
	dec.Class = ClassNoVictim
	dec.Reason = "no active session has been without input for long enough"
	if best := dec.Idle; best != nil {
		dec.Class, dec.Host = ClassVictim, best.Host
		dec.Reason = fmt.Sprintf("%s (session %d on %s) has been without input for %s", best.Session.Account, best.Session.ID, best.Host, short(best.For))
		for i := range out.candidates {
			c := &out.candidates[i]
			c.Chosen = c.Host == best.Host && c.Session == best.Session.ID
		}
	}
	return d.done(dec)
}

// staysActive is why s is not disconnected, "" if it may be; then idle is how long
// there has been no input.
func (d *decider) staysActive(h *hostView, s *sessions.Session) (idle time.Duration, why string) {
	if strings.EqualFold(s.Name, "console") || s.ID <= 0 {
		return 0, "the console"
	}
	if why := d.untouched(h, s); why != "" {
		return 0, why
	}
	idle, ok := h.Report.IdleFor(*s, d.view.Now)
	switch e := &d.policy.Eviction; {
	case !ok:
		return 0, "it is not known since when there has been no input"
	case idle < e.IdleActive:
		return 0, fmt.Sprintf("no input for %s only, less than %s", short(idle), short(e.IdleActive))
	case e.HonourKeepMark && s.KeepUntil.After(h.Report.HostNow().Add(max(0, d.view.Now.Sub(h.Report.ReadAt)))):
		return 0, "its user has marked it to be kept"
	}
	return idle, ""
}
