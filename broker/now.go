package broker

import (
	"time"

	"github.com/rdpbroker/rdpbroker/sessions"
)

// tryLock takes mu if it is free, or becomes so soon. Whoever holds it is about to let go
// of it, and runs or waits for a processor, which they are given; or takes in a reading
// or looks at a long queue, which is not waited for.
func (b *Broker) tryLock() bool {
	for range 32 {
		for range 100 { // about the time that a decision takes, all in all
			if b.mu.TryLock() {
				return true
			}
		}
		yield()
	}
	return false
}

// AdmitNow is Admit for whoever must not be kept waiting: it never blocks. It gives
// callers what needs no waiting: the slot they hold already, their own session, a
// free slot, one that becomes free by proof. false means that Admit is to be asked,
// which may wait; nothing is recorded then and nobody has lost their place.
func (b *Broker) AdmitNow(farmName string, id sessions.Identity) (*Assignment, bool) {
	if !b.tryLock() {
		return nil, false
	}
	defer b.mu.Unlock()
	now := time.Now()
	f := b.farm(farmName)
	w := &waiter{id: id, since: now}
	l := b.shared(f, w, now)
	if l == nil && !b.closed && len(f.queue) == 0 { // nobody overtakes those who wait
		l = b.reserve(f, w, false, now)
	}
	switch {
	case l == nil, b.closed:
		return nil, false
	case l.awaitsProof():
		l.join()
		return b.assignUntilProof(l), true
	case !isClosed(l.ready) || l.failed != nil:
		return nil, false // somebody is being logged off: Admit finds l and waits for that
	}
	l.join()
	return b.assign(l), true
}

// CloseNow is Close for whoever must not be kept waiting: it never blocks. false means
// that nothing was done, and that Close is to be called.
func (h *Hold) CloseNow(dialErr error) bool {
	b, l := h.b, h.l
	if l == nil || h.closed.Load() {
		h.Close(dialErr)
		return true
	}
	if !b.tryLock() {
		return false
	}
	defer b.mu.Unlock()
	if len(b.farm(l.res.Farm).queue) > 0 { // of whom each may have to be looked at
		return false
	}
	if !h.closed.Swap(true) {
		b.parted(l, dialErr)
	}
	return true
}
