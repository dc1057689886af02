package daemon

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"go.uber.org/zap"

	"github.com/rdpbroker/rdpbroker/broker"
	"github.com/rdpbroker/rdpbroker/broker/config"
	"github.com/rdpbroker/rdpbroker/broker/identity"
	"github.com/rdpbroker/rdpbroker/rdpproxy"
	"github.com/rdpbroker/rdpbroker/rdpproxy/relay"
	"github.com/rdpbroker/rdpbroker/rdpproxy/x224"
	"github.com/rdpbroker/rdpbroker/sessions"
)

// router asks the broker where a connection goes.
type router struct{ d *Daemon }

// Route implements rdpproxy.Router.
func (r router) Route(ctx context.Context, req rdpproxy.Request) (rdpproxy.Route, error) {
	d := r.d
	farm := d.farmOf[req.Listener]
	if err := d.awaitLook(ctx); err != nil {
		return rdpproxy.Route{}, err
	}
	id := d.resolver.Load().Resolve(hint(req, farm, time.Now()), d.inventory.Snapshot())
	if id.Token != "" && req.Unproven == "" { // else it is the same connection again
		d.metrics.Token(farm, id.Token)
	}
	began := time.Now()
	a, err := r.admit(ctx, farm, id, req.Unproven)
	var refused *broker.RefusedError
	if errors.As(err, &refused) {
		return rdpproxy.Route{}, &rdpproxy.RefusedError{Reason: refused.Error()}
	}
	if err != nil {
		return rdpproxy.Route{}, err
	}
	return r.route(farm, a, began), nil
}

// RouteNow implements rdpproxy.PromptRouter.
func (r router) RouteNow(req rdpproxy.Request) (rdpproxy.Route, bool) {
	d := r.d
	if !isClosed(d.looked) {
		return rdpproxy.Route{}, false
	}
	farm := d.farmOf[req.Listener]
	began := time.Now()
	id := d.resolver.Load().Resolve(hint(req, farm, began), d.inventory.Snapshot())
	a, ok := d.broker.AdmitNow(farm, id)
	if !ok {
		return rdpproxy.Route{}, false
	}
	if id.Token != "" {
		d.metrics.Token(farm, id.Token)
	}
	return r.route(farm, a, began), true
}

// route is the route of an assignment that was asked for at began.
func (r router) route(farm string, a *broker.Assignment, began time.Time) rdpproxy.Route {
	r.d.metrics.Admitted(farm, time.Since(began)-a.Waited)
	rt := r.relayed(a)
	if a.NeedsProof {
		rt.Accepted = a.Accepted
	}
	return rt
}

// relayed is a route by a as far as a relay is concerned.
func (r router) relayed(a *broker.Assignment) rdpproxy.Route {
	return rdpproxy.Route{
		Host:   a.Host.Name,
		Addr:   a.Host.Addr,
		Why:    a.Decision.Kind.String(),
		Dials:  r.d.dialsTo(a.Host.Name),
		Resume: a.Reservation,
		Held:   held{a.Hold},
	}
}

// held is a broker's hold, as the proxy has it. One pointer: it takes no memory beside it.
type held struct{ hold *broker.Hold }

// Done implements rdpproxy.Held.
func (h held) Done(o rdpproxy.Outcome) { h.hold.Close(unreached(o)) }

// DoneNow implements rdpproxy.Held.
func (h held) DoneNow(o rdpproxy.Outcome) bool { return h.hold.CloseNow(unreached(o)) }

// unreached is why the host could not be reached, nil if it could, or is only busy
// with other dials.
func unreached(o rdpproxy.Outcome) error {
	if errors.Is(o.DialError, rdpproxy.ErrDialQueue) {
		return nil
	}
	return o.DialError
}

// dialsToWindows is how many connections may be under way to one Windows host. Its
// backlog is long; what is bounded is the number of logons that it begins at once.
const dialsToWindows = 16

// dialsTo is how many connections may be under way to a host of its kind; 0: few.
func (d *Daemon) dialsTo(host string) int {
	if (*d.evictors.Load())[host].from.XRDP != nil {
		return 0
	}
	return dialsToWindows
}

// admit asks the broker, for the second time if unproven names a host that asks
// this caller for no password.
func (r router) admit(ctx context.Context, farm string, id sessions.Identity, unproven string) (*broker.Assignment, error) {
	if unproven != "" {
		return r.d.broker.AdmitUnproven(ctx, farm, id, unproven)
	}
	return r.d.broker.Admit(ctx, farm, id)
}

// hint is what a connection to a listener of farm says of its caller.
func hint(req rdpproxy.Request, farm string, at time.Time) identity.Hint {
	h := identity.Hint{Client: req.Client.Addr(), Farm: farm, At: at}
	if b := req.Opening.Preconnection; b != nil {
		h.Blob = b.Payload
	}
	r := req.Opening.Request
	// Where the length does not fit, the text may be cut anywhere: it names nobody.
	if r.LengthMismatch {
		return h
	}
	h.Cookie, h.Token = r.Cookie, r.Token
	if ap, ok := x224.ParseMSTSToken(r.Token); ok {
		h.HostToken = ap
	}
	return h
}

func (d *Daemon) learn(id sessions.Identity, a sessions.Account) {
	d.resolver.Load().Learn(id, a)
}

// proxyConfig is the proxy's part of cfg.
func proxyConfig(cfg *config.Config) rdpproxy.Config {
	c := rdpproxy.Config{
		FirstPacketTimeout:  cfg.Limits.FirstPacket,
		MaxConnections:      cfg.Limits.Connections,
		MaxPerClient:        cfg.Limits.PerClient,
		MaxPending:          cfg.Limits.Pending,
		MaxPendingPerClient: cfg.Limits.PendingPerClient,
		DialTimeout:         cfg.Limits.Dial,
		DialsPerHost:        cfg.Limits.DialsPerHost,
		KeepAlive:           relay.KeepAlive{Idle: cfg.KeepAlive.Idle, Interval: cfg.KeepAlive.Interval, Count: cfg.KeepAlive.Count},
	}
	for _, l := range cfg.Listeners {
		c.ProxyTrusted = append(c.ProxyTrusted, l.ProxyProtocol...)
	}
	return c
}

// observer counts what the proxy does.
func (d *Daemon) observer() rdpproxy.Observer {
	return rdpproxy.Observer{
		Accepted: func(string) {
			d.metrics.Accepted()
			d.lull.stir()
		},
		Refused: func(_, kind string) {
			d.metrics.Refused(kind)
			d.metrics.Closed()
		},
		Opened: func(_, host string, at netip.AddrPort) {
			d.metrics.RelayBegan(host)
			if entry := d.log.Check(zap.DebugLevel, "relaying"); entry != nil {
				entry.Write(zap.String("host", host), zap.Stringer("at", at))
			}
			d.resolver.Load().Reached(host, at)
		},
		Closed: func(_, host string, o rdpproxy.Outcome) {
			d.metrics.RelayEnded(host, o.Relay.ToHost, o.Relay.ToClient)
			d.metrics.Closed()
		},
		DialFailed: func(host string) { d.metrics.DialFailed(host) },
	}
}
