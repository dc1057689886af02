package rdpproxy

import (
	"context"
	"errors"
	"time"

	"github.com/rdpbroker/rdpbroker/rdpproxy/relay"
	"github.com/rdpbroker/rdpbroker/rdpproxy/x224"
)

// route finds a host for the request, and relays.
func (c *conn) route(ctx context.Context, o *x224.Opening, early []byte) {
	routing, leave := context.WithCancelCause(ctx)
	defer leave(nil)
	w := watch(c.nc, leave)
	defer w.stop()

	req := Request{Client: c.client, Local: c.local, Listener: c.listener, Opening: o}
	var unreachable error
	for failed := 0; failed < 2; { // a host that cannot be reached gets one replacement
		rt, err := c.p.router.Route(routing, req)
		if err != nil {
			c.unrouted(routing, o, err)
			return
		}
		host, release, err := c.p.dials.dial(routing, rt.Addr, c.cfg)
		if err != nil {
			if routing.Err() == nil {
				unreachable = err
				failed++
				c.p.observe.DialFailed(rt.Host)
				rt.Done(Outcome{DialError: err, Duration: time.Since(c.accepted)})
				continue
			}
			rt.Done(c.ended(routing))
			c.unrouted(routing, o, err)
			return
		}
		var ans *answer
		if rt.Accepted != nil {
			ans, err = c.ask(routing, o.Request.Raw, host, release, rt.Accepted)
			if err != nil && routing.Err() == nil {
				_ = host.Close()
				if c.unanswered(&req, rt, err) {
					continue
				}
				return
			}
		}
		early = append(early[:len(early):len(early)], w.stop()...)
		if routing.Err() != nil || !c.p.relaying(c) {
			release()
			_ = host.Close()
			rt.Done(c.ended(routing))
			c.unrouted(routing, o, context.Cause(routing))
			return
		}
		c.relay(ctx, o, rt, host, release, early, ans)
		return
	}
	c.p.observe.Refused(c.listener, RefusedUnreachable)
	c.logEnd(o, Route{}, "no host could be reached", Outcome{DialError: unreachable})
}

// ended is the outcome of a route that came to nothing because routing ended.
func (c *conn) ended(routing context.Context) Outcome {
	cause := context.Cause(routing)
	closer := relay.CloserContext
	if errors.Is(cause, errClientLeft) {
		closer = relay.CloserClient
	}
	return Outcome{Relay: relay.Result{Err: cause, Closer: closer}, Duration: time.Since(c.accepted)}
}

// unrouted counts and logs a connection for which there is no host.
func (c *conn) unrouted(routing context.Context, o *x224.Opening, err error) {
	var no *RefusedError
	kind, what := RefusedRouterFailed, "no route"
	switch {
	case errors.Is(context.Cause(routing), errClientLeft):
		kind, what = RefusedGone, "the client left"
	case routing.Err() != nil:
		kind, what = RefusedStopping, "the proxy stops"
	case errors.As(err, &no):
		kind, what = RefusedByRouter, "refused"
	}
	c.p.observe.Refused(c.listener, kind)
	c.logEnd(o, Route{}, what, Outcome{Relay: relay.Result{Err: err}})
}
