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
		b.pumpSoon(f, now)
	}
}

// cheapLook is how long a look at a queue may take that is never put off.
const cheapLook = time.Millisecond

// pumpSoon is pump, put off a little if the last look took long and was just now:
// a crowd must not cost a look at all of it for each one who leaves it, or there is
// time for nothing else. The caller holds mu.
func (b *Broker) pumpSoon(f *farm, now time.Time) {
	if f.lookTook <= cheapLook || time.Since(f.lookedAt) >= f.lookTook || len(f.queue) == 0 || b.closed {
		b.pump(f, now)
		return
	}
	if !f.lookSoon {
		f.lookSoon = true
		b.keepLooking(f)
		f.tick.Reset(f.lookTook)
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
	began := time.Now()
	// Of many who wait most do so in vain: what was looked at for them is not noted.
	brief := len(f.queue) > 1
	// serve takes out of the queue who is served, so that a copy is looked at.
	for _, w := range slices.Clone(f.queue) {
		b.serve(f, w, brief, now)
	}
	f.lookedAt = time.Now()
	f.lookTook, f.lookSoon = f.lookedAt.Sub(began), false
}

// serve gives w, who is in the queue, what there is for them, if there is. The
// caller holds mu.
func (b *Broker) serve(f *farm, w *waiter, brief bool, now time.Time) {
	if isClosed(w.gone) { // and about to leave the queue
		return
	}
	l := b.shared(f, w, now)
	if l == nil {
		l = b.reserve(f, w, brief, now)
	}
	if l == nil {
		return
	}
	f.dequeue(w)
	l.join()
	w.granted <- l
}

// prospect is what somebody has to hope for who comes when others wait already.
type prospect int

const (
	inVain  prospect = iota // nothing now
	inTurn                  // perhaps something, when those before them have been looked at
	outside                 // their own session, which is nobody else's
)

// prospectOf says what w has to hope for. Where that is nothing, or theirs alone, the
// others need not be looked at: a crowd, or a stranger who brings one, must not cost
// a decision for everybody with each new arrival. The caller holds mu.
func (b *Broker) prospectOf(f *farm, w *waiter, now time.Time) prospect {
	d, err := b.decision(f, w, true, now)
	if err != nil {
		return inTurn
	}
	if why := b.tooMany(f, w.id, b.settings(f.name)); why != "" && d.Own == nil {
		d = placement.Decision{Kind: placement.WaitForSlot, Class: placement.ClassTooMany, Reason: why}
	}
	w.last = d
	switch {
	case d.Own != nil:
		return outside
	case d.Host == "" && !f.mayDrop():
		return inVain
	}
	return inTurn
}

// mayDrop reports whether there may be more to give than it seems.
func (f *farm) mayDrop() bool {
	for _, l := range f.logons {
		if l.droppable() {
			return true
		}
	}
	return false
}

// fillIn adds to w's last decision what was looked at for it. The caller holds mu.
func (b *Broker) fillIn(f *farm, w *waiter, now time.Time) {
	if d, err := b.decision(f, w, false, now); err == nil {
		w.last.Candidates = d.Candidates
	}
}

// decision is what w would get now; nothing is reserved. The caller holds mu.
func (b *Broker) decision(f *farm, w *waiter, brief bool, now time.Time) (placement.Decision, error) {
	view, _, err := b.view(f, w.id, f.freeKey(w.id), now)
	if err != nil {
		return placement.Decision{}, err
	}
	view.Unproven, view.Brief = w.unproven, brief
	return placement.Decide(view, w.id, b.settings(f.name).Policy), nil
}
