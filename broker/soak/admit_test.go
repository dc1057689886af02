package soak

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/rdpbroker/rdpbroker/broker"
	"github.com/rdpbroker/rdpbroker/broker/identity"
	"github.com/rdpbroker/rdpbroker/rdpproxy"
	"github.com/rdpbroker/rdpbroker/rdpproxy/x224"
	"github.com/rdpbroker/rdpbroker/sessions"
)

// Route implements rdpproxy.Router.
func (o *office) Route(ctx context.Context, req rdpproxy.Request) (rdpproxy.Route, error) {
	o.mu.Lock()
	v := o.clients[req.Client]
	o.mu.Unlock()
	if v == nil {
		return rdpproxy.Route{}, errors.New("a client that nobody is")
	}
	hint := identity.Hint{Client: req.Client.Addr(), Cookie: req.Opening.Request.Cookie}
	if ap, ok := x224.ParseMSTSToken(req.Opening.Request.Token); ok {
		hint.HostToken = ap
	}
	g, err := o.admit(ctx, v.u, hint)
	if err != nil {
		var refused *broker.RefusedError
		if errors.As(err, &refused) {
			err = &rdpproxy.RefusedError{Reason: err.Error()}
		}
		return rdpproxy.Route{}, err
	}
	o.mu.Lock()
	v.g = g
	o.mu.Unlock()
	return rdpproxy.Route{
		Host: g.host.name, Addr: g.assignment.Host.Addr, Why: g.assignment.Decision.Kind.String(),
		Held: rdpproxy.DoneFunc(func(out rdpproxy.Outcome) {
			if errors.Is(out.DialError, rdpproxy.ErrDialQueue) {
				out.DialError = nil
			}
			g.close(out.DialError)
		}),
	}, nil
}

// dialHost connects the proxy to a host, which now and then does not answer.
func (o *office) dialHost(ctx context.Context, network, addr string) (net.Conn, error) {
	h := o.hostAt(addr)
	o.mu.Lock()
	fails := h.off.Load() || o.faults.IntN(25) == 0
	o.mu.Unlock()
	if fails {
		o.count("dials that failed")
		return nil, errors.New("connection refused")
	}
	return o.net.Dialer(brokerAddr)(ctx, network, addr)
}

func (o *office) host(name string) *host {
	for _, h := range o.hosts {
		if h.name == name {
			return h
		}
	}
	panic("no host " + name)
}

func (o *office) hostAt(addr string) *host {
	ap := netip.MustParseAddrPort(addr)
	return o.hosts[slices.IndexFunc(o.hosts, func(h *host) bool { return h.addr == ap.Addr() })]
}

// granted is a connection that the broker has sent to a host.
type granted struct {
	o          *office
	u          *user
	host       *host
	id         sessions.Identity
	assignment *broker.Assignment
	promise    *promise
	// stale: it was decided on by a reading that was too old for anything but the way
	// back to one's own session.
	stale bool
	once  sync.Once
}

// close tells the broker that the connection has ended.
func (g *granted) close(dialErr error) {
	g.once.Do(func() {
		g.o.mu.Lock()
		g.promise.conns--
		g.promise.closed = time.Now()
		g.host.tell("%s leaves reservation %d (%v)", g.u.account, g.promise.id, dialErr)
		if dialErr == nil {
			g.promise.reached = true
		} else {
			g.host.undialled = time.Now()
			g.promise.dropped = !g.promise.reached && g.promise.conns == 0
		}
		g.o.mu.Unlock()
		g.assignment.Close(dialErr)
	})
}

// admit asks the broker for a host, and keeps the books.
func (o *office) admit(ctx context.Context, u *user, hint identity.Hint) (*granted, error) {
	id := o.resolver.Resolve(hint, o.inventory.Snapshot())
	c := &call{u: u, id: id, began: time.Now(), touched: time.Now(), ctx: ctx}
	o.mu.Lock()
	o.calls[c] = true
	o.counts["asked, confidence "+id.Confidence.String()]++
	o.mu.Unlock()
	a, ok := o.broker.AdmitNow(farmName, id)
	var err error
	if !ok {
		a, err = o.broker.Admit(ctx, farmName, id)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.calls, c)
	if err != nil {
		var refused *broker.RefusedError
		if !errors.As(err, &refused) && ctx.Err() == nil && !errors.Is(err, broker.ErrClosed) {
			o.wrong("%s: %v", u.account, err)
		}
		return nil, err
	}
	p := o.promises[a.Reservation]
	if p == nil || p.host.name != a.Host.Name {
		o.wrong("%s was sent to %s without a decision in the audit", u.account, a.Host.Name)
		return nil, errors.New("no decision")
	}
	now := time.Now()
	// Whoever comes back alone, and after a reading, is decided for anew.
	stale := o.stale(p.host, now) || p.stale && (p.conns > 0 || p.closed.IsZero() || p.closed.Equal(now))
	p.conns++
	p.dropped = false // they waited for it too, when the dial of another one failed
	p.host.tell("%s is admitted as %q, reservation %d, connection %d", u.account, id.Said, p.id, p.conns)
	o.counts["admitted: "+a.Decision.Kind.String()]++
	return &granted{o: o, u: u, host: p.host, id: id, assignment: a, promise: p, stale: stale}, nil
}
