package rdpproxy

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"time"

	"github.com/rdpbroker/rdpbroker/rdpproxy/relay"
	"github.com/rdpbroker/rdpbroker/rdpproxy/x224"
)

// task is a connection that a goroutine serves: every one where there are no loops,
// and those that have to wait for something a loop cannot wait for.
type task struct {
	*conn
	nc     net.Conn
	failed int            // dials, before the task had it
	local  netip.AddrPort // from the PROXY header once that is read
	ctx    context.Context
	cancel context.CancelCauseFunc
}

// newTask makes the task of c, which is nc. Its context ends with an abort or a cut.
func newTask(ctx context.Context, c *conn, nc net.Conn) *task {
	t := &task{conn: c, nc: nc, local: addrPort(nc.LocalAddr())}
	t.ctx, t.cancel = context.WithCancelCause(ctx)
	return t
}

// abort implements server. The task's goroutine cleans up.
func (t *task) abort(cause error) {
	t.cancel(cause)
	_ = t.nc.SetReadDeadline(past()) // the opening is read without a look at the context
}

// cut implements server.
func (t *task) cut(cause error) { t.cancel(cause) }

// moved implements server. It is not known before the end.
func (t *task) moved() (toHost, toClient int64) { return 0, 0 }

// serve takes the connection through all steps.
func (t *task) serve() {
	opening, early, kind, err := t.open()
	if kind == "" && !t.place.ready() {
		kind, err = RefusedTooManyPending, errCrowdedOut
	}
	if kind != "" {
		t.refuse(kind, err)
		t.end()
		return
	}
	_ = relay.Tune(t.nc, t.cfg.KeepAlive) // a connection that is broken already fails soon enough
	t.identity = caller(opening)
	t.route(opening, early, nil)
}

// end ends a connection that was not relayed.
func (t *task) end() {
	t.cancel(nil)
	_ = t.nc.Close()
	t.leave()
}

// open reads everything up to the end of the Connection Request. early is what
// was read beyond it. kind is not "" if the connection is to be refused.
func (t *task) open() (o *x224.Opening, early []byte, kind string, err error) {
	if d := t.cfg.FirstPacketTimeout; d > 0 {
		_ = t.nc.SetReadDeadline(t.accepted.Add(d)) // on failure so does the read
	}
	if err := t.ctx.Err(); err != nil { // the deadline of an abort may have come before ours
		return nil, nil, t.kindOf(err, ""), context.Cause(t.ctx)
	}
	var r io.Reader = t.nc
	var buffered *bufio.Reader
	if t.listener.ProxyProtocol == ProxyRequired {
		buffered = bufio.NewReaderSize(t.nc, 512)
		r = buffered
		if kind, err := t.openProxied(buffered); kind != "" {
			return nil, nil, kind, err
		}
	}
	o, err = x224.ReadOpening(r)
	if err != nil {
		return nil, nil, t.kindOf(err, RefusedGone), err
	}
	if buffered != nil {
		early, _ = buffered.Peek(buffered.Buffered())
	}
	_ = t.nc.SetReadDeadline(time.Time{})
	return o, early, "", nil
}

// openProxied reads the PROXY header and takes the client's address from it.
func (t *task) openProxied(r *bufio.Reader) (kind string, err error) {
	client, local, err := readProxyHeader(r)
	if err != nil {
		return t.kindOf(err, RefusedProxyHeader), err
	}
	if client.IsValid() {
		t.p.mu.Lock() // Connections may look
		t.client, t.local = client, local
		t.p.mu.Unlock()
	}
	return t.place.from(t.client.Addr(), t.cfg), nil
}

// kindOf is the kind of refusal that an error while reading the opening means.
func (t *task) kindOf(err error, other string) string {
	switch {
	case errors.Is(context.Cause(t.ctx), errCrowdedOut):
		return RefusedTooManyPending
	case t.ctx.Err() != nil:
		return RefusedStopping
	}
	return openingKind(err, other)
}

// openingKind is the kind of refusal that err means, or other.
func openingKind(err error, other string) string {
	var format *x224.FormatError
	switch {
	case errors.As(err, &format):
		return string(format.Kind)
	case isTimeout(err):
		return RefusedSlow
	case errors.Is(err, io.EOF):
		return RefusedGone
	}
	return other
}

// relay sends what the client has said already on to the host, and relays until the
// end: on a loop if there is one, else here. told is what the client has been told.
func (t *task) relay(host net.Conn, release func(), toHost []byte, already relay.Result, w *relay.Watch) {
	if t.p.loops.Load().carry(t, host, release, toHost, already, w) {
		return
	}
	defer t.cancel(nil)
	r := t.exchange(host, release, toHost, w)
	r.ToHost += already.ToHost
	r.ToClient += already.ToClient
	t.over(r)
}

// exchange is the traffic with one host.
func (t *task) exchange(host net.Conn, release func(), toHost []byte, w *relay.Watch) relay.Result {
	defer release()
	if d := t.cfg.DialTimeout; d > 0 {
		_ = host.SetWriteDeadline(time.Now().Add(d))
	}
	sent, err := host.Write(toHost)
	if err != nil {
		_, _ = host.Close(), t.nc.Close()
		return relay.Result{ToHost: int64(sent), Err: err, Closer: relay.CloserHost}
	}
	var answered int64
	if t.cfg.AnswerWait > 0 && w == nil {
		answered, err = firstAnswer(t.ctx, t.nc, host, t.cfg.AnswerWait)
	}
	release()
	r := relay.Run(t.ctx, t.nc, host, relay.Options{Linger: t.cfg.Linger, Watch: w})
	r.ToHost += int64(sent)
	r.ToClient += answered
	if err != nil && !errors.Is(err, io.EOF) && r.Err == nil { // a reset is reported only once
		r.Err, r.Closer = err, relay.CloserHost
	}
	return r
}
