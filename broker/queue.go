package broker

import (
	"slices"
	"time"
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
func (b *Broker) pump(f *farm, now time.Time) {
	if len(f.queue) == 0 || b.closed {
		return
	}
	// reserve below may not touch the queue, so one pass over a copy is enough.
	for _, w := range slices.Clone(f.queue) {
		l := b.shared(f, w, now)
		if l == nil {
			l = b.reserve(f, w, now)
		}
		if l == nil {
			continue
		}
		f.dequeue(w)
		l.join()
		w.granted <- l
	}
}
