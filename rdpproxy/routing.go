package rdpproxy

import (
	"context"
	"errors"
	"time"

	"github.com/rdpbroker/rdpbroker/rdpproxy/relay"
	"github.com/rdpbroker/rdpbroker/rdpproxy/x224"
)

// route finds a host for the request, and relays. first, if not nil, is a route that
// the router has given already.
func (t *task) route(o *x224.Opening, early []byte, first *Route) {
	routing, leave := context.WithCancelCause(t.ctx)
	defer leave(nil)
	w := watch(t.nc, leave)
	defer w.stop()

	req := t.request(o, t.local)
	var unreachable error
	for failed := t.failed; failed < 2; { // a host that cannot be reached gets one replacement
		rt, err := t.ask(routing, req, &first)
		if err != nil {
			t.unrouted(routing, err)
			t.end()
			return
		}
		host, release, err := t.p.dials.dial(routing, rt, t.cfg)
		if err != nil {
			if routing.Err() == nil {
				unreachable = err
				failed++
				t.undialled(rt, err)
				continue
			}
			rt.Held.Done(t.gone(context.Cause(routing)))
			t.unrouted(routing, err)
			t.end()
			return
		}
		_ = relay.Tune(host, t.cfg.KeepAlive)
		var ans *answer
		if rt.Accepted != nil {
			ans, err = t.question(routing, o.Request.Raw, host, release, rt.Accepted)
			if err != nil && routing.Err() == nil {
				_ = host.Close()
				if t.unanswered(&req, rt, err) {
					continue
				}
				t.end()
				return
			}
		}
		early = append(early[:len(early):len(early)], w.stop()...)
		if routing.Err() != nil || !t.began(rt, addrPort(host.RemoteAddr()), t) {
			release()
			_ = host.Close()
			rt.Held.Done(t.gone(context.Cause(routing)))
			t.unrouted(routing, context.Cause(routing))
			t.end()
			return
		}
		if ans != nil {
			t.goOn(o, host, early, ans)
			return
		}
		t.relay(host, release, append(o.Request.Raw[:len(o.Request.Raw):len(o.Request.Raw)], early...), relay.Result{}, nil)
		return
	}
	t.unreached(unreachable)
	t.end()
}

// ask asks the router, unless it has answered already.
func (t *task) ask(routing context.Context, req Request, first **Route) (Route, error) {
	if rt := *first; rt != nil {
		*first = nil
		return *rt, nil
	}
	return t.p.router.Route(routing, req)
}

// undialled ends a route whose host could not be reached.
func (c *conn) undialled(rt Route, err error) {
	c.p.observe.DialFailed(rt.Host)
	rt.Held.Done(Outcome{DialError: err, Duration: time.Since(c.accepted)})
}

// unreached counts and logs a connection for which no host could be reached.
func (c *conn) unreached(err error) {
	c.p.observe.Refused(c.listener.Name, RefusedUnreachable)
	c.logEnd(relayed{}, "no host could be reached", Outcome{DialError: err})
}

// unrouted counts and logs a connection for which there is no host.
func (t *task) unrouted(routing context.Context, err error) {
	if routing.Err() != nil {
		t.left(context.Cause(routing), err)
		return
	}
	var no *RefusedError
	kind, what := RefusedRouterFailed, "no route"
	if errors.As(err, &no) {
		kind, what = RefusedByRouter, "refused"
	}
	t.p.observe.Refused(t.listener.Name, kind)
	t.logEnd(relayed{}, what, Outcome{Relay: relay.Result{Err: err}})
}

// left counts and logs a connection that ended before it had a host, by cause; err is
// what that brought about.
func (c *conn) left(cause, err error) {
	kind, what := RefusedStopping, "the proxy stops"
	if errors.Is(cause, errClientLeft) {
		kind, what = RefusedGone, "the client left"
	}
	c.p.observe.Refused(c.listener.Name, kind)
	c.logEnd(relayed{}, what, Outcome{Relay: relay.Result{Err: err}})
}
