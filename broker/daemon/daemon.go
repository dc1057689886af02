// Package daemon wires all rooms from a Config, runs them and reloads them. It
// holds the short adapters between rooms that do not know each other, and no
// rules of its own.
package daemon

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/rdpbroker/rdpbroker/broker"
	"github.com/rdpbroker/rdpbroker/broker/admin/live"
	"github.com/rdpbroker/rdpbroker/broker/admin/page"
	"github.com/rdpbroker/rdpbroker/broker/audit"
	"github.com/rdpbroker/rdpbroker/broker/config"
	"github.com/rdpbroker/rdpbroker/broker/handover"
	"github.com/rdpbroker/rdpbroker/broker/identity"
	"github.com/rdpbroker/rdpbroker/broker/ledger"
	"github.com/rdpbroker/rdpbroker/broker/metrics"
	"github.com/rdpbroker/rdpbroker/broker/webhook"
	"github.com/rdpbroker/rdpbroker/rdpproxy"
	"github.com/rdpbroker/rdpbroker/sessions"
	"github.com/rdpbroker/rdpbroker/sessions/inventory"
)

// Options are what a daemon gets beside its configuration.
type Options struct {
	// Log may be nil: nothing is logged.
	Log     *zap.Logger
	Version string
	// ReadConfig reads the configuration for a reload that an operator orders; nil if
	// there is no file to read.
	ReadConfig func() (*config.Config, error)
	// OnRecord, if set, is told of every event too. It must not block.
	OnRecord func(audit.Record)
	// Portable is rdpproxy.Config.Portable.
	Portable bool
	// Loops and DeferAccept are those of rdpproxy.Config.
	Loops       int
	DeferAccept bool
	// Inherited is what the process before has left by HandOver; nil: nothing. New
	// takes its files.
	Inherited *handover.Bundle
}

// recentRecords is how many events are kept in memory, and maxReaders how many may
// listen to them.
const (
	recentRecords = 1000
	maxReaders    = 300
)

// Daemon is a broker with everything around it. Make one with New, bind its
// addresses with Listen, and Run it. Run closes what New and Listen opened.
type Daemon struct {
	opts Options
	log  *zap.Logger

	inventory *inventory.Inventory
	broker    *broker.Broker
	resolver  atomic.Pointer[identity.Resolver]
	proxy     *rdpproxy.Proxy
	registry  *prometheus.Registry
	metrics   *metrics.Metrics
	audit     *audit.Writer // nil: no file
	webhook   *webhook.Sender
	recent    *audit.Ring
	events    *live.Hub // of the same, for those who listen
	lull      *lull
	evictors  atomic.Pointer[map[string]driven] // drivers, to be read without mu

	started *config.Config // what New was given; of it stays what only a restart changes

	// mu guards what a reload changes.
	mu      sync.Mutex
	cfg     *config.Config
	drivers map[string]driven

	looked  chan struct{} // closed when every host has been looked at once
	looking func()        // closes looked

	startedAt time.Time

	clients   []rdpproxy.Listener
	farmOf    map[string]string // by listener name
	inherited *inheritance
	passing   []passed
	successor chan func(handover.Bundle) error
	endpoints []endpoint

	metricsAddr net.Addr   // nil: nowhere
	page        *page.Page // nil: none; set by Listen, before Run
	pageLink    func() string
}

// New makes a daemon of cfg. It opens the audit file, reads the state file, and
// opens nothing else.
func New(cfg *config.Config, o Options) (*Daemon, error) {
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	d := &Daemon{
		opts: o, log: o.Log, started: cfg, cfg: cfg,
		registry: prometheus.NewRegistry(), recent: audit.NewRing(recentRecords),
		events: live.NewHub(recentRecords, maxReaders), startedAt: time.Now(),
		lull: newLull(), farmOf: map[string]string{}, looked: make(chan struct{}),
		inherited: inherit(o.Inherited, o.Log), successor: make(chan func(handover.Bundle) error, 1),
	}
	d.looking = sync.OnceFunc(func() { close(d.looked) })
	d.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	d.metrics = metrics.New(d.registry)
	d.metrics.Version(o.Version)
	d.metrics.Watch(d.metricsState)

	people, err := Directory(cfg)
	if err != nil {
		return nil, err
	}
	told, err := hook(cfg, o.Version)
	if err != nil {
		return nil, err
	}
	d.webhook = webhook.New(d.log)
	d.webhook.SetConfig(told)
	d.metrics.WatchWebhook(func() metrics.Webhook { return metrics.Webhook(d.webhook.Stats()) })
	made, err := drivers(cfg, nil, d.log)
	if err != nil {
		return nil, err
	}
	d.drivers = made
	d.evictors.Store(&made)
	if cfg.Audit.File != "" {
		if d.audit, err = audit.Open(cfg.Audit.File, audit.Rotation(cfg.Audit.Rotate), d.log); err != nil {
			return nil, fmt.Errorf("audit.file: %w", errors.Join(err, closeAll(d.drivers, nil)))
		}
		d.metrics.AuditLosses(func() (dropped, failed uint64) {
			s := d.audit.Stats()
			return s.Dropped, s.Failed
		})
	}
	d.resolver.Store(identity.NewResolver(people, memory(cfg)))
	d.recall()
	d.broker = broker.New(farms(cfg), broker.Deps{
		Ledger:       new(ledger.Memory),
		Evictor:      d.evictor,
		Messenger:    d.messenger,
		Disconnecter: d.disconnecter,
		Refresh:      func(host string) { d.inventory.Refresh(host) },
		Record:       d.record,
		Learn:        d.learn,
		Remember:     d.remember,
	})
	if err := d.restore(); err != nil {
		return nil, errors.Join(err, d.close())
	}
	d.inventory = inventory.New(entries(cfg, d.drivers), d.observe, d.log)
	proxied := proxyConfig(cfg)
	proxied.Portable, proxied.Loops, proxied.DeferAccept = o.Portable, o.Loops, o.DeferAccept
	d.proxy = rdpproxy.New(proxied, router{d}, d.observer(), d.log)
	d.prepareMetrics(cfg)
	d.metrics.Reloaded(true, time.Now())
	return d, nil
}

// Snapshot is the newest picture of the farm, with operators' word on draining.
func (d *Daemon) Snapshot() *sessions.Snapshot {
	return d.inventory.Snapshot().WithDraining(d.broker.Drains())
}

// Status is the broker's reservations, queues and evictions under way.
func (d *Daemon) Status() broker.Status { return d.broker.Status() }

// Listen binds every configured address, and returns those for RDP clients in
// the order of the configuration. What it bound is closed by Run. If it fails,
// everything is closed that New and Listen opened, and the daemon is of no use.
func (d *Daemon) Listen() (clients []net.Addr, err error) {
	defer func() {
		if err != nil {
			d.closeListeners()
			err = errors.Join(err, d.close())
		}
	}()
	for i, l := range d.cfg.Listeners {
		ln, err := d.listen("clients "+l.Address, l.Address)
		if err != nil {
			return nil, fmt.Errorf("listen[%d].address: %w", i, err)
		}
		name := ln.Addr().String()
		d.farmOf[name] = l.Farm
		pl := rdpproxy.Listener{Listener: ln, Name: name}
		if len(l.ProxyProtocol) > 0 {
			pl.ProxyProtocol = rdpproxy.ProxyRequired
		}
		d.clients = append(d.clients, pl)
		clients = append(clients, ln.Addr())
	}
	if err := d.listenAdmin(); err != nil {
		return nil, err
	}
	return clients, nil
}

func (d *Daemon) closeListeners() {
	d.closePassing()
	for _, l := range d.clients {
		l.Close()
	}
	for _, e := range d.endpoints {
		e.ln.Close()
	}
}

// Run serves until stop ends: then nobody new is accepted, whoever waits for a
// slot is turned away, and open connections go on until they end by themselves,
// drain_timeout is over, or kill ends. It returns when everything has ended; the
// error says what ended too early.
func (d *Daemon) Run(stop, kill context.Context) error {
	// What serves connections outlives what accepts them.
	inner, endInner := context.WithCancel(context.WithoutCancel(stop))
	defer endInner()
	var rooms errgroup.Group
	rooms.Go(func() error { return d.inventory.Run(inner) })
	defer time.AfterFunc(firstLook, d.looking).Stop()
	rooms.Go(func() error { return d.broker.Run(inner) })
	if d.audit != nil {
		rooms.Go(func() error { return d.audit.Run(inner) })
	}
	rooms.Go(func() error { return d.webhook.Run(inner) })
	rooms.Go(func() error { return d.keepLearned(inner) })
	d.checkDescriptors()
	d.log.Info("rdpbroker runs", zap.String("version", d.opts.Version), zap.Int("hosts", len(d.Snapshot().Hosts)))

	d.takeOver()
	stop, stopNow := context.WithCancel(stop)
	defer stopNow()
	var deliver func(handover.Bundle) error
	asked := make(chan struct{})
	go func() {
		defer close(asked)
		select {
		case deliver = <-d.successor:
			stopNow()
		case <-stop.Done():
		}
	}()
	accepting, ctx := errgroup.WithContext(stop)
	for _, l := range d.clients {
		d.log.Info("listening", zap.String("address", l.Name), zap.String("farm", d.farmOf[l.Name]))
		accepting.Go(func() error { return d.proxy.ServeListener(ctx, l) })
	}
	if d.page != nil {
		rooms.Go(func() error { return d.page.Run(inner) })
	}
	for _, e := range d.endpoints {
		// These answer until the last connection is over.
		rooms.Go(func() error { return e.serve(inner) })
	}
	err := accepting.Wait()
	stopNow()
	<-asked
	if deliver != nil {
		err = errors.Join(err, d.bequeath(deliver))
	}
	d.closePassing()
	err = errors.Join(err, d.drain(kill))
	endInner()
	return errors.Join(err, rooms.Wait(), d.close())
}

// close closes what New opened.
func (d *Daemon) close() (err error) {
	d.webhook.Close()
	if d.audit != nil {
		err = d.audit.Close()
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return errors.Join(err, closeAll(d.drivers, nil))
}

// drain lets open connections end. That some had to be cut is no error: the
// operator asked for it, or set the time.
func (d *Daemon) drain(kill context.Context) error {
	d.mu.Lock()
	timeout := d.cfg.DrainTimeout
	d.mu.Unlock()
	ctx, cancel := context.WithTimeout(kill, timeout)
	defer cancel()
	if err := d.proxy.Shutdown(ctx); err != nil {
		if ctx.Err() == nil {
			return err
		}
		d.log.Warn("open connections were ended", zap.Error(err))
	}
	return nil
}

func (d *Daemon) evictor(host string) broker.Evictor {
	if dr, ok := (*d.evictors.Load())[host]; ok {
		return dr.driver
	}
	return nil
}

// messenger is what warns users of host, if its driver can.
func (d *Daemon) messenger(host string) broker.Messenger {
	m, _ := (*d.evictors.Load())[host].driver.(broker.Messenger)
	return m
}

// disconnecter is what disconnects users of host, if its driver can.
func (d *Daemon) disconnecter(host string) broker.Disconnecter {
	x, _ := (*d.evictors.Load())[host].driver.(broker.Disconnecter)
	return x
}
