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

// conn is one accepted connection.
type conn struct {
	p        *Proxy
	cfg      *Config // as it was when the connection was accepted
	listener string
	proxied  bool // a PROXY header comes first
	nc       net.Conn
	accepted time.Time

	client, local netip.AddrPort // from the PROXY header once that is read
	place         place
	cancel        context.CancelCauseFunc
	relaying      bool // under Proxy.mu
}

// errCrowdedOut is the cause with which newer connections push out the oldest
// of too many pending ones.
var errCrowdedOut = errors.New("crowded out by newer connections")

// abort ends a connection that does not relay yet. Its goroutine cleans up.
func (c *conn) abort(cause error) {
	c.cancel(cause)
	_ = c.nc.SetReadDeadline(past()) // the opening is read without a look at the context
}

// admit checks everything that is known before the first byte.
func (c *conn) admit() (refused string) {
	if c.proxied && !trusted(c.client.Addr(), c.cfg.ProxyTrusted) {
		return RefusedProxyUntrusted
	}
	c.place.abort = func() { c.abort(errCrowdedOut) }
	if refused = c.p.limits.enter(&c.place, c.cfg); refused != "" {
		return refused
	}
	if !c.proxied {
		refused = c.place.from(c.client.Addr(), c.cfg)
	}
	return refused
}

// serve takes the connection through all steps.
func (c *conn) serve(ctx context.Context) {
	defer c.p.remove(c)
	defer c.cancel(nil)
	defer c.place.leave()
	defer c.nc.Close() // again, mostly: relay.Run has done it

	opening, early, kind, err := c.open(ctx)
	if kind != "" {
		c.refuse(kind, err)
		return
	}
	if !c.place.ready() {
		c.refuse(RefusedTooManyPending, errCrowdedOut)
		return
	}
	_ = relay.Tune(c.nc, c.cfg.KeepAlive) // a connection that is broken already fails soon enough
	c.route(ctx, opening, early)
}

// open reads everything up to the end of the Connection Request. early is what
// was read beyond it. kind is not "" if the connection is to be refused.
func (c *conn) open(ctx context.Context) (o *x224.Opening, early []byte, kind string, err error) {
	if d := c.cfg.FirstPacketTimeout; d > 0 {
		_ = c.nc.SetReadDeadline(c.accepted.Add(d)) // on failure so does the read
	}
	if err := ctx.Err(); err != nil { // the deadline of an abort may have come before ours
		return nil, nil, c.kindOf(ctx, err, ""), context.Cause(ctx)
	}
	var r io.Reader = c.nc
	var buffered *bufio.Reader
	if c.proxied {
		buffered = bufio.NewReaderSize(c.nc, 512)
		r = buffered
		if kind, err := c.openProxied(ctx, buffered); kind != "" {
			return nil, nil, kind, err
		}
	}
	o, err = x224.ReadOpening(r)
	if err != nil {
		return nil, nil, c.kindOf(ctx, err, RefusedGone), err
	}
	if buffered != nil {
		early, _ = buffered.Peek(buffered.Buffered())
	}
	_ = c.nc.SetReadDeadline(time.Time{})
	return o, early, "", nil
}

// openProxied reads the PROXY header and takes the client's address from it.
func (c *conn) openProxied(ctx context.Context, r *bufio.Reader) (kind string, err error) {
	client, local, err := readProxyHeader(r)
	if err != nil {
		return c.kindOf(ctx, err, RefusedProxyHeader), err
	}
	if client.IsValid() {
		c.client, c.local = client, local
	}
	return c.place.from(c.client.Addr(), c.cfg), nil
}

// kindOf is the kind of refusal that an error while reading the opening means.
func (c *conn) kindOf(ctx context.Context, err error, other string) string {
	var format *x224.FormatError
	switch {
	case errors.Is(context.Cause(ctx), errCrowdedOut):
		return RefusedTooManyPending
	case ctx.Err() != nil:
		return RefusedStopping
	case errors.As(err, &format):
		return string(format.Kind)
	case isTimeout(err):
		return RefusedSlow
	case errors.Is(err, io.EOF):
		return RefusedGone
	}
	return other
}

// relay sends the request on, unless ans has come already, and relays until the end.
func (c *conn) relay(ctx context.Context, o *x224.Opening, rt Route, host net.Conn, release func(), early []byte, ans *answer) {
	c.p.observe.Opened(c.listener, rt.Host, addrPort(host.RemoteAddr()))
	var out Outcome
	if ans != nil {
		out.Relay = c.goOn(ctx, o, host, early, ans)
	} else {
		out.Relay = c.exchange(ctx, o, host, release, early)
	}
	out.Duration = time.Since(c.accepted)
	rt.Done(out)
	c.p.observe.Closed(c.listener, rt.Host, out)
	c.logEnd(o, rt, "", out)
}

// exchange is the traffic with one host: the request, its answer, everything else.
func (c *conn) exchange(ctx context.Context, o *x224.Opening, host net.Conn, release func(), early []byte) relay.Result {
	defer release()
	_ = relay.Tune(host, c.cfg.KeepAlive)
	if d := c.cfg.DialTimeout; d > 0 {
		_ = host.SetWriteDeadline(time.Now().Add(d))
	}
	sent, err := host.Write(append(o.Request.Raw[:len(o.Request.Raw):len(o.Request.Raw)], early...))
	if err != nil {
		_ = host.Close()
		return relay.Result{ToHost: int64(sent), Err: err, Closer: relay.CloserHost}
	}
	var answered int64
	if c.cfg.AnswerWait > 0 {
		answered, err = firstAnswer(ctx, c.nc, host, c.cfg.AnswerWait)
	}
	release()
	r := relay.Run(ctx, c.nc, host, relay.Options{Linger: c.cfg.Linger})
	r.ToHost += int64(sent)
	r.ToClient += answered
	if err != nil && !errors.Is(err, io.EOF) && r.Err == nil { // a reset is reported only once
		r.Err, r.Closer = err, relay.CloserHost
	}
	return r
}
