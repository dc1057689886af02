package loop

import (
	"time"

	"golang.org/x/sys/unix"
)

// attentive is how long a loop that has just had something to do waits without telling
// the scheduler. A connection that somebody works on has something more often.
const attentive = 20 * time.Millisecond

// wait fills l.events and returns their number. It waits in three ways:
//
//   - not at all, as long as there is something each time. Where there was more than one
//     thing, others may be at work on the next: it lets them have the processor first.
//     Going to sleep and being woken for each single event cost a tenth of all that
//     a short connection takes;
//   - then for as long as it is attentive, without telling the scheduler: that would
//     take the thread's place away and have to give it back, and the scheduler's monitor
//     would look at it every 20 microseconds. On a quiet machine that costs more than
//     an exchange of a connection;
//   - then, told to the scheduler, until something comes. Nothing wakes an idle loop:
//     there is no tick.
//
// The second way holds one place among GOMAXPROCS: see Engine.
func (l *Loop) wait() int {
	for crowded := l.came > 1; ; crowded = false {
		if n := pollRaw(l.ep, l.events, 0); n > 0 {
			return n
		}
		if len(l.again) > 0 {
			return 0
		}
		if !crowded {
			break
		}
		yield()
	}
	now := l.clock()
	timeout := time.Duration(-1)
	if d, ok := l.wheel.next(now); ok {
		timeout = d
	}
	l.asleep.Store(true) // before the look at the mail: who posts now wakes us, or is seen
	defer l.asleep.Store(false)
	if timeout == 0 || l.mail.any() {
		return 0
	}
	if left := l.waking - now; left > 0 {
		if timeout < 0 || left < timeout {
			timeout = left
		}
		return pollRaw(l.ep, l.events, milliseconds(timeout))
	}
	n, err := unix.EpollWait(l.ep, l.events, milliseconds(timeout))
	if err != nil { // EINTR
		return 0
	}
	return n
}

// milliseconds rounds d up; a time that is negative is without end.
func milliseconds(d time.Duration) int {
	if d < 0 {
		return -1
	}
	return int((d + time.Millisecond - 1) / time.Millisecond)
}
