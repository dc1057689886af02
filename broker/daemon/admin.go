package daemon

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/rdpbroker/rdpbroker/broker/admin"
	"github.com/rdpbroker/rdpbroker/broker/config"
	"github.com/rdpbroker/rdpbroker/broker/identity"
	"github.com/rdpbroker/rdpbroker/broker/metrics"
	"github.com/rdpbroker/rdpbroker/broker/placement"
	"github.com/rdpbroker/rdpbroker/rdpproxy"
	"github.com/rdpbroker/rdpbroker/sessions"
)

// endpoint is one address at which the broker answers HTTP.
type endpoint struct {
	ln      net.Listener
	handler http.Handler
	d       *Daemon
}

func (e endpoint) serve(ctx context.Context) error {
	return admin.Serve(ctx, e.ln, e.handler, e.d.log)
}

// listenAdmin binds the admin socket and the metrics address.
func (d *Daemon) listenAdmin() error {
	scrape := promhttp.HandlerFor(d.registry, promhttp.HandlerOpts{})
	if path := d.cfg.Admin.Socket; path != "" {
		ln, err := admin.ListenUnix(path)
		if err != nil {
			return fmt.Errorf("admin.socket: %w", err)
		}
		d.endpoints = append(d.endpoints, endpoint{ln, admin.Local(state{d}, scrape), d})
	}
	if addr := d.cfg.Admin.Metrics; addr != "" {
		ln, err := net.Listen("tcp", addr)
		if err != nil {
			return fmt.Errorf("admin.metrics: %w", err)
		}
		d.endpoints = append(d.endpoints, endpoint{ln, admin.Public(state{d}, scrape), d})
	}
	return nil
}

// MetricsAddr is where /metrics, /healthz and /readyz are after Listen, nil if nowhere.
func (d *Daemon) MetricsAddr() net.Addr {
	for _, e := range d.endpoints {
		if a, ok := e.ln.Addr().(*net.TCPAddr); ok {
			return a
		}
	}
	return nil
}

// state answers the admin room's questions.
type state struct{ d *Daemon }

// Status implements admin.State.
func (s state) Status() admin.Status {
	st := s.d.broker.Status()
	out := admin.Status{Now: time.Now(), Snapshot: s.d.Snapshot(), Leaving: st.Leaving}
	for _, r := range st.Reservations {
		c := r.Claim()
		out.Reservations = append(out.Reservations, admin.Reservation{
			ID: r.ID, Farm: r.Farm, Host: r.Host, Account: r.Account, Client: r.Client, Kind: r.Decision.Kind,
			Own: c.Own, Victim: c.Victim, Seen: r.Seen, MadeAt: r.MadeAt, ExpiresAt: r.ExpiresAt,
		})
	}
	for _, w := range st.Waiting {
		out.Waiting = append(out.Waiting, admin.Waiting{Farm: w.Farm, Identity: w.Identity, Since: w.Since, Reason: w.Reason})
	}
	return out
}

// Explain implements admin.State.
func (s state) Explain(q admin.Question) (admin.Explanation, error) {
	cfg := s.d.config()
	if q.Farm == "" {
		if len(cfg.Farms) > 1 {
			return admin.Explanation{}, &admin.NotFoundError{What: fmt.Sprintf("there are several farms (%s), name one; a farm without a name", farmNames(cfg))}
		}
		q.Farm = cfg.Farms[0].Name
	}
	if cfg.Farm(q.Farm) == nil {
		return admin.Explanation{}, &admin.NotFoundError{What: fmt.Sprintf("farm %q", q.Farm)}
	}
	id := s.d.resolver.Load().Resolve(identity.Hint{Client: q.From, Cookie: q.User}, s.d.Snapshot())
	return admin.Explanation{
		Now: time.Now(), Farm: q.Farm, Identity: id,
		Decision: s.d.broker.Explain(q.Farm, id),
		Mode:     s.d.broker.Mode(q.Farm).String(),
	}, nil
}

func farmNames(cfg *config.Config) string {
	var names []string
	for _, f := range cfg.Farms {
		names = append(names, f.Name)
	}
	return strings.Join(names, ", ")
}

// Ready implements admin.State: one host that was read lately is enough.
func (s state) Ready() error {
	now := time.Now()
	hosts := s.d.Snapshot().Hosts
	for i := range hosts {
		if hosts[i].Fresh(now) {
			return nil
		}
	}
	return errors.New("no host has been read lately")
}

func (d *Daemon) config() *config.Config {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.cfg
}

// metricsState is how things stand, for a scrape.
func (d *Daemon) metricsState() metrics.State {
	s := metrics.State{Now: time.Now(), Snapshot: d.Snapshot(), Waiting: map[string]int{}, Claims: &placement.Claims{}}
	s.Stuck, s.Modes = map[sessions.Ref]bool{}, map[string]placement.Mode{}
	for _, f := range d.config().Farms {
		s.Waiting[f.Name] = 0
		s.Modes[f.Name] = d.broker.Mode(f.Name)
	}
	st := d.broker.Status()
	for _, ref := range st.Stuck {
		s.Stuck[ref] = true
	}
	for _, r := range st.Reservations {
		s.Claims.Add(r.Claim())
	}
	for _, w := range st.Waiting {
		s.Waiting[w.Farm]++
	}
	return s
}

// prepareMetrics lets the counters that will matter start at zero, so that a
// rate over the first event is not lost.
func (d *Daemon) prepareMetrics(cfg *config.Config) {
	var farms, hosts []string
	for _, f := range cfg.Farms {
		farms = append(farms, f.Name)
		for _, h := range f.Hosts {
			hosts = append(hosts, h.Name)
		}
	}
	d.metrics.Prepare(farms, hosts, rdpproxy.RefusalKinds())
}
