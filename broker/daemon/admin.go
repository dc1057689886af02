package daemon

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/rdpbroker/rdpbroker/broker/admin/api"
	"github.com/rdpbroker/rdpbroker/broker/admin/auth"
	"github.com/rdpbroker/rdpbroker/broker/admin/site"
	"github.com/rdpbroker/rdpbroker/broker/config"
	"github.com/rdpbroker/rdpbroker/broker/metrics"
	"github.com/rdpbroker/rdpbroker/broker/placement"
)

// endpoint is one address at which the broker answers HTTP.
type endpoint struct {
	ln      net.Listener
	handler http.Handler
	options site.Options
}

func (e endpoint) serve(ctx context.Context) error {
	return site.Serve(ctx, e.ln, e.handler, e.options)
}

// listenAdmin binds the admin socket and the metrics address.
func (d *Daemon) listenAdmin() error {
	scrape := promhttp.HandlerFor(d.registry, promhttp.HandlerOpts{})
	plain := site.Options{Log: d.log}
	if path := d.cfg.Admin.Socket; path != "" {
		ln, err := site.ListenUnix(path)
		if err != nil {
			return fmt.Errorf("admin.socket: %w", err)
		}
		d.endpoints = append(d.endpoints, endpoint{ln, site.Local(d.api(), scrape, auth.New(auth.Config{Log: d.log})), plain})
	}
	if addr := d.cfg.Admin.Metrics; addr != "" {
		ln, err := net.Listen("tcp", addr)
		if err != nil {
			return fmt.Errorf("admin.metrics: %w", err)
		}
		d.endpoints = append(d.endpoints, endpoint{ln, site.Public(state{d}, scrape), plain})
	}
	return nil
}

// api is what the REST API works with.
func (d *Daemon) api() api.Config {
	return api.Config{State: state{d}, Actions: d.actions(), Recent: d.recent.Recent, Events: d.events}
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

func (d *Daemon) config() *config.Config {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.cfg
}

// metricsState is how things stand, for a scrape.
func (d *Daemon) metricsState() metrics.State {
	s := metrics.State{Now: time.Now(), Snapshot: d.Snapshot(), Waiting: map[string]int{}, Claims: &placement.Claims{}}
	for _, f := range d.config().Farms {
		s.Waiting[f.Name] = 0
	}
	st := d.broker.Status()
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
	d.metrics.Prepare(farms, hosts)
}
