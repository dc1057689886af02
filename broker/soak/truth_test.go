package soak

import (
	"net/netip"
	"time"

	"github.com/rdpbroker/rdpbroker/sessions"
	"github.com/rdpbroker/rdpbroker/sessions/simhost"
)

// standing is one session as it truly is, put together from what the host told
// of it event by event, and from nothing that the broker or its drivers know.
type standing struct {
	account sessions.Account
	client  netip.Addr
	active  bool
	// since is when it came into this state, by the true clock.
	since time.Time
	born  time.Time
	// leaving is who told it to go, "" if nobody did.
	leaving simhost.Cause
	// odd is why it must never be chosen, beside what policy says: on the console,
	// unseen, disconnected since nobody knows when.
	odd string
	// contrary: it refuses to go, sticks, or takes long.
	contrary bool
	// lost: it was told to go, and the driver lost sight of it then.
	lost bool
	// tried is when an attempt to log it off ended last.
	tried time.Time
}

// see takes in an event of h. The model is locked: nothing here may call it.
func (o *office) see(h *host, e simhost.Event) {
	o.mu.Lock()
	defer o.mu.Unlock()
	id := e.Session.ID
	h.tell("host: %s %d of %s %s", e.Kind, id, e.Session.Account, e.Cause)
	switch e.Kind {
	case simhost.EventLogon:
		h.truth[id] = &standing{account: e.Session.Account, client: e.Session.ClientAddr, active: true, since: e.At, born: e.At}
	case simhost.EventReconnected, simhost.EventTookOver:
		s := h.truth[id]
		s.active, s.since, s.client, s.odd = true, e.At, e.Session.ClientAddr, ""
	case simhost.EventDisconnected:
		s := h.truth[id]
		s.active, s.since = false, e.At
		if e.Cause == simhost.CauseManagement {
			o.wrong("%s: session %d of %s was disconnected by management", h.name, id, s.account)
		}
	case simhost.EventLogoffBegan:
		s := h.truth[id]
		if e.Cause == simhost.CauseManagement {
			o.judgeLogoff(h, id, s)
		}
		s.leaving, s.since = e.Cause, e.At
	case simhost.EventGone:
		delete(h.truth, id)
	case simhost.EventRebooted:
		clear(h.truth)
	case simhost.EventRefused:
		o.counts[string(e.Kind)]++
	}
	if h.slots > 0 && h.used() > h.slots && !h.overfull {
		o.wrong("%s holds %d sessions on %d slots", h.name, h.used(), h.slots)
	}
	o.look(h)
}

// used is how many slots are held.
func (h *host) used() int {
	n := 0
	for _, s := range h.truth {
		if s.active || h.counts || s.leaving != "" && s.active {
			n++
		}
	}
	return n
}

// of is the session of an account on h that lives on, and its ID.
func (h *host) of(a sessions.Account) (int, *standing) {
	for id, s := range h.truth {
		if s.account.Folded() == a.Folded() && s.leaving == "" {
			return id, s
		}
	}
	return 0, nil
}

// leavingOf reports whether a session that id could own is on its way out on h.
func (h *host) leavingOf(id sessions.Identity) bool {
	for _, s := range h.truth {
		if s.leaving != "" && id.CouldBe(s.account) {
			return true
		}
	}
	return false
}
