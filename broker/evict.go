package broker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/rdpbroker/rdpbroker/broker/audit"
	"github.com/rdpbroker/rdpbroker/broker/placement"
	"github.com/rdpbroker/rdpbroker/sessions"
)

// refusedPause is for how long a session that could not be logged off is left
// alone: whoever waits would otherwise ask its host again after every reading.
const refusedPause = 15 * time.Second

const noEvictor = "nothing is configured that could log sessions off this host"

// startEviction has the victim logged off for l. The caller holds mu.
func (b *Broker) startEviction(l *logon, v placement.Victim, settings Farm, now time.Time) {
	ref := v.Ref()
	b.leaving[ref] = true
	b.evictions = append(b.evictions, evictionStamp{host: v.Host, client: l.id.Client, at: now})
	b.recordEviction(audit.Evicting, l, now, 0, nil)

	evictor := b.deps.Evictor(v.Host)
	if evictor == nil { // taken away since the decision
		b.evictionEnded(l, ref, now, &sessions.RefusedError{Ref: ref, Why: noEvictor})
		return
	}
	b.work.Add(1)
	go func() {
		defer b.work.Done()
		b.evict(l, evictor, v, settings, now)
	}()
}

// evict runs one eviction to its end. The caller of l is told at the soft limit
// that this one takes too long; the logoff goes on until the hard limit.
func (b *Broker) evict(l *logon, evictor Evictor, v placement.Victim, settings Farm, began time.Time) {
	ctx, cancel := context.WithTimeout(context.Background(), settings.HardLimit)
	defer cancel()
	result := make(chan error, 1)
	go func() { result <- evictor.Evict(ctx, l.host, v.Session) }()

	soft := time.NewTimer(settings.SoftLimit)
	defer soft.Stop()
	closing := b.closing
	for {
		select {
		case err := <-result:
			b.mu.Lock()
			b.evictionEnded(l, v.Ref(), began, err)
			b.mu.Unlock()
			return
		case <-soft.C:
			b.mu.Lock()
			b.fail(l, fmt.Errorf("logging off %s takes more than %s", v.Ref(), settings.SoftLimit))
			b.mu.Unlock()
		case <-closing:
			cancel() // and wait for the driver to return
			closing = nil
		}
	}
}

// evictionEnded draws the conclusions. No slot becomes free by it, neither now nor
// before a reading shows that the victim is gone, so the queue is left alone;
// whoever waited for l looks at it anew. The caller holds mu.
func (b *Broker) evictionEnded(l *logon, ref sessions.Ref, began time.Time, err error) {
	now := time.Now()
	took := now.Sub(began)
	var refused *sessions.RefusedError
	var stuck *sessions.StuckError
	switch {
	case err == nil:
		// It stays among the leaving until a reading shows that it is gone: until
		// then its entry in the picture stands for the slot that l holds.
		b.recordEviction(audit.Evicted, l, now, took, nil)
		if l.failed == nil && !isClosed(l.ready) {
			close(l.ready)
			b.lingerAnew(l, now)
		}
	case errors.As(err, &refused):
		delete(b.leaving, ref)
		b.forgetEviction(evictionStamp{host: ref.Host, client: l.id.Client, at: began})
		b.untouchable[ref] = sessionMark{why: "its host refused: " + refused.Why, until: now.Add(refusedPause)}
		b.recordEviction(audit.EvictionRefused, l, now, took, err)
		b.fail(l, err)
	case errors.As(err, &stuck):
		b.untouchable[ref] = sessionMark{why: "stuck: it was told to log off and stays"}
		b.recordEviction(audit.EvictionStuck, l, now, took, err)
		b.fail(l, err)
	default:
		// It may or may not have been told to go: it counts as there, and is not
		// chosen again, until a new reading some time later tells.
		delete(b.leaving, ref)
		b.untouchable[ref] = sessionMark{why: "the outcome of its logoff is not known", until: now.Add(refusedPause)}
		b.recordEviction(audit.EvictionFailed, l, now, took, err)
		b.fail(l, err)
	}
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

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func (b *Broker) recordEviction(e audit.Event, l *logon, now time.Time, took time.Duration, err error) {
	r := audit.Record{
		Time: now, Event: e, Farm: l.res.Farm, Reservation: l.res.ID,
		Identity: l.id, Decision: l.res.Decision, Took: took,
	}
	if err != nil {
		r.Error = err.Error()
	}
	b.record(r)
}

// forgetEviction takes back the count of an eviction that touched nothing.
func (b *Broker) forgetEviction(stamp evictionStamp) {
	if i := slices.Index(b.evictions, stamp); i >= 0 {
		b.evictions = slices.Delete(b.evictions, i, i+1)
	}
}

// countEvictions fills the ceilings' counts of v for the caller id.
func (b *Broker) countEvictions(v *placement.View, id sessions.Identity, now time.Time) {
	recent := b.evictions[:0]
	for _, e := range b.evictions {
		if now.Sub(e.at) >= ceilingWindow {
			continue
		}
		recent = append(recent, e)
		v.EvictionsByHost[e.host]++
		if e.client == id.Client {
			v.EvictionsByClient++
		}
	}
	b.evictions = recent
}

// forgetMarks drops what was remembered of sessions once a reading made later
// tells: gone for good, or still there after a refusal. The caller holds mu.
func (b *Broker) forgetMarks() {
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
	for ref, m := range b.untouchable {
		h := b.snapshot.Host(ref.Host)
		readSince := h != nil && h.Report != nil && !m.until.IsZero() && h.Report.ReadAt.After(m.until)
		if gone(ref) || readSince {
			delete(b.untouchable, ref)
		}
	}
}
