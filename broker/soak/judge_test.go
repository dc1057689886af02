package soak

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/rdpbroker/rdpbroker/broker/audit"
	"github.com/rdpbroker/rdpbroker/broker/placement"
	"github.com/rdpbroker/rdpbroker/sessions"
)

// call is one call of Admit.
type call struct {
	u     *user
	id    sessions.Identity
	began time.Time
	// touched is when the broker last said anything of it.
	touched  time.Time
	queued   bool // it waits in the queue, as far as was said
	evicting bool // somebody is being logged off for it
	ctx      context.Context
}

// cancelled: whoever called has gone.
func (c *call) cancelled() bool { return c.ctx.Err() != nil }

// honest: the caller is one of those whom the broker takes them for, or is taken for nobody.
func honest(u *user, id sessions.Identity) bool {
	return len(id.Accounts) == 0 || id.CouldBe(u.account)
}

// promise is a reservation, as the audit told of it.
type promise struct {
	id      uint64
	host    *host
	who     sessions.Identity
	made    time.Time
	expires time.Time
	own     *sessions.Ref
	conns   int
	closed  time.Time // when the last connection ended
	dropped bool      // given back early, since a dial failed and nobody had been there before
	reached bool      // a connection that is closed was there
	stale   bool      // see granted
}

// beat is how long the broker may have to wait for a reading that tells whether
// somebody has logged on at the last moment of their promise.
const beat = 16 * time.Second

// dialPause is for how long the broker leaves a host alone that could not be dialled.
const dialPause = 5 * time.Second

// linger is for how long the broker keeps a promise without a connection.
const linger = 15 * time.Second

// holds reports whether p may still hold a slot beside the sessions on its host.
func (o *office) holds(p *promise, now time.Time) bool {
	switch {
	case now.After(p.expires.Add(beat)), p.dropped && now.After(p.closed.Add(time.Second)):
		return false
	case p.conns == 0 && !p.closed.IsZero() && now.After(p.closed.Add(linger+beat+o.setup.lag)):
		return false
	}
	if a, exact := p.who.Account(); exact {
		for _, s := range p.host.truth {
			if s.account.Matches(a) && (s.active || p.host.counts) && s.leaving == "" && now.After(s.since.Add(o.setup.lag)) {
				return false // the session itself holds it
			}
		}
	}
	return true
}

// attempt is an eviction under way.
type attempt struct {
	host     *host
	session  sessions.Session
	key      string
	promise  uint64
	began    time.Time
	target   *standing // as it truly was when the attempt began, nil if there was none
	told     bool      // the host was told to log it off
	deadline time.Time
}

type target struct {
	host string
	id   int
}

// judgeLogoff is asked at the very moment at which management tells session id
// to go: was that right?
func (o *office) judgeLogoff(h *host, id int, s *standing) {
	now := time.Now()
	o.counts["sessions told to go"]++
	who := fmt.Sprintf("%s: session %d of %s was logged off", h.name, id, s.account)
	a := o.attempts[target{h.name, id}]
	if a == nil {
		a = o.unknown[target{h.name, id}] // the order was on its way when the driver lost sight of it
	}
	if a == nil {
		o.wrong("%s without a word in the audit", who)
		return
	}
	a.told = true
	away := now.Sub(s.since)
	switch {
	case a.session.ID != id || !a.session.Account.Matches(s.account):
		o.wrong("%s, which was meant for %s", who, a.session.Account)
	case s.active && h.gap.Load() > 0:
		// The text tools look and act in two steps; the documentation says so.
		o.counts["sessions that came back between the look and the logoff of a text driver"]++
	case s.active:
		o.wrong("%s while its user was at work", who)
	case s.leaving != "":
		o.wrong("%s twice", who)
	case s.odd != "" && !(o.setup.byText && s.odd == timeless):
		o.wrong("%s though it is %s", who, s.odd)
	case away < o.setup.minDisconnected-o.setup.rounding()-o.doubt(h):
		o.wrong("%s %s after its user had left: %s", who, away, o.describe(h))
	case a.target != nil && a.target != s:
		o.wrong("%s in place of another session with that ID", who)
	case o.protected(h, s.account):
		o.wrong("%s though it is protected", who)
	}
	for c := range o.calls {
		if c.id.Key() == a.key && c.evicting && c.u.account.Folded() == s.account.Folded() && honest(c.u, c.id) && !o.setup.blind(c.id) {
			o.wrong("%s for its own user, who said %q (%s)", who, c.id.Said, c.id.Confidence)
		}
	}
	o.lastEvictions(h)
	if o.setup.perHost > 0 && len(h.evictions) > o.setup.perHost {
		o.wrong("%s as number %d within the hour", who, len(h.evictions))
	}
}

// doubt is how far a reading of h may be from the time that it is said to be of:
// an agent counts milliseconds, and takes the way to the broker, which a sick
// host makes long, for time that has passed: at most for as long as the driver
// waits for an answer.
func (o *office) doubt(h *host) time.Duration {
	if time.Now().Before(h.sickUntil) {
		return 35 * time.Second
	}
	return 2 * time.Millisecond
}

// lastEvictions forgets those of more than an hour ago.
func (o *office) lastEvictions(h *host) {
	now := time.Now()
	h.evictions = slices.DeleteFunc(h.evictions, func(a *attempt) bool { return now.Sub(a.began) >= time.Hour })
}

// record takes in an event of the broker, which is locked.
func (o *office) record(r audit.Record) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.counts[recordName(r)]++
	key := r.Identity.Key()
	if d := r.Decision; d.Host != "" {
		o.host(d.Host).tell("broker: %s %s for %q %v, reservation %d: %s %v %s", r.Event, d.Kind, r.Identity.Said, len(r.Identity.Accounts), r.Reservation, d.Reason, r.Account, r.Error)
	}
	switch r.Event {
	case audit.Decided:
		o.decided(r, key)
	case audit.Evicting:
		o.evicting(r, key)
	case audit.Evicted, audit.EvictionRefused, audit.EvictionStuck, audit.EvictionFailed:
		o.evictionEnded(r, key)
	}
	for c := range o.calls {
		if c.id.Key() == key {
			c.touched = r.Time
			switch r.Event {
			case audit.Decided:
				c.queued, c.evicting = r.Decision.Kind == placement.WaitForSlot, r.Decision.Kind == placement.MakeRoom
			case audit.EvictionRefused, audit.EvictionStuck, audit.EvictionFailed:
				c.evicting = false
			}
		}
	}
	for _, h := range o.hosts {
		o.look(h)
	}
}

func recordName(r audit.Record) string {
	switch r.Event {
	case audit.Decided:
		return "decided: " + r.Decision.Kind.String()
	default:
		return string(r.Event)
	}
}

// decided checks a decision at the moment at which it was made.
func (o *office) decided(r audit.Record, key string) {
	d := r.Decision
	if d.Host == "" {
		return
	}
	h := o.host(d.Host)
	since := r.Time.Add(-r.Took)
	p := &promise{id: r.Reservation, host: h, who: r.Identity, made: r.Time, expires: r.Time.Add(o.setup.reservation), own: d.Own}
	if d.Own != nil {
		p.stale = o.stale(h, r.Time)
	}
	if d.Victim != nil {
		p.expires = p.expires.Add(o.setup.softLimit)
	}
	o.promises[r.Reservation] = p
	if d.Own == nil {
		o.checkOwn(r)
		o.checkOrder(r, key, since)
	}
}

// checkOwn: nobody who has a session on a host that is read and reached is given
// a new one elsewhere.
func (o *office) checkOwn(r audit.Record) {
	me, exact := r.Identity.Account()
	if !exact || o.observed == nil {
		return
	}
	for _, h := range o.hosts {
		id, s := h.of(me)
		if s == nil || h.unseen || r.Time.Sub(h.undialled) <= dialPause+time.Second {
			continue
		}
		st := o.observed.Host(h.name)
		if st.Report == nil || !st.Report.ReadAt.After(latest(s.since, s.born)) || !r.Time.After(o.observedAt) {
			continue // the broker cannot know
		}
		if o.attempts[target{h.name, id}] != nil {
			continue // it is on its way out already
		}
		o.wrong("%s was given a new session on %s (%s) beside the one on %s (session %d, active %v, since %s)",
			me, r.Decision.Host, r.Decision.Reason, h.name, id, s.active, r.Time.Sub(s.since))
	}
}

// checkOrder: a slot goes to whoever has waited longest and can have it.
func (o *office) checkOrder(r audit.Record, key string, since time.Time) {
	h := o.host(r.Decision.Host)
	for c := range o.calls {
		switch {
		case c.id.Key() == key, !c.began.Before(since), !c.queued, c.evicting, !c.touched.Before(r.Time):
			continue
		case r.Time.Sub(c.began) >= o.setup.wait, c.cancelled():
			continue // its patience ends at this moment
		case h.leavingOf(c.id), o.evictsOwn(h, c.id):
			continue // this host would put them into a session that is about to end
		case o.hasOwn(c.id):
			continue // waits for the host that has it
		case o.isPromised(c.id):
			continue // gets that, of which no word is said
		}
		if v := r.Decision.Victim; v != nil {
			if !o.mayEvict(c.id) || c.id.CouldBe(v.Session.Account) || c.id.Confidence < sessions.ConfidenceName && v.Session.ClientAddr == c.id.Client {
				continue
			}
			o.wrong("%s got the session of %s while %s had waited since %s", r.Identity.Said, v.Session.Account, c.id.Said, r.Time.Sub(c.began))
			continue
		}
		o.wrong("%s got a free slot on %s after %s while %s had waited for %s: %s", r.Identity.Said, h.name, r.Took, c.id.Said, r.Time.Sub(c.began), o.describe(h))
		o.ask = true
	}
}

// evictsOwn reports whether a session of id's is being logged off on h, or is
// about to be.
func (o *office) evictsOwn(h *host, id sessions.Identity) bool {
	for _, a := range o.attempts {
		if a.host == h && id.CouldBe(a.session.Account) {
			return true
		}
	}
	return false
}

// isPromised reports whether id holds a promise already, which it shares.
func (o *office) isPromised(id sessions.Identity) bool {
	for _, p := range o.promises {
		if p.who.Key() == id.Key() && time.Now().Before(p.expires) && !p.dropped {
			return true
		}
	}
	return false
}

// hasOwn reports whether id has a session somewhere, or had when it was read last.
func (o *office) hasOwn(id sessions.Identity) bool {
	me, exact := id.Account()
	return exact && slices.ContainsFunc(o.hosts, func(h *host) bool {
		_, s := h.of(me)
		r := o.observed.Host(h.name).Report
		return s != nil || r != nil && slices.ContainsFunc(r.Sessions, func(x sessions.Session) bool { return x.Account.Matches(me) })
	})
}

func (o *office) mayEvict(id sessions.Identity) bool {
	if id.Trusted {
		return true
	}
	_, exact := id.Account()
	return exact && id.Known && id.Confidence >= sessions.ConfidencePrefix
}

func (o *office) evicting(r audit.Record, key string) {
	v := r.Decision.Victim
	h := o.host(v.Host)
	t := target{h.name, v.Session.ID}
	if old := o.attempts[t]; old != nil && old.session.SameIncarnation(v.Session) {
		o.wrong("%s: session %d is chosen twice at once", h.name, v.Session.ID)
	}
	a := &attempt{host: h, session: v.Session, key: key, promise: r.Reservation, began: r.Time, deadline: r.Time.Add(o.setup.hardLimit + o.setup.lag)}
	if s := h.truth[v.Session.ID]; s != nil && s.account.Matches(v.Session.Account) {
		a.target = s
	}
	o.attempts[t] = a
	h.evictions = append(h.evictions, a)
	if !o.mayEvict(r.Identity) {
		o.wrong("%s is logged off for somebody who is not known: %+v", v.Session.Account, r.Identity)
	}
	for _, p := range o.promises {
		if p.own != nil && *p.own == v.Ref() && p.holdsOn(r.Time) {
			o.wrong("%s: session %d of %s is chosen while its user is on the way back", h.name, v.Session.ID, v.Session.Account)
		}
	}
}

// holdsOn reports whether the broker itself must still honour p.
func (p *promise) holdsOn(now time.Time) bool {
	return now.Before(p.expires) && !p.dropped && p.conns > 0
}

func (o *office) evictionEnded(r audit.Record, key string) {
	v := r.Decision.Victim
	t := target{v.Host, v.Session.ID}
	a := o.attempts[t]
	if a == nil || a.promise != r.Reservation {
		o.wrong("an eviction ended that never began: %s", v.Ref())
		return
	}
	s := a.host.truth[v.Session.ID]
	same := s != nil && s == a.target
	switch r.Event {
	case audit.Evicted:
		if same {
			o.wrong("%s is said to be gone and is still there", v.Ref())
		}
	case audit.EvictionRefused:
		if a.told {
			o.wrong("%s was told to go, and that is called refused: %s", v.Ref(), r.Error)
		}
		a.host.evictions = slices.DeleteFunc(a.host.evictions, func(b *attempt) bool { return a == b })
	case audit.EvictionStuck:
		// That logoff.exe was refused is not heard from a host that does not answer.
		if !a.told && !(o.setup.byText && r.Time.Before(a.host.sickUntil)) {
			o.wrong("%s is called stuck and was never told to go: %s: %s", v.Ref(), r.Error, o.describe(a.host))
		}
	}
	if same {
		s.tried = r.Time
		s.lost = s.lost || r.Event == audit.EvictionFailed && a.told
	}
	if r.Event == audit.EvictionFailed && !a.told {
		o.unknown[t] = a
	}
	delete(o.attempts, t)
}

// protected is what the policy says of an account.
func (o *office) protected(h *host, a sessions.Account) bool {
	return len(a.User) > 4 && a.User[:4] == "svc-" || a.User == pinnedUser && h.name == pinnedHost
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
