package rdpproxy

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rdpbroker/rdpbroker/rdpproxy/loop"
	"github.com/rdpbroker/rdpbroker/rdpproxy/relay"
	"github.com/rdpbroker/rdpbroker/rdpproxy/x224"
)

// quick is a connection that a loop serves. What a loop cannot do, because it would
// have to wait for something else than a socket, it passes on to a task (leaveLoop):
// a route that takes time, a host that is found by name, one whose answer is to be
// looked at first, and a second attempt. The task may bring it back (loops.carry).
type quick struct {
	*conn
	l       *loop.Loop
	fd      int32 // of the client
	hostFD  int32 // of the host, while relaying
	step    step
	opening *opening // until a relay begins
	pair    loop.Pair
	release func()                  // of a place among the dials, where turn has none
	turn    *turn                   // the place among the dials, or the wait for one
	cancel  context.CancelCauseFunc // of the task that brought it here; may be nil
}

// step is how far a quick connection is.
type step uint8

const (
	reading    step = iota // its first packet
	queueing               // for a place among the dials to its host
	connecting             // to the host
	relaying
	finished // or a task's
)

// opening is what a connection needs only before it is relayed.
type opening struct {
	*acceptor
	timer loop.Timer  // a step takes too long
	seen  loop.Events // all of the client's
	// attended: the loop reports the client's events.
	attended bool
	partial  []byte // of the first packet, if it comes in pieces
	request  *x224.Opening
	failed   error  // why the host of route could not be reached
	early    []byte // what came behind it
	route    Route
	host     hostSocket
}

// hostSocket is the connection to a host while it is being made.
type hostSocket struct {
	q    *quick
	fd   int32
	addr netip.AddrPort
}

// open waits for the first packet.
func (q *quick) open() {
	if q.step != reading { // aborted on the way here
		return
	}
	q.read() // while much happens it is there already, and there is no event to be waited for
}

// attend has the loop report the client's events, if it does not yet.
func (q *quick) attend() error {
	if q.opening.attended {
		return nil
	}
	q.opening.attended = true
	return q.l.Register(q.fd, q, loop.Arrivals)
}

// Ready implements loop.Handler for the client's socket.
func (q *quick) Ready(_ *loop.Loop, ev loop.Events) {
	q.opening.seen |= ev
	switch {
	case q.step == reading:
		q.read()
	case q.step == queueing && ev.Ended():
		q.leaveEarly(errClientLeft)
	}
}

// read takes what has come of the first packet.
func (q *quick) read() {
	o := q.opening
	buf := q.l.Buffer()
	for {
		n, errno := loop.Recv(q.fd, buf[:x224.MaxOpening])
		switch {
		case errno == unix.EAGAIN:
			if d := q.cfg.FirstPacketTimeout; d > 0 && !q.opening.attended {
				q.l.Start(&q.opening.timer, d, q)
			}
			if err := q.attend(); err != nil {
				q.close(RefusedGone, err)
			}
			return
		case errno != 0:
			q.close(RefusedGone, errno)
			return
		}
		b := buf[:n]
		if len(o.partial) > 0 {
			o.partial = append(o.partial, b...)
			b = o.partial
		}
		request, used, err := x224.ParseOpening(b)
		switch {
		case err == x224.ErrIncomplete && n == 0:
			q.close(RefusedGone, errUnfinished)
			return
		case err == x224.ErrIncomplete:
			if len(o.partial) == 0 {
				o.partial = append(o.partial, b...)
			}
			continue
		case err != nil:
			q.close(openingKind(err, RefusedGone), err)
			return
		}
		if o.seen &^= unix.EPOLLIN; n == x224.MaxOpening { // else that was all
			o.seen |= unix.EPOLLIN
		}
		if used < len(b) {
			o.early = append(o.early, b[used:]...)
		}
		o.request, o.partial = request, nil
		q.opened()
		return
	}
}

// errUnfinished: the client ended before its first packet was complete.
var errUnfinished = fmt.Errorf("reading the first packet: %w", os.ErrClosed)

// opened asks where to, now that the first packet is there.
func (q *quick) opened() {
	q.l.Stop(&q.opening.timer)
	if !q.place.ready() {
		q.close(RefusedTooManyPending, errCrowdedOut)
		return
	}
	o := q.opening
	q.identity = caller(o.request)
	prompt, ok := q.p.router.(PromptRouter)
	if !ok {
		q.leaveLoop(nil)
		return
	}
	rt, ok := prompt.RouteNow(q.request(o.request, q.local()))
	if !ok {
		q.leaveLoop(nil)
		return
	}
	addr, err := netip.ParseAddrPort(rt.Addr)
	if err != nil || addr.Addr().Zone() != "" || rt.Accepted != nil || q.cfg.dials {
		q.leaveLoop(&rt)
		return
	}
	o.route = rt
	o.host.addr = addr
	q.dial()
}

// local is the address that the client connected to.
func (q *quick) local() netip.AddrPort {
	if local := q.opening.acceptor.local; !local.Addr().IsUnspecified() {
		return local
	}
	sa, err := unix.Getsockname(int(q.fd))
	if err != nil {
		return q.opening.acceptor.local
	}
	return sockaddr(sa)
}

// dial takes a place among the dials to the host, or waits for one.
func (q *quick) dial() {
	t, now := q.p.dials.enter(q.opening.route.Addr, q.cfg.dialsTo(q.opening.route), q.come)
	q.turn = t
	if now {
		q.connect()
		return
	}
	q.step = queueing
	if err := q.attend(); err != nil {
		q.leaveEarly(err)
		return
	}
	if d := q.cfg.DialTimeout; d > 0 {
		q.l.Start(&q.opening.timer, d, q)
	}
}

// come is the turn's: a place has been handed over, by any goroutine.
func (q *quick) come() {
	q.l.Post(func(*loop.Loop) {
		if q.step == queueing {
			q.l.Stop(&q.opening.timer)
			q.connect()
		}
	})
}

// connect dials the host.
func (q *quick) connect() {
	o := q.opening
	fd, err := dialSocket(o.host.addr)
	if err != nil {
		q.undialled(err)
		return
	}
	o.host.q, o.host.fd = q, fd
	// To a host on the same machine it is connected already, and to others never.
	raw := o.request.Request.Raw
	n, errno := loop.Send(fd, raw)
	switch errno {
	case 0:
		q.connected(raw[n:], loop.Socket{FD: fd})
		return
	case unix.EAGAIN:
	default:
		closeSocket(fd)
		q.undialled(os.NewSyscallError("connect", errno))
		return
	}
	if err := q.l.Register(fd, &o.host, loop.BothWays); err != nil {
		closeSocket(fd)
		q.undialled(err)
		return
	}
	q.step = connecting
	if err := q.attend(); err != nil {
		q.l.Close(fd)
		q.leaveEarly(err)
		return
	}
	if d := q.cfg.DialTimeout; d > 0 {
		q.l.Start(&o.timer, d, q)
	}
}

// Ready implements loop.Handler for the host's socket until it is connected.
func (h *hostSocket) Ready(l *loop.Loop, ev loop.Events) {
	q := h.q
	if ev&(unix.EPOLLERR|unix.EPOLLHUP) != 0 {
		if errno, _ := unix.GetsockoptInt(int(h.fd), unix.SOL_SOCKET, unix.SO_ERROR); errno != 0 {
			l.Close(h.fd)
			q.undialled(os.NewSyscallError("connect", syscall.Errno(errno)))
			return
		}
	}
	if ev&unix.EPOLLOUT == 0 {
		return
	}
	q.connected(q.opening.request.Request.Raw, loop.Socket{FD: h.fd, For: loop.BothWays, Seen: ev})
}

// connected sends the rest of the request on and relays.
func (q *quick) connected(rest []byte, host loop.Socket) {
	o := q.opening
	q.l.Stop(&o.timer)
	if !q.began(o.route, o.host.addr, q) {
		q.l.Close(host.FD)
		q.leaveEarly(errStopping)
		return
	}
	q.step, q.opening = relaying, nil
	q.pair.Count(int64(len(o.request.Request.Raw)-len(rest)), 0)
	q.pair.Say(append(rest[:len(rest):len(rest)], o.early...))
	if q.cfg.AnswerWait <= 0 {
		q.Answered(q.l)
	}
	q.hostFD = host.FD
	client := loop.Socket{FD: q.fd, Seen: o.seen}
	if o.attended {
		client.For = loop.Arrivals
	}
	q.l.Relay(&q.pair, client, host, o.loops.options(q.cfg), q)
}

// tuneAfter is how old a relay is when the host's socket gets its keep-alive. Those are five
// system calls, and many connections only knock: mstsc, when it is told to come back with
// another protocol, and whoever looks whether somebody is there.
const tuneAfter = 2 * time.Second

// Settled implements loop.Owner.
func (q *quick) Settled(*loop.Loop) {
	_ = tune(q.hostFD, q.cfg.KeepAlive) // a connection that is broken already fails soon enough
}

// Answered implements loop.Owner: the dial no longer counts as in flight.
func (q *quick) Answered(*loop.Loop) {
	if q.turn != nil {
		q.turn.leave()
		q.turn = nil
	}
	if q.release != nil {
		q.release()
		q.release = nil
	}
}

// Ended implements loop.Owner.
func (q *quick) Ended(_ *loop.Loop, r relay.Result) {
	q.step = finished
	q.Answered(q.l)
	if q.cancel != nil {
		q.cancel(nil)
	}
	if !q.overNow(r) {
		q.p.loops.Load().endings.add(func() { q.over(r) })
	}
}

// Expired implements loop.Expirer.
func (q *quick) Expired(*loop.Loop, *loop.Timer) {
	switch q.step {
	case reading:
		q.close(RefusedSlow, os.ErrDeadlineExceeded)
	case queueing:
		q.undialled(ErrDialQueue)
	case connecting:
		q.l.Close(q.opening.host.fd)
		q.undialled(os.NewSyscallError("connect", unix.ETIMEDOUT))
	}
}

// undialled ends the route, and has a task look for another one.
func (q *quick) undialled(err error) {
	q.Answered(q.l)
	o := q.opening
	o.failed = fmt.Errorf("dialling %s: %w", o.route.Addr, err)
	q.leaveLoop(nil)
}

// leaveEarly ends a connection that has a route and no relay yet.
func (q *quick) leaveEarly(cause error) {
	o := q.opening
	q.l.Stop(&o.timer)
	q.Answered(q.l)
	q.shut()
	q.p.loops.Load().endings.add(func() {
		o.route.Held.Done(q.gone(cause))
		q.left(cause, cause)
		q.leave()
	})
}

// close refuses a connection whose first packet is not complete, or not wanted.
func (q *quick) close(kind string, err error) {
	q.l.Stop(&q.opening.timer)
	q.refuse(kind, err)
	q.shut()
	q.leave()
}

// shut closes the client's socket.
func (q *quick) shut() {
	q.step = finished
	q.l.Close(q.fd)
}
