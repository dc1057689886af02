package broker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/rdpbroker/rdpbroker/broker/audit"
	"github.com/rdpbroker/rdpbroker/broker/placement"
	"github.com/rdpbroker/rdpbroker/sessions"
)

// refusedPause is for how long a session that could not be logged off is left
// alone: whoever waits would otherwise ask its host again after every reading.
const refusedPause = 15 * time.Second

// stuckWhy is why a session that did not go in time is left alone.
const stuckWhy = "stuck: it was told to log off and stays"

const noEvictor = "nothing is configured that could log sessions off this host"

// eviction is one session's way out, for whoever wants it gone.
type eviction struct {
	victim placement.Victim
	host   sessions.Host
	// record is what the audit says of it at each step: everything but event,
	// time, error and how long it took.
	record audit.Record
	// stamp is what counts against the ceilings, nil for an operator's order.
	stamp *evictionStamp
	// settled is told how it ended, nil for gone; with the broker's lock held.
	settled func(err error)
	// late is told that it takes longer than the soft limit, in the same way; nil if
	// nobody wants to know.
	late func(err error)
}

// startEviction has l's victim logged off. The caller holds mu.
func (b *Broker) startEviction(l *logon, v placement.Victim, settings Farm, now time.Time) {
	b.start(&eviction{
		victim: v, host: l.host,
		record: audit.Record{Farm: l.res.Farm, Reservation: l.res.ID, Identity: l.id, Decision: l.res.Decision, Evidence: l.evidence()},
		stamp:  &evictionStamp{farm: l.res.Farm, host: v.Host, client: l.id.Client, at: now},
		late:   func(err error) { b.fail(l, err) },
		settled: func(err error) {
			if err != nil {
				b.fail(l, err)
			} else if l.failed == nil && !isClosed(l.ready) {
				b.open(l)
				b.lingerAnew(l, time.Now())
			}
		},
	}, settings, now)
}

// evidence is why somebody may be logged off for l. The caller holds mu.
func (l *logon) evidence() audit.Evidence {
	switch {
	case l.proven:
		return audit.Credentials
	case l.id.Trusted:
		return audit.TrustedClient
	}
	return audit.KnownUser
}

// start sets e off. The caller holds mu.
func (b *Broker) start(e *eviction, settings Farm, now time.Time) {
	b.leaving[e.victim.Ref()] = true
	if e.stamp != nil {
		b.evictions.add(*e.stamp)
	}
	b.recordEviction(audit.Evicting, e, now, 0, nil)

	evictor := b.deps.Evictor(e.victim.Host)
	if evictor == nil { // taken away since the decision
		b.evictionEnded(e, now, &sessions.RefusedError{Ref: e.victim.Ref(), Why: noEvictor})
		return
	}
	b.work.Add(1)
	go func() {
		defer b.work.Done()
		b.evict(e, evictor, settings, now)
	}()
}

// evict runs one eviction to its end. Whoever waits for it is told at the soft
// limit that it takes too long; the logoff goes on until the hard limit.
func (b *Broker) evict(e *eviction, evictor Evictor, settings Farm, began time.Time) {
	ctx, cancel := context.WithTimeout(context.Background(), settings.HardLimit)
	defer cancel()
	result := make(chan error, 1)
	go func() { result <- evictor.Evict(ctx, e.host, e.victim.Session) }()

	soft := time.NewTimer(settings.SoftLimit)
	defer soft.Stop()
	closing := b.closing
	for {
		select {
		case err := <-result:
			b.mu.Lock()
			b.evictionEnded(e, began, err)
			b.mu.Unlock()
			return
		case <-soft.C:
			if e.late == nil {
				continue
			}
			b.mu.Lock()
			e.late(fmt.Errorf("logging off %s takes more than %s", e.victim.Ref(), settings.SoftLimit))
			b.mu.Unlock()
		case <-closing:
			cancel() // and wait for the driver to return
			closing = nil
		}
	}
}

// evictionEnded draws the conclusions. No slot becomes free by it, neither now nor
// before a reading shows that the victim is gone, so the queue is left alone;
// whoever waited for it looks at it anew. The caller holds mu.
func (b *Broker) evictionEnded(e *eviction, began time.Time, err error) {
	now := time.Now()
	took := now.Sub(began)
	ref := e.victim.Ref()
	var refused *sessions.RefusedError
	var stuck *sessions.StuckError
	switch {
	case err == nil:
		// It stays among the leaving until a reading shows that it is gone: until
		// then its entry in the picture stands for the slot that was promised.
		b.recordEviction(audit.Evicted, e, now, took, nil)
	case errors.As(err, &refused):
		delete(b.leaving, ref)
		b.forgetEviction(e)
		b.untouchable[ref] = sessionMark{why: "its host refused: " + refused.Why, until: now.Add(refusedPause)}
		b.recordEviction(audit.EvictionRefused, e, now, took, err)
	case errors.As(err, &stuck):
		b.untouchable[ref] = sessionMark{why: stuckWhy}
		b.recordEviction(audit.EvictionStuck, e, now, took, err)
	default:
		// It may or may not have been told to go: it counts as there, and is not
		// chosen again, until a new reading some time later tells.
		delete(b.leaving, ref)
		b.untouchable[ref] = sessionMark{why: "the outcome of its logoff is not known", until: now.Add(refusedPause)}
		b.recordEviction(audit.EvictionFailed, e, now, took, err)
	}
	e.settled(err)
	b.deps.Refresh(ref.Host)
}

// fail ends l without a slot: everybody who shares it decides anew. The caller
// holds mu.
func (b *Broker) fail(l *logon, err error) {
	if isClosed(l.ready) {
		return
	}
	l.failed = err
	b.drop(l)
	close(l.ready)
}

// open says that l's slot is free; a reading that has been looked at may show more
// from now on. The caller holds mu.
func (b *Broker) open(l *logon) {
	close(l.ready)
	delete(b.farm(l.res.Farm).looked, l.host.Name)
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func (b *Broker) recordEviction(event audit.Event, e *eviction, now time.Time, took time.Duration, err error) {
	r := e.record
	r.Time, r.Event, r.Took = now, event, took
	if err != nil {
		r.Error = err.Error()
	}
	b.record(r)
}

// forgetEviction takes back the count of an eviction that touched nothing.
func (b *Broker) forgetEviction(e *eviction) {
	if e.stamp == nil {
		return
	}
	b.evictions.forget(*e.stamp)
}

// forgetMarks drops what was remembered of sessions once a reading made later
// tells: gone for good, or still there after a refusal. The caller holds mu.
func (b *Broker) forgetMarks(now time.Time) {
	gone := func(ref sessions.Ref) bool {
		h := b.snapshot.Host(ref.Host)
		if h == nil {
			return true // no longer configured
		}
		_, there := b.snapshot.Find(ref)
		return h.Report != nil && !there
	}
	for ref := range b.leaving {
		if gone(ref) {
			delete(b.leaving, ref)
		}
	}
	for ref, k := range b.kept {
		// A host that is not configured now may come back, with its sessions.
		if now.After(k.Until) || b.snapshot.Host(ref.Host) != nil && gone(ref) {
			delete(b.kept, ref)
		}
	}
	for ref, m := range b.untouchable {
		h := b.snapshot.Host(ref.Host)
		readSince := h != nil && h.Report != nil && !m.until.IsZero() && h.Report.ReadAt.After(m.until)
		if gone(ref) || readSince {
			delete(b.untouchable, ref)
		}
	}
}
