package rdpproxy

import (
	"errors"
	"net/netip"
	"time"

	"github.com/rdpbroker/rdpbroker/rdpproxy/relay"
	"github.com/rdpbroker/rdpbroker/rdpproxy/x224"
)

// conn is one accepted connection, in whatever step and whoever serves it.
type conn struct {
	p        *Proxy
	cfg      *Config // as it was when the connection was accepted
	listener *listening
	id       uint64
	accepted time.Time

	client   netip.AddrPort // from the PROXY header once that is read
	place    place
	identity string // what the first packet says of its sender, fit for logs

	// Under Proxy.mu:
	by       server
	relayed  relayed
	relaying bool
}

// relayed is what a relay needs of its Route: many connections stay for hours and say little.
type relayed struct {
	host, why string
	resume    uint64
	held      Held
}

func (rt *Route) relayed() relayed {
	return relayed{host: rt.Host, why: rt.Why, resume: rt.Resume, held: rt.Held}
}

// server is who serves a connection at the moment: a goroutine, or a loop. Its methods
// are called under Proxy.mu and must not block. After they have passed the connection
// on to another server they may do nothing.
type server interface {
	// abort ends a connection that does not relay yet.
	abort(cause error)
	// cut ends it in any step.
	cut(cause error)
	// moved is how many bytes have been relayed so far.
	moved() (toHost, toClient int64)
}

// listening is a listener and what its connections have in common.
type listening struct {
	Listener
	p *Proxy
}

// errCrowdedOut is the cause with which newer connections push out the oldest
// of too many pending ones.
var errCrowdedOut = errors.New("crowded out by newer connections")

// admit checks everything that is known before the first byte.
func (c *conn) admit() (refused string) {
	proxied := c.listener.ProxyProtocol == ProxyRequired
	if proxied && !trusted(c.client.Addr(), c.cfg.ProxyTrusted) {
		return RefusedProxyUntrusted
	}
	c.place.owner = c
	if refused = c.p.limits.enter(&c.place, c.cfg); refused != "" {
		return refused
	}
	if !proxied {
		refused = c.place.from(c.client.Addr(), c.cfg)
	}
	return refused
}

// crowdedOut says that c's place was taken away: it is to end. It does not block.
func (c *conn) crowdedOut() {
	c.p.mu.Lock()
	defer c.p.mu.Unlock()
	if c.by != nil {
		c.by.abort(errCrowdedOut)
	}
}

// request is what the Router is asked.
func (c *conn) request(o *x224.Opening, local netip.AddrPort) Request {
	return Request{Client: c.client, Local: local, Listener: c.listener.Name, Opening: o}
}

// began says that a relay begins, with a host that was reached at the address at. It
// reports false if the proxy stops.
func (c *conn) began(rt Route, at netip.AddrPort, by server) bool {
	if !c.p.relaying(c, rt, by) {
		return false
	}
	c.p.observe.Opened(c.listener.Name, rt.Host, at)
	return true
}

// over ends a connection that was relayed.
func (c *conn) over(r relay.Result) {
	out := Outcome{Relay: r, Duration: time.Since(c.accepted)}
	c.relayed.held.Done(out)
	c.closed(out)
}

// overNow is over for a loop, which may not wait. It reports whether that was possible.
func (c *conn) overNow(r relay.Result) bool {
	out := Outcome{Relay: r, Duration: time.Since(c.accepted)}
	if !c.relayed.held.DoneNow(out) {
		return false
	}
	c.closed(out)
	return true
}

// closed counts and logs a connection that was relayed.
func (c *conn) closed(out Outcome) {
	c.p.observe.Closed(c.listener.Name, c.relayed.host, out)
	c.logEnd(c.relayed, "", out)
	c.leave()
}

// leave takes the connection out of all counts. It is the last thing that is done
// for it.
func (c *conn) leave() {
	c.place.leave()
	c.p.remove(c)
}

// gone is the outcome of a route that came to nothing because the client or the
// proxy went away first.
func (c *conn) gone(cause error) Outcome {
	closer := relay.CloserContext
	if errors.Is(cause, errClientLeft) {
		closer = relay.CloserClient
	}
	return Outcome{Relay: relay.Result{Err: cause, Closer: closer}, Duration: time.Since(c.accepted)}
}
