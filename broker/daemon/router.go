package daemon

import (
	"context"
	"errors"
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
	if a.Decision.Victim == nil {
		d.metrics.Admitted(farm, time.Since(began))
	}
	end := d.connections.add(farm, req, id, a)
	rt := rdpproxy.Route{
		Host: a.Host.Name,
		Addr: a.Host.Addr,
		Why:  a.Decision.Kind.String(),
		Done: func(o rdpproxy.Outcome) {
			end()
			if errors.Is(o.DialError, rdpproxy.ErrDialQueue) {
				o.DialError = nil // busy with other dials, not out of reach
			}
			a.Close(o.DialError)
		},
	}
	if a.NeedsProof {
		rt.Accepted = a.Accepted
	}
	return rt, nil
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
		Accepted: func(string) { d.metrics.Accepted() },
		Refused: func(_, kind string) {
			d.metrics.Refused(kind)
			d.metrics.Closed()
		},
		Opened: func(_, host string) { d.log.Debug("relaying", zap.String("host", host)) },
		Closed: func(_, _ string, o rdpproxy.Outcome) {
			d.metrics.Relayed(o.Relay.ToHost, o.Relay.ToClient)
			d.metrics.Closed()
		},
		DialFailed: func(host string) { d.metrics.DialFailed(host) },
	}
}
