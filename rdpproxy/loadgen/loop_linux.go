package loadgen

import (
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// conn is one connection in a loop.
type conn struct {
	fd     int
	events uint32 // that are waited for
	ready  func(c *conn, events uint32)

	// For whoever owns it.
	began time.Time
	stage int
	got   int
	left  int64
}

// loop is one epoll loop. All of its calls belong to one goroutine, which locks
// its thread.
type loop struct {
	ep     int
	conns  []*conn // by descriptor; nil: not open
	spare  []*conn
	events []unix.EpollEvent
	buf    []byte
	timer  *conn
}

// largest is the most that is read or written at once.
const largest = 256 << 10

func newLoop() (*loop, error) {
	ep, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll: %w", err)
	}
	runtime.LockOSThread()
	return &loop{ep: ep, events: make([]unix.EpollEvent, 512), buf: make([]byte, largest)}, nil
}

// close closes everything. Connections end with a reset, so that no address waits
// for late packets: there are more connections in a minute than ports.
func (l *loop) close() {
	for _, c := range l.conns {
		if c != nil {
			l.drop(c)
		}
	}
	unix.Close(l.ep)
	runtime.UnlockOSThread()
}

// add has events of fd handled by ready.
func (l *loop) add(fd int, events uint32, ready func(*conn, uint32)) (*conn, error) {
	if err := unix.EpollCtl(l.ep, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: events, Fd: int32(fd)}); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("epoll: %w", err)
	}
	for len(l.conns) <= fd {
		l.conns = append(l.conns, nil)
	}
	c := &conn{}
	if n := len(l.spare); n > 0 {
		c, l.spare = l.spare[n-1], l.spare[:n-1]
	}
	*c = conn{fd: fd, events: events, ready: ready}
	l.conns[fd] = c
	return c, nil
}

// wait changes what c waits for.
func (l *loop) wait(c *conn, events uint32) {
	if c.events == events {
		return
	}
	c.events = events
	_ = unix.EpollCtl(l.ep, unix.EPOLL_CTL_MOD, c.fd, &unix.EpollEvent{Events: events, Fd: int32(c.fd)})
}

// drop ends c with a reset.
func (l *loop) drop(c *conn) {
	if c != l.timer {
		_ = unix.SetsockoptLinger(c.fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	}
	l.end(c)
}

// end closes c.
func (l *loop) end(c *conn) {
	unix.Close(c.fd)
	l.conns[c.fd] = nil
	l.spare = append(l.spare, c)
}

// run handles events until the time is over or until says so. A zero time is none.
func (l *loop) run(end time.Time, until func() bool) error {
	for {
		wait := -1
		if !end.IsZero() {
			d := time.Until(end)
			if d <= 0 {
				return nil
			}
			wait = int(d/time.Millisecond) + 1
		}
		n, err := unix.EpollWait(l.ep, l.events, wait)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("epoll: %w", err)
		}
		for _, e := range l.events[:max(0, n)] {
			// One that was closed by an event before it is gone. (Its descriptor may be in
			// use anew: then this says too early that it is ready, which does no harm.)
			if c := l.conns[e.Fd]; c != nil {
				c.ready(c, e.Events)
			}
		}
		if until != nil && until() {
			return nil
		}
	}
}

// every calls tick each time that d has passed, as exactly as the system can.
func (l *loop) every(d time.Duration, tick func()) error {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return fmt.Errorf("timer: %w", err)
	}
	spec := unix.NsecToTimespec(d.Nanoseconds())
	if err := unix.TimerfdSettime(fd, 0, &unix.ItimerSpec{Interval: spec, Value: spec}, nil); err != nil {
		unix.Close(fd)
		return fmt.Errorf("timer: %w", err)
	}
	l.timer, err = l.add(fd, unix.EPOLLIN, func(*conn, uint32) {
		var n [8]byte
		if _, err := unix.Read(fd, n[:]); err == nil {
			tick()
		}
	})
	return err
}

// connect begins a connection from an address (invalid: any) to another one.
func (l *loop) connect(from netip.Addr, to netip.AddrPort, ready func(*conn, uint32)) (*conn, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("socket: %w", err)
	}
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	if from.IsValid() {
		// The port is chosen with the connection, from those free for its two ends.
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
		if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: from.As4()}); err != nil {
			unix.Close(fd)
			return nil, fmt.Errorf("bind to %s: %w", from, err)
		}
	}
	err = unix.Connect(fd, &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()})
	if err != nil && !errors.Is(err, unix.EINPROGRESS) {
		unix.Close(fd)
		return nil, fmt.Errorf("connect to %s: %w", to, err)
	}
	return l.add(fd, unix.EPOLLOUT, ready)
}
