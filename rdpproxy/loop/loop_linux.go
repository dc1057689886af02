package loop

import (
	"fmt"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Events are what epoll reports of a descriptor: unix.EPOLLIN and so on.
type Events uint32

// Ended reports whether the peer has ended its half, or the connection is broken.
func (ev Events) Ended() bool { return ev&(unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0 }

const (
	// bufferSize is what one read can take. 64 KB: what reads more in a row is
	// spliced, and what a stalled receiver leaves of it is kept for as long as it stalls.
	bufferSize = 64 << 10
	// batch is how many events are taken at once.
	batch = 256
)

// Loop waits for the descriptors that were given to it and calls their handlers,
// all on one goroutine: whatever is said below to be for the loop's own goroutine
// is to be called by handlers, timers and posted work only.
type Loop struct {
	ep, wake int // epoll, and an eventfd that interrupts its wait
	began    time.Time
	now      time.Duration
	events   []unix.EpollEvent
	waking   time.Duration // until when it is attentive, see wait
	came     int           // events, the last time
	handed   bool          // something was handed to another goroutine
	stopped  bool

	table table
	wheel wheel
	buf   []byte
	pool  pool
	again []*Pair // have used up their share, and there is more
	spare []*Pair // for again

	mail   mailbox
	asleep atomic.Bool
	load   atomic.Int64 // pairs
}

// mailbox is work that comes from elsewhere.
type mailbox struct {
	mu    sync.Mutex
	tasks []func(l *Loop)
	spare []func(l *Loop)
	some  atomic.Bool
}

func (m *mailbox) any() bool { return m.some.Load() }

func newLoop() (*Loop, error) {
	ep, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		_ = unix.Close(ep)
		return nil, os.NewSyscallError("eventfd", err)
	}
	l := &Loop{
		ep: ep, wake: wake, began: time.Now(), events: make([]unix.EpollEvent, batch), buf: make([]byte, bufferSize),
	}
	// Edge-triggered: each write is an event, and nobody needs to read the counter.
	if err := l.Register(int32(wake), awoken{}, unix.EPOLLIN|unix.EPOLLET); err != nil {
		l.close()
		return nil, err
	}
	return l, nil
}

// awoken is behind the eventfd: that the wait is over is all it is for.
type awoken struct{}

func (awoken) Ready(*Loop, Events) {}

func (l *Loop) close() {
	l.pool.close()
	_ = unix.Close(l.wake)
	_ = unix.Close(l.ep)
}

// run serves until something posted sets stopped.
func (l *Loop) run() {
	expire := func(t *Timer, owner Expirer) { owner.Expired(l, t) }
	for !l.stopped {
		n := l.wait()
		l.came, l.now = n, l.clock()
		if n > 0 {
			l.waking = l.now + attentive
		}
		for i := range n {
			ev := &l.events[i]
			if h := l.table.get(ev.Fd, ev.Pad); h != nil {
				h.Ready(l, Events(ev.Events))
			}
		}
		l.wheel.advance(l.now, expire)
		l.work()
		l.goOn()
		if l.handed {
			l.handed = false
			runtime.Gosched()
		}
	}
}

// Go runs f on a goroutine of its own, at once: it would begin in line behind the loop
// otherwise, which may hold its place for as long as it is attentive. For the loop's own
// goroutine.
func (l *Loop) Go(f func()) {
	l.handed = true
	go f()
}

// work does what was posted.
func (l *Loop) work() {
	if !l.mail.any() {
		return
	}
	m := &l.mail
	m.mu.Lock()
	tasks := m.tasks
	m.tasks, m.spare = m.spare[:0], nil
	m.some.Store(false)
	m.mu.Unlock()
	for i, task := range tasks {
		task(l)
		tasks[i] = nil
	}
	m.mu.Lock()
	if m.spare == nil {
		m.spare = tasks[:0]
	}
	m.mu.Unlock()
}

// goOn gives each pair that had more than its share its next one.
func (l *Loop) goOn() {
	pairs := l.again
	l.again, l.spare = l.spare[:0], nil
	for i, p := range pairs {
		pairs[i] = nil
		p.queued = false
		p.pump()
	}
	l.spare = pairs[:0]
}

// Post has task called on the loop's goroutine, soon, in order. It may be called
// from anywhere and does not block. A loop that has ended calls nothing any more.
func (l *Loop) Post(task func(l *Loop)) {
	m := &l.mail
	m.mu.Lock()
	m.tasks = append(m.tasks, task)
	m.some.Store(true)
	m.mu.Unlock()
	if l.asleep.Load() {
		_, _ = unix.Write(l.wake, []byte{1, 0, 0, 0, 0, 0, 0, 0}) // fails only if it is woken already
	}
}

// Now is the time since the loop began, as of the events that are being handled.
// For the loop's own goroutine.
func (l *Loop) Now() time.Duration { return l.now }

// Began is when Now was 0.
func (l *Loop) Began() time.Time { return l.began }

func (l *Loop) clock() time.Duration { return time.Since(l.began) }

// Buffer is what handlers may read into; it is anybody's again when they return.
// For the loop's own goroutine.
func (l *Loop) Buffer() []byte { return l.buf }

// Register waits for events of fd on behalf of h. For the loop's own goroutine.
func (l *Loop) Register(fd int32, h Handler, ev Events) error {
	generation := l.table.add(fd, h)
	err := unix.EpollCtl(l.ep, unix.EPOLL_CTL_ADD, int(fd), &unix.EpollEvent{Events: uint32(ev), Fd: fd, Pad: generation})
	if err != nil {
		l.table.remove(fd)
		return fmt.Errorf("loop: %w", os.NewSyscallError("epoll_ctl", err))
	}
	return nil
}

// What a Pair wants to hear of its sockets. Registered for Arrivals, a socket says
// nothing before something has come; for both ways it says at once that it can be
// written, which nobody needs to be told who has just done it.
const (
	Arrivals Events = unix.EPOLLIN | unix.EPOLLRDHUP | unix.EPOLLET
	BothWays Events = Arrivals | unix.EPOLLOUT
)

// change is Register for other events of fd, whose handler stays. What is the case
// already is reported again.
func (l *Loop) change(fd int32, ev Events) error {
	err := unix.EpollCtl(l.ep, unix.EPOLL_CTL_MOD, int(fd), &unix.EpollEvent{Events: uint32(ev), Fd: fd, Pad: l.table.at(fd).generation})
	return os.NewSyscallError("epoll_ctl", err)
}

// Forget ends the waiting for fd, which stays open. For the loop's own goroutine.
func (l *Loop) Forget(fd int32) {
	l.table.remove(fd)
	_ = unix.EpollCtl(l.ep, unix.EPOLL_CTL_DEL, int(fd), nil) // closed descriptors leave by themselves
}

// Close closes fd, which is registered. For the loop's own goroutine.
func (l *Loop) Close(fd int32) {
	l.table.remove(fd)
	closeFD(fd)
}

// Start sets t to expire after d. For the loop's own goroutine.
func (l *Loop) Start(t *Timer, d time.Duration, owner Expirer) {
	l.wheel.stop(t)
	l.wheel.start(t, l.now+d, owner)
}

// Stop stops t, which may not be set. For the loop's own goroutine.
func (l *Loop) Stop(t *Timer) { l.wheel.stop(t) }
