package loop

import (
	"time"

	"golang.org/x/sys/unix"
)

// wait fills l.events and returns their number. It waits in three ways:
//
//   - not at all, as long as there is something each time;
//   - then for a millisecond, without telling the scheduler, which would take the
//     thread's place away and have to give it back (two futexes and another thread
//     woken): between the exchanges of a busy connection this is where the loop is;
//   - then, told to the scheduler, until something comes. Nothing wakes an idle loop:
//     there is no tick.
//
// The second way needs one place more among GOMAXPROCS than there are loops: see
// Engine.
func (l *Loop) wait() int {
	n := pollRaw(l.ep, l.events, 0)
	if n > 0 {
		l.busy = true
		return n
	}
	if len(l.again) > 0 {
		return 0
	}
	timeout := -1
	if d, ok := l.wheel.next(l.clock()); ok {
		timeout = int((d + time.Millisecond - 1) / time.Millisecond)
	}
	l.asleep.Store(true) // before the look at the mail: who posts now wakes us, or is seen
	defer l.asleep.Store(false)
	if timeout == 0 || l.mail.any() {
		return 0
	}
	if l.busy {
		l.busy = false
		if n = pollRaw(l.ep, l.events, 1); n > 0 {
			l.busy = true
		}
		return n
	}
	n, err := unix.EpollWait(l.ep, l.events, timeout)
	if err != nil { // EINTR
		return 0
	}
	l.busy = n > 0
	return n
}
