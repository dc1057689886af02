package soak

import (
	"time"

	"github.com/rdpbroker/rdpbroker/sessions"
)

// look notes since when h is read, has a free slot, and is not over its limit. It needs
// office.mu and is called whenever any of it may have changed.
func (o *office) look(h *host) {
	now := time.Now()
	if o.observed != nil {
		st := o.observed.Host(h.name)
		ok := st.Problem == "" && st.Fresh(now)
		switch {
		case !ok:
			h.readable = time.Time{}
			if h.unread.IsZero() {
				h.unread = now
			}
		case h.readable.IsZero():
			h.readable, h.unread = now, time.Time{}
		}
	}
	since := func(t *time.Time, holds bool) {
		switch {
		case !holds:
			*t = time.Time{}
		case t.IsZero():
			*t = now
		}
	}
	taken := h.used() + o.promisedOn(h, now)
	since(&h.free, taken < h.slots)
	since(&h.fits, taken <= h.slots)
}

// promisedOn is how many slots of h may be promised at most.
func (o *office) promisedOn(h *host, now time.Time) int {
	n := 0
	for _, p := range o.promises {
		if p.host == h && o.holds(p, now) {
			n++
		}
	}
	return n
}

// well reports whether h has given the broker no trouble for a while.
func (o *office) well(h *host, now time.Time) bool {
	return now.After(h.sickUntil) && !h.draining && now.Sub(h.drained) > o.setup.lag && !h.unseen &&
		!h.readable.IsZero() && now.Sub(h.readable) > o.setup.lag && now.Sub(h.undialled) > dialPause+o.setup.lag
}

// check looks at everything once. It needs office.mu.
func (o *office) check() {
	now := time.Now()
	for id, p := range o.promises {
		if p.conns == 0 && now.Sub(p.expires) > time.Minute {
			delete(o.promises, id)
		}
	}
	for _, h := range o.hosts {
		o.look(h)
		// A host that nothing is wrong with any more is read again.
		if !h.unread.IsZero() && now.Sub(latest(h.unread, h.sickUntil)) > recovery {
			o.wrong("%s has been well for long and is not read: %s", h.name, o.observed.Host(h.name).Problem)
			h.unread = now
		}
	}
	for _, a := range o.attempts {
		if now.After(a.deadline) {
			o.wrong("%s: no end of the logoff of session %d", a.host.name, a.session.ID)
			a.deadline = now.Add(time.Hour)
		}
	}
	for c := range o.calls {
		if c.cancelled() {
			continue
		}
		if now.Sub(c.began) > o.setup.wait+8*o.setup.softLimit {
			o.wrong("%s has waited for %s", c.id.Said, now.Sub(c.began))
			c.began = now
		}
		if c.evicting || now.Sub(c.touched) <= o.setup.lag {
			continue
		}
		for _, h := range o.hosts {
			if why := o.couldServe(c, h, now); why != "" {
				o.wrong("%s (%s) waits since %s, and %s %s: %s", c.id.Said, c.id.Confidence, now.Sub(c.began), h.name, why, o.describe(h))
				c.touched, o.ask = now, true
				break
			}
		}
	}
}

// couldServe is what h could have given c for some time now, by its true state;
// "" if nothing.
func (o *office) couldServe(c *call, h *host, now time.Time) string {
	if !o.well(h, now) || h.leavingOf(c.id) || o.evictsOwn(h, c.id) {
		return ""
	}
	if me, exact := c.id.Account(); exact && o.hasOwn(c.id) {
		if _, s := h.of(me); s == nil {
			return "" // waits for the host that has their own session
		}
	}
	if !h.free.IsZero() && now.Sub(h.free) > o.setup.lag {
		return "has had a free slot since " + now.Sub(h.free).String()
	}
	o.lastEvictions(h)
	st := o.observed.Host(h.name)
	switch {
	case !h.counts, !o.mayEvict(c.id), st.Report.NoEvict != "":
		return ""
	case o.setup.perHost > 0 && len(h.evictions) >= o.setup.perHost:
		return ""
	case h.fits.IsZero() || now.Sub(h.fits) <= o.setup.lag:
		return "" // one logoff might free no slot, as far as is known
	}
	for id, s := range h.truth {
		switch {
		case s.active, s.leaving != "", s.odd != "", s.contrary, o.protected(h, s.account), c.id.CouldBe(s.account),
			now.Sub(s.since) <= o.setup.minDisconnected+o.setup.rounding()+o.setup.lag, now.Sub(s.tried) <= o.setup.lag,
			o.attempts[target{h.name, id}] != nil, o.unknown[target{h.name, id}] != nil, o.returning(s.account, now),
			c.id.Confidence < sessions.ConfidenceName && s.client == c.id.Client:
			continue
		}
		return "has the session of " + s.account.String() + ", who left " + now.Sub(s.since).String() + " ago"
	}
	return ""
}

// returning reports whether the owner of a session may be on the way back.
func (o *office) returning(a sessions.Account, now time.Time) bool {
	for _, p := range o.promises {
		if me, exact := p.who.Account(); exact && me.Matches(a) && now.Before(p.expires.Add(beat+o.setup.lag)) {
			return true
		}
	}
	return false
}
