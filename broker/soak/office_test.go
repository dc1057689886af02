package soak

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/rdpbroker/rdpbroker/broker"
	"github.com/rdpbroker/rdpbroker/broker/identity"
	"github.com/rdpbroker/rdpbroker/broker/ledger"
	"github.com/rdpbroker/rdpbroker/broker/placement"
	"github.com/rdpbroker/rdpbroker/broker/soak/memnet"
	"github.com/rdpbroker/rdpbroker/rdpproxy"
	"github.com/rdpbroker/rdpbroker/sessions"
	"github.com/rdpbroker/rdpbroker/sessions/inventory"
	"github.com/rdpbroker/rdpbroker/sessions/winrm"
)

// freshFor is how old a reading may be for placements.
const freshFor = time.Minute

const (
	farmName   = "office"
	pinnedUser = "pia"
	pinnedHost = "ts2"
)

var (
	brokerAddr = netip.MustParseAddr("192.0.2.1")
	listenAddr = netip.MustParseAddrPort("192.0.2.1:3389")
)

// setup is what one office is like.
type setup struct {
	name   string
	share  int64 // of all steps, in per cent
	hosts  int
	people int
	// onlyActive: hosts do not count disconnected sessions.
	onlyActive bool
	// unseenHost: the management account of the first host does not see all sessions.
	unseenHost      bool
	weather         time.Duration // between two faults; 0: none
	minDisconnected time.Duration
	wait            time.Duration
	reservation     time.Duration
	softLimit       time.Duration
	hardLimit       time.Duration
	perHost         int
	balance         placement.Balance
	// lag is how much later than the truth the broker may know it, while a host is
	// read without trouble, and have done what follows.
	lag time.Duration
	// byText: sessions are read and ended by text: no domains, no client addresses,
	// minutes instead of seconds.
	byText bool
}

// rounding is by how much the driver may be wrong about a disconnect: quser tells
// whole minutes, and whoever was back for a moment between two readings shows in
// them only once a minute has begun anew.
func (s *setup) rounding() time.Duration {
	if s.byText {
		return 75 * time.Second
	}
	return 0
}

// blind reports whether the broker could not have known that a session is the
// caller's own: they said nothing, and the text tools tell no client address.
func (s *setup) blind(id sessions.Identity) bool {
	return s.byText && len(id.Accounts) == 0
}

// office is a farm with its broker, wired as package daemon does it, and with
// everybody who works there.
type office struct {
	t     *testing.T
	setup setup
	log   *zap.Logger

	net       memnet.Network
	hosts     []*host
	broker    *broker.Broker
	ledger    *ledger.Memory
	inventory *inventory.Inventory
	resolver  *identity.Resolver
	proxy     *rdpproxy.Proxy
	people    []*user
	running   sync.WaitGroup
	faults    *rand.Rand // of beforeCommand and dialHost; guarded by mu

	port uint16 // the last one that a client used; guarded by mu

	steps   atomic.Int64
	most    int64
	enough  context.CancelFunc
	mu      sync.Mutex // a leaf: nothing is called while it is held
	calls   map[*call]bool
	clients map[netip.AddrPort]*visit // by their end of a connection to the proxy

	promises   map[uint64]*promise
	attempts   map[target]*attempt
	unknown    map[target]*attempt
	observed   *sessions.Snapshot // what the broker was given last
	observedAt time.Time
	counts     map[string]int
	wrongs     int
	ask        bool // what the broker says of those who wait
}

// wrong notes a violation. It needs mu.
func (o *office) wrong(format string, args ...any) {
	o.t.Helper()
	o.wrongs++
	if o.wrongs <= 20 {
		o.t.Errorf("step %d, %s: %s", o.steps.Load(), time.Now().Format("15:04:05.000"), fmt.Sprintf(format, args...))
	}
	if o.wrongs == 20 {
		o.enough()
	}
}

// tell adds a line to h's story. It needs mu.
func (h *host) tell(format string, args ...any) {
	if len(h.story) >= 300 {
		h.story = h.story[1:]
	}
	h.story = append(h.story, time.Now().Format("15:04:05.000 ")+fmt.Sprintf(format, args...))
}

func (o *office) count(what string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.counts[what]++
}

// newOffice makes an office in the bubble of t. resolver is made outside of it,
// because it keeps a goroutine for ever.
func newOffice(t *testing.T, s setup, seed uint64, resolver *identity.Resolver) *office {
	o := &office{
		t: t, setup: s, log: zap.NewNop(), ledger: new(ledger.Memory), resolver: resolver,
		faults: rand.New(rand.NewPCG(seed, 3)),
		calls:  map[*call]bool{}, clients: map[netip.AddrPort]*visit{}, promises: map[uint64]*promise{},
		attempts: map[target]*attempt{}, unknown: map[target]*attempt{}, counts: map[string]int{},
	}
	rnd := rand.New(rand.NewPCG(seed, 2))
	o.people = people(o, s.people)
	for i := range s.hosts {
		o.hosts = append(o.hosts, newHost(t, o, i, rnd))
	}
	o.furnish(rnd)
	farm := broker.Farm{
		Policy: placement.Policy{
			Balance: s.balance, TakeOverActive: true,
			Pins: []placement.Pin{{Account: sessions.Account{Domain: domain, User: pinnedUser}, Host: pinnedHost}},
			Eviction: placement.Eviction{
				Mode: placement.Evict, Proof: placement.KnownUser, MinDisconnected: s.minDisconnected,
				Protect: []string{domain + `\svc-*`}, PerHostPerHour: s.perHost,
			},
		},
		Wait: s.wait, Reservation: s.reservation, SoftLimit: s.softLimit, HardLimit: s.hardLimit,
	}
	drivers := map[string]*winrm.Driver{}
	var entries []inventory.Entry
	for _, h := range o.hosts {
		drivers[h.name] = h.driver
		entries = append(entries, h.entry(farmName))
	}
	o.broker = broker.New(broker.Config{Farms: map[string]broker.Farm{farmName: farm}}, broker.Deps{
		Ledger:  o.ledger,
		Evictor: func(host string) broker.Evictor { return drivers[host] },
		Refresh: func(host string) { o.inventory.Refresh(host) },
		Record:  o.record,
		Learn:   o.resolver.Learn,
	})
	o.inventory = inventory.New(entries, o.observe, o.log)
	// Loops wait in the kernel, where virtual time does not pass.
	o.proxy = rdpproxy.New(rdpproxy.Config{Dial: o.dialHost, Portable: true}, o, rdpproxy.Observer{}, o.log)
	return o
}

// observe passes a snapshot on to the broker.
func (o *office) observe(s *sessions.Snapshot) {
	o.broker.Observe(s)
	o.mu.Lock()
	defer o.mu.Unlock()
	old := o.observed
	o.observed, o.observedAt = s, time.Now()
	for _, h := range o.hosts {
		if st := s.Host(h.name); old == nil || st.Report != old.Host(h.name).Report || st.Problem != old.Host(h.name).Problem {
			h.tell("read: %s", reading(st))
		}
		o.look(h)
	}
}

// step is one thing that somebody has done.
func (o *office) step(what string) {
	if o.steps.Add(1) >= o.most {
		o.enough()
	}
	o.mu.Lock()
	o.counts["step: "+what]++
	o.check()
	ask := o.ask
	o.ask = false
	o.mu.Unlock()
	if ask {
		st := o.broker.Status()
		for _, w := range st.Waiting {
			o.t.Logf("%q has waited since %s: %s", w.Identity.Said, time.Since(w.Since), w.Reason)
			for _, c := range o.broker.Explain(farmName, w.Identity).Candidates {
				o.t.Logf("        	%+v", c)
			}
		}
		for _, r := range st.Reservations {
			o.t.Logf("reservation %d of %s on %s, %s, seen %v, made %s ago", r.ID, r.Key, r.Host, r.Decision.Kind, r.Seen, time.Since(r.MadeAt))
		}
	}
}

// run lets the office work until there were so many steps, and sees to it that
// nothing is left behind.
func (o *office) run(steps int64, seed uint64) {
	o.most = steps
	day, enough := context.WithCancel(o.t.Context())
	o.enough = enough
	defer enough()
	inner, endInner := context.WithCancel(context.Background())
	defer endInner()
	front, endFront := context.WithCancel(context.Background())
	defer endFront()

	began := time.Now()
	ln, err := o.net.Listen(listenAddr)
	if err != nil {
		o.t.Fatal(err)
	}
	for _, h := range o.hosts {
		h.listen(o.t, &o.net)
		o.running.Go(func() { _ = h.sim.Run(inner, nil, h.winrm) })
		o.running.Go(func() { h.serveRDP(inner, o) })
	}
	o.running.Go(func() { _ = o.inventory.Run(inner) })
	o.running.Go(func() { _ = o.broker.Run(inner) })
	o.running.Go(func() {
		if err := o.proxy.ServeListener(front, rdpproxy.Listener{Listener: ln, Name: "front"}); err != nil {
			o.t.Error(err)
		}
	})
	var working sync.WaitGroup
	for i, u := range o.people {
		rnd := rand.New(rand.NewPCG(seed, uint64(100+i)))
		working.Go(func() { u.live(day, rnd) })
	}
	if o.setup.weather > 0 {
		rnd := rand.New(rand.NewPCG(seed, 4))
		working.Go(func() { o.weather(day, rnd) })
	}
	working.Wait()
	o.goHome()
	endFront()
	if err := o.proxy.Shutdown(inner); err != nil {
		o.t.Error(err)
	}
	if steps >= 20000 {
		o.tooTame()
	}
	o.t.Logf("%d steps in %s: %s", o.steps.Load(), time.Since(began).Round(time.Minute), o.summary())
	endInner()
	for _, h := range o.hosts {
		_ = h.driver.Close()
	}
	o.running.Wait()
}

// goHome checks that nothing is left behind once everybody has left.
func (o *office) goHome() {
	for _, h := range o.hosts {
		h.heal()
	}
	time.Sleep(o.setup.reservation + o.setup.hardLimit + linger + 2*o.setup.lag + recovery)
	for _, h := range o.hosts { // whoever is stuck goes with the host
		h.model.Reboot()
		h.driver.Refresh()
	}
	time.Sleep(recovery)
	st := o.broker.Status()
	st.Leaving = slices.DeleteFunc(st.Leaving, func(r sessions.Ref) bool {
		return time.Now().Before(o.host(r.Host).sickUntil) // it cannot be seen that it is gone
	})
	if n := len(st.Waiting) + len(st.Reservations) + len(st.Leaving); n > 0 {
		o.t.Errorf("left behind: %+v", st)
	}
	if rs, _, _ := o.ledger.List(context.Background(), farmName, time.Now()); len(rs) > 0 {
		o.t.Errorf("left in the ledger: %+v", rs)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.calls)+len(o.attempts) > 0 {
		o.t.Errorf("%d callers and %d evictions have not come to an end", len(o.calls), len(o.attempts))
	}
	for _, h := range o.hosts {
		if st := o.observed.Host(h.name); time.Now().After(h.sickUntil) && (!st.Fresh(time.Now()) || st.Problem != "") {
			o.t.Errorf("%s is not read again: %s", h.name, st.Problem)
		}
	}
}

// tooTame fails if things have not happened that were to be tried.
func (o *office) tooTame() {
	must := []string{"admitted: place", "admitted: reconnect", "admitted: take-over", "asked by X.224", "confirmed", "dials that failed",
		"fault: the host restarts", "fault: black hole", "asked, confidence prefix", "asked, confidence none", "asked, confidence address"}
	if !o.setup.onlyActive {
		must = append(must, "admitted: make-room", "refused", "evicted", "eviction-refused", "eviction-stuck", "sessions told to go",
			"fault: the user is back between the look and the logoff")
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, what := range must {
		if o.counts[what] == 0 {
			o.t.Errorf("nothing of the kind %q has happened", what)
		}
	}
}

func (o *office) summary() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	var b strings.Builder
	for _, k := range slices.Sorted(maps.Keys(o.counts)) {
		fmt.Fprintf(&b, "\n\t%8d  %s", o.counts[k], k)
	}
	return b.String()
}
