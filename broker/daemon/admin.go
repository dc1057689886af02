package daemon

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/rdpbroker/rdpbroker/broker/admin/api"
	"github.com/rdpbroker/rdpbroker/broker/admin/auth"
	"github.com/rdpbroker/rdpbroker/broker/admin/page"
	"github.com/rdpbroker/rdpbroker/broker/admin/site"
	"github.com/rdpbroker/rdpbroker/broker/config"
	"github.com/rdpbroker/rdpbroker/broker/metrics"
	"github.com/rdpbroker/rdpbroker/broker/placement"
	"github.com/rdpbroker/rdpbroker/rdpproxy"
	"github.com/rdpbroker/rdpbroker/sessions"
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
	remote, err := d.listenRemote(scrape)
	if err != nil {
		return err
	}
	if path := d.cfg.Admin.Socket; path != "" {
		ln, err := site.ListenUnix(path)
		if err != nil {
			return fmt.Errorf("admin.socket: %w", err)
		}
		d.endpoints = append(d.endpoints, endpoint{ln, site.Local(remote, scrape, auth.New(auth.Config{Log: d.log})), plain})
	}
	if addr := d.cfg.Admin.Metrics; addr != "" {
		ln, err := d.listen("metrics "+addr, addr)
		if err != nil {
			return fmt.Errorf("admin.metrics: %w", err)
		}
		d.metricsAddr = ln.Addr()
		d.endpoints = append(d.endpoints, endpoint{ln, site.Public(state{d}, scrape), plain})
	}
	return nil
}

// maxRemote bounds the connections at admin.listen: each open page holds one.
const maxRemote = 512

// listenRemote binds admin.listen, if that is set. The result is what the REST API
// works with at the socket: with a way to make links to the page.
func (d *Daemon) listenRemote(scrape http.Handler) (api.Config, error) {
	c := api.Config{State: state{d}, Actions: d.actions(), Recent: d.recent.Recent, Events: d.events}
	cfg := d.cfg.Admin
	if cfg.Listen == "" {
		return c, nil
	}
	options := site.Options{Log: d.log, Connections: maxRemote}
	who := auth.Config{Header: cfg.Header, HeaderFrom: cfg.HeaderFrom, Secure: cfg.CertFile != "", Log: d.log}
	var err error
	if cfg.PeopleFile != "" {
		if who.People, err = auth.OpenFile(cfg.PeopleFile, d.log); err != nil {
			return c, fmt.Errorf("admin.people_file: %w", err)
		}
	}
	scheme := "http"
	if who.Secure {
		scheme = "https"
		if options.TLS, err = site.Certificate(cfg.CertFile, cfg.KeyFile); err != nil {
			return c, fmt.Errorf("admin.cert_file: %w", err)
		}
	}
	guard := auth.New(who)
	if d.page, err = page.New(state{d}, d.recent.Recent, guard); err != nil {
		return c, err
	}
	ln, err := net.Listen("tcp", cfg.Listen)
	if err != nil {
		return c, fmt.Errorf("admin.listen: %w", err)
	}
	d.endpoints = append(d.endpoints, endpoint{ln, site.Remote(c, d.page, scrape, guard), options})
	base := scheme + "://" + pageHost(cfg.Listen, ln.Addr())
	c.Link = func(p auth.Person) string { return base + "/enter?key=" + guard.Link(p) }
	d.pageLink = func() string { return c.Link(auth.Person{Name: "whoever started it", Role: auth.Admin}) }
	return c, nil
}

// pageHost is the host and port to write into a link: as configured, with the port
// that was bound, and localhost where that is all addresses.
func pageHost(configured string, bound net.Addr) string {
	host, _, err := net.SplitHostPort(configured)
	_, port, err2 := net.SplitHostPort(bound.String())
	if err != nil || err2 != nil {
		return bound.String()
	}
	if ip, err := netip.ParseAddr(host); host == "" || err == nil && ip.IsUnspecified() {
		host = "localhost"
	}
	return net.JoinHostPort(host, port)
}

// PageLink is an address of the page at which one browser is logged in as an admin,
// once, within minutes; "" before Listen, or if there is no page. It is for whoever
// starts the program.
func (d *Daemon) PageLink() string {
	if d.pageLink == nil {
		return ""
	}
	return d.pageLink()
}

// MetricsAddr is where /metrics, /healthz and /readyz are after Listen, nil if nowhere.
func (d *Daemon) MetricsAddr() net.Addr {
	return d.metricsAddr
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
