package rdpproxy

import (
	"net"
	"os"

	"github.com/rdpbroker/rdpbroker/rdpproxy/loop"
)

// leaveLoop passes the connection on to a task, which asks the router unless first is
// its answer already.
func (q *quick) leaveLoop(first *Route) {
	o := q.opening
	local := q.local()
	q.l.Stop(&o.timer)
	q.step, q.opening = finished, nil
	if o.attended {
		q.l.Forget(q.fd)
	}
	nc, err := netConn(q.fd)
	if err != nil { // out of descriptors
		q.p.loops.Load().endings.add(func() {
			switch {
			case first != nil:
				first.Held.Done(q.gone(err))
			case o.failed != nil:
				q.conn.undialled(o.route, o.failed)
			}
			q.left(errClientLeft, err)
			q.leave()
		})
		return
	}
	t := newTask(o.ctx, q.conn, nc)
	t.local = local
	q.p.serves(q.conn, t, func() {
		q.l.Go(func() {
			if o.failed != nil {
				t.failed = 1
				t.undialled(o.route, o.failed)
			}
			t.route(o.request, o.early, first)
		})
	})
}

// netConn makes a net.Conn of a connected socket.
func netConn(fd int32) (net.Conn, error) {
	f := os.NewFile(uintptr(fd), "client")
	defer f.Close() // net.FileConn duplicates it
	return net.FileConn(f)
}

// abort implements server.
func (q *quick) abort(cause error) {
	q.l.Post(func(*loop.Loop) {
		switch q.step {
		case reading:
			kind := RefusedStopping
			if cause == errCrowdedOut {
				kind = RefusedTooManyPending
			}
			q.close(kind, cause)
		case queueing:
			q.leaveEarly(cause)
		case connecting:
			q.l.Close(q.opening.host.fd)
			q.leaveEarly(cause)
		case finished:
			q.p.passOn(q.conn, q, func(by server) { by.abort(cause) })
		}
	})
}

// cut implements server.
func (q *quick) cut(cause error) {
	q.l.Post(func(*loop.Loop) {
		switch q.step {
		case relaying:
			q.pair.Cut(cause)
		case finished:
			q.p.passOn(q.conn, q, func(by server) { by.cut(cause) })
		default:
			q.abort(cause)
		}
	})
}

// moved implements server.
func (q *quick) moved() (toHost, toClient int64) { return q.pair.Moved() }
