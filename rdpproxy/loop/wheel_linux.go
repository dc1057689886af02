package loop

import (
	"math/bits"
	"time"
)

const (
	wheelTick  = 4 * time.Millisecond // deadlines may be late by so much
	wheelSlots = 1024                 // 4 s around; what is further away goes around again
)

// Timer is one deadline, part of whatever it is for: setting and stopping it costs
// a few assignments and no memory. Most deadlines of a proxy are for things that
// come in time. The zero value is a timer that is not set.
type Timer struct {
	prev, next *Timer
	tick       int64
	owner      Expirer
}

// Expirer is told that one of its timers has come.
type Expirer interface{ Expired(l *Loop, t *Timer) }

// wheel holds the timers of one loop. Nothing turns it: whoever waits asks next how
// long, and calls advance afterwards. Times are those since the loop's beginning.
type wheel struct {
	slots [wheelSlots]Timer // heads of rings
	used  [wheelSlots / 64]uint64
	tick  int64 // all timers up to this one have expired
	set   int
}

// start sets t to expire no earlier than at. t must not be set.
func (w *wheel) start(t *Timer, at time.Duration, owner Expirer) {
	t.owner = owner
	t.tick = max(int64((at+wheelTick-1)/wheelTick), w.tick+1)
	slot := t.tick % wheelSlots
	head := &w.slots[slot]
	if head.next == nil {
		head.next, head.prev = head, head
	}
	t.prev, t.next = head.prev, head
	t.prev.next, t.next.prev = t, t
	w.used[slot/64] |= 1 << (slot % 64)
	w.set++
}

// stop takes t out; it may not be set.
func (w *wheel) stop(t *Timer) {
	if t.next == nil {
		return
	}
	t.prev.next, t.next.prev = t.next, t.prev
	if slot := t.tick % wheelSlots; w.slots[slot].next == &w.slots[slot] {
		w.used[slot/64] &^= 1 << (slot % 64)
	}
	*t = Timer{}
	w.set--
}

// next is how long after now to come back; false if no timer is set. It may be too
// early, for a timer that is more than once around away.
func (w *wheel) next(now time.Duration) (time.Duration, bool) {
	if w.set == 0 {
		return 0, false
	}
	from := (w.tick + 1) % wheelSlots
	for i := range int64(len(w.used)) + 1 { // the first word twice: its upper bits, in the end the lower ones
		word := (from/64 + i) % int64(len(w.used))
		b := w.used[word]
		if i == 0 {
			b &= ^uint64(0) << (from % 64)
		}
		if b != 0 {
			slot := word*64 + int64(bits.TrailingZeros64(b))
			tick := w.tick + 1 + (slot-from+wheelSlots)%wheelSlots
			return max(time.Duration(tick)*wheelTick-now, 0), true
		}
	}
	return 0, false // not reached: set says that there is one
}

// advance takes out the timers that have come by now and hands each to expire,
// which may set and stop any.
func (w *wheel) advance(now time.Duration, expire func(t *Timer, owner Expirer)) {
	to := int64(now / wheelTick)
	if w.set == 0 {
		w.tick = max(w.tick, to)
		return
	}
	if to-w.tick > wheelSlots { // after a long sleep once around sees all
		w.tick = to - wheelSlots
	}
	for w.tick < to {
		w.tick++
		slot := w.tick % wheelSlots
		if w.used[slot/64]&(1<<(slot%64)) == 0 {
			continue
		}
		head := &w.slots[slot]
		for {
			t := head.next
			for t != head && t.tick > to {
				t = t.next
			}
			if t == head {
				break
			}
			owner := t.owner
			w.stop(t)
			expire(t, owner) // may change the ring: look from the start
		}
	}
}
