package broker

import (
	"slices"
	"time"

	"github.com/rdpbroker/rdpbroker/broker/placement"
)

// enqueue puts w into f's queue, behind everybody who came before it. The caller
// holds mu.
func (f *farm) enqueue(w *waiter) {
	i := len(f.queue)
	for i > 0 && f.queue[i-1].since.After(w.since) {
		i--
	}
	f.queue = slices.Insert(f.queue, i, w)
}

// keepLooking sees to it that f's queue is looked at from time to time. The caller
// holds mu.
func (b *Broker) keepLooking(f *farm) {
	if f.tick == nil {
		f.tick = time.AfterFunc(recheck, func() { b.recheck(f) })
	}
}

// dequeue takes w out. It reports false if the queue has served it already.
func (f *farm) dequeue(w *waiter) bool {
	i := slices.Index(f.queue, w)
	if i < 0 {
		return false
	}
	f.queue = slices.Delete(f.queue, i, i+1)
	return true
}

// recheck looks at f's queue because time has passed.
func (b *Broker) recheck(f *farm) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed || len(f.queue) == 0 {
		f.tick = nil
		return
	}
	b.pump(f, time.Now())
	f.tick.Reset(recheck)
}

func (b *Broker) pumpAll(now time.Time) {
	for _, f := range b.farms {
		b.pump(f, now)
	}
}

// pump serves whoever waits and can be served now, in the order of arrival: a
// slot that became free goes to the one who has waited longest. Somebody further
// back may still be served by what is theirs alone, their own session or a victim
// that policy gives up for them. The caller holds mu.
//
// Of a long queue this takes its time, and there may be a reading every few
// milliseconds: then the queue rests for a while, and others get their turn.
func (b *Broker) pump(f *farm, now time.Time) {
	if len(f.queue) == 0 || b.closed {
		return
	}
	if rest := f.rest.Sub(now); rest > 0 {
		if !f.resting {
			f.resting = true
			time.AfterFunc(rest, func() { b.rested(f) })
		}
		return
	}
	defer func() { f.rest = time.Now().Add(restFor * time.Since(now)) }()
	// Of many who wait most do so in vain: what was looked at for them is not noted.
	brief := len(f.queue) > 1
	// reserve below may not touch the queue, so one pass over a copy is enough.
	for _, w := range slices.Clone(f.queue) {
		l := b.shared(f, w, now)
		if l == nil {
			l = b.reserve(f, w, brief, now)
		}
		if l == nil {
			continue
		}
		f.dequeue(w)
		l.join()
		w.granted <- l
	}
}

// rested looks at f's queue again after a rest.
func (b *Broker) rested(f *farm) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f.resting = false
	b.pump(f, time.Now())
}

// inVain reports whether w, who comes when others wait already, cannot be served
// at all. Then the others need not be looked at: a crowd, or a stranger who brings
// one, must not cost a decision for everybody with each new arrival. Who could be
// served takes their turn. The caller holds mu.
func (b *Broker) inVain(f *farm, w *waiter, now time.Time) bool {
	for _, l := range f.logons {
		if l.droppable() {
			return false // there may be more to give than it seems
		}
	}
	d, err := b.decision(f, w, len(f.queue) > crowd, now)
	if err != nil {
		return false
	}
	if why := b.tooMany(f, w.id, b.settings(f.name)); why != "" && d.Own == nil {
		d = placement.Decision{Kind: placement.WaitForSlot, Class: placement.ClassTooMany, Reason: why}
	}
	w.last = d
	return d.Host == ""
}

// fillIn adds to w's last decision what was looked at for it. The caller holds mu.
func (b *Broker) fillIn(f *farm, w *waiter, now time.Time) {
	if d, err := b.decision(f, w, false, now); err == nil {
		w.last.Candidates = d.Candidates
	}
}

// decision is what w would get now, perhaps in brief; nothing is reserved. The caller
// holds mu.
func (b *Broker) decision(f *farm, w *waiter, brief bool, now time.Time) (placement.Decision, error) {
	view, _, err := b.view(f, w.id, f.freeKey(w.id), now)
	if err != nil {
		return placement.Decision{}, err
	}
	view.Unproven, view.Brief = w.unproven, brief
	return placement.Decide(view, w.id, b.settings(f.name).Policy), nil
}
