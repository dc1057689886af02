package broker_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rdpbroker/rdpbroker/broker"
	"github.com/rdpbroker/rdpbroker/broker/audit"
	"github.com/rdpbroker/rdpbroker/broker/ledger"
	"github.com/rdpbroker/rdpbroker/broker/placement"
	"github.com/rdpbroker/rdpbroker/sessions"
)

const farmName = "office"

// model is a farm of hosts that behave as Windows does: a logon goes back to the
// user's own session, else takes a slot, else is turned away; a disconnected
// session keeps its slot. Readings are made of it when a test wants one.
type model struct {
	mu    sync.Mutex
	hosts []*modelHost
}

type modelHost struct {
	sessions.HostState
	limit    int
	lastID   int
	sessions []sessions.Session
	last     *sessions.Report // the newest reading
}

// errFull is what a user sees whom nobody should ever have sent there.
var errFull = errors.New("the terminal server has exceeded the maximum number of allowed connections")

func newHost(name string, limit int) *modelHost {
	return &modelHost{
		HostState: sessions.HostState{Host: sessions.Host{Name: name, Farm: farmName, Addr: name + ":3389"}, FreshFor: 24 * time.Hour},
		limit:     limit,
	}
}

// with puts an account's session on h, disconnected for ago; 0 is active.
func (h *modelHost) with(account string, ago time.Duration) *modelHost {
	h.lastID++
	s := sessions.Session{ID: h.lastID, Account: sessions.ParseAccount(account), State: sessions.StateActive, LogonAt: time.Now().Add(-100 * time.Hour)}
	if ago > 0 {
		s.State, s.DisconnectedAt = sessions.StateDisconnected, time.Now().Add(-ago)
	}
	h.sessions = append(h.sessions, s)
	return h
}

func (m *model) host(name string) *modelHost {
	for _, h := range m.hosts {
		if h.Host.Name == name {
			return h
		}
	}
	panic("no host " + name)
}

func (h *modelHost) find(account string) *sessions.Session {
	a := sessions.ParseAccount(account)
	for i := range h.sessions {
		if h.sessions[i].Account.Matches(a) {
			return &h.sessions[i]
		}
	}
	return nil
}

// logon is what happens once a user has typed the right password on host.
func (m *model) logon(host, account string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	h := m.host(host)
	if s := h.find(account); s != nil {
		s.State = sessions.StateActive
		return nil
	}
	if len(h.sessions) >= h.limit {
		return fmt.Errorf("%s on %s, which has %d sessions: %w", account, host, len(h.sessions), errFull)
	}
	h.lastID++
	h.sessions = append(h.sessions, sessions.Session{ID: h.lastID, Account: sessions.ParseAccount(account), State: sessions.StateActive, LogonAt: time.Now()})
	return nil
}

// disconnect is what happens when a user closes the window; the session stays.
func (m *model) disconnect(host, account string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if s := m.host(host).find(account); s != nil {
		s.State, s.DisconnectedAt = sessions.StateDisconnected, time.Now()
	}
}

// logoff ends a session, whoever asks for it.
func (m *model) logoff(host, account string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	h := m.host(host)
	h.sessions = slices.DeleteFunc(h.sessions, func(s sessions.Session) bool { return s.Account.Matches(sessions.ParseAccount(account)) })
}

func (m *model) has(host, account string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.host(host).find(account) != nil
}

// report is a reading of h at this moment.
func (h *modelHost) report() *sessions.Report {
	return &sessions.Report{ReadAt: time.Now(), Sessions: slices.Clone(h.sessions), Limit: h.limit, CountsDisconnected: sessions.Yes, Source: "model"}
}

// snapshot reads every host now.
func (m *model) snapshot() *sessions.Snapshot {
	m.mu.Lock()
	for _, h := range m.hosts {
		h.last = h.report()
	}
	m.mu.Unlock()
	return m.lastRead()
}

// lastRead is the picture of the newest readings.
func (m *model) lastRead() *sessions.Snapshot {
	m.mu.Lock()
	defer m.mu.Unlock()
	var hs []sessions.HostState
	for _, h := range m.hosts {
		s := h.HostState
		s.Report = h.last
		hs = append(hs, s)
	}
	return sessions.NewSnapshot(hs)
}

// evict is compare-and-evict as a host does it: in one step.
func (m *model) evict(host string, victim sessions.Session) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	h, ref := m.host(host), sessions.RefOf(host, victim)
	i := slices.IndexFunc(h.sessions, func(s sessions.Session) bool { return s.ID == victim.ID })
	switch {
	case i < 0:
		return &sessions.RefusedError{Ref: ref, Why: "there is no such session"}
	case !h.sessions[i].SameIncarnation(victim):
		return &sessions.RefusedError{Ref: ref, Why: "it is another one"}
	case h.sessions[i].State != sessions.StateDisconnected:
		return &sessions.RefusedError{Ref: ref, Why: "the user is connected again"}
	case !h.sessions[i].DisconnectedAt.Equal(victim.DisconnectedAt):
		return &sessions.RefusedError{Ref: ref, Why: "the user was there in between"}
	}
	h.sessions = slices.Delete(h.sessions, i, i+1)
	return nil
}

// evictor is a fake: a struct of functions.
type evictor struct {
	evict func(ctx context.Context, h sessions.Host, victim sessions.Session) error
}

func (e evictor) Evict(ctx context.Context, h sessions.Host, victim sessions.Session) error {
	return e.evict(ctx, h, victim)
}

// world is a broker in front of a model, in a synctest bubble.
type world struct {
	*model
	t    *testing.T
	b    *broker.Broker
	farm broker.Farm
	stop func() // ends Run and waits for it
	// patient callers ask Admit only, where the test counts what is done for them.
	patient bool

	mu      sync.Mutex
	evictor map[string]broker.Evictor // by host; the model's own if there is none
	records []audit.Record
	learned map[netip.Addr]sessions.Account
	desk    *desk // nil: no host warns or disconnects
	orders  []broker.Orders
	forget  error    // of remembering orders
	asked   []string // hosts of which a reading was asked for
	refresh func(host string)
}

// evicting is a farm that gives up sessions disconnected for an hour.
func evicting() broker.Farm {
	return broker.Farm{
		Policy: placement.Policy{TakeOverActive: true, Eviction: placement.Eviction{Mode: placement.Evict, MinDisconnected: time.Hour}},
		Wait:   30 * time.Second,
	}
}

// newWorld runs a broker that has read hosts once. Call it within a bubble.
func newWorld(t *testing.T, farm broker.Farm, hosts ...*modelHost) *world {
	t.Helper()
	w := &world{model: &model{hosts: hosts}, t: t, farm: farm, evictor: map[string]broker.Evictor{}, learned: map[netip.Addr]sessions.Account{}}
	w.b = broker.New(w.config(), broker.Deps{
		Ledger: new(ledger.Memory),
		Evictor: func(host string) broker.Evictor {
			w.mu.Lock()
			defer w.mu.Unlock()
			if e, ok := w.evictor[host]; ok {
				return e
			}
			return evictor{func(_ context.Context, h sessions.Host, v sessions.Session) error { return w.model.evict(h.Name, v) }}
		},
		Messenger: func(string) broker.Messenger {
			if w.desk == nil {
				return nil
			}
			return w.desk
		},
		Disconnecter: func(string) broker.Disconnecter {
			if w.desk == nil {
				return nil
			}
			return w.desk
		},
		Refresh: func(host string) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.asked = append(w.asked, host)
			if w.refresh != nil {
				w.refresh(host)
			}
		},
		Record: func(r audit.Record) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.records = append(w.records, r)
		},
		Learn: func(id sessions.Identity, a sessions.Account) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.learned[id.Client] = a
		},
		Remember: func(o broker.Orders) error {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.orders = append(w.orders, o)
			return w.forget
		},
	})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- w.b.Run(ctx) }()
	w.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(w.stop)
	w.read()
	return w
}

func (w *world) config() broker.Config {
	return broker.Config{Farms: map[string]broker.Farm{farmName: w.farm}}
}

// read gives the broker a reading of all hosts, begun after all that was done.
func (w *world) read() {
	time.Sleep(time.Millisecond)
	w.b.Observe(w.snapshot())
	synctest.Wait()
}

// readHost gives the broker a new reading of one host only.
func (w *world) readHost(name string) {
	time.Sleep(time.Millisecond)
	w.model.mu.Lock()
	h := w.model.host(name)
	h.last = h.report()
	w.model.mu.Unlock()
	w.b.Observe(w.lastRead())
	synctest.Wait()
}

// setEvictor has victims on host dealt with by evict; nil: nothing can.
func (w *world) setEvictor(host string, evict func(ctx context.Context, h sessions.Host, victim sessions.Session) error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.evictor[host] = nil
	if evict != nil {
		w.evictor[host] = evictor{evict}
	}
}

// events are the audited events so far, in short.
func (w *world) events() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []string
	for _, r := range w.records {
		s := string(r.Event)
		switch {
		case r.Event == audit.Decided || r.Event == audit.Refused || r.Event == audit.Left:
			s += " " + r.Decision.Kind.String()
		case r.Decision.Victim != nil:
			s += " " + r.Decision.Victim.Session.Account.User
		}
		out = append(out, s)
	}
	return out
}

func (w *world) count(event audit.Event) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := 0
	for _, r := range w.records {
		if r.Event == event {
			n++
		}
	}
	return n
}

// caller is one connection on its way.
type caller struct {
	w      *world
	name   string
	cancel context.CancelFunc
	done   chan struct{}
	a      *broker.Assignment
	err    error
}

// arrive starts to admit id and does not wait.
func (w *world) arrive(id sessions.Identity) *caller {
	ctx, cancel := context.WithCancel(w.t.Context())
	c := &caller{w: w, name: id.Said, cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(c.done)
		if !w.patient { // as the proxy does, and no test notices
			if a, ok := w.b.AdmitNow(farmName, id); ok {
				c.a = a
				return
			}
		}
		c.a, c.err = w.b.Admit(ctx, farmName, id)
	}()
	w.t.Cleanup(cancel)
	return c
}

// connect starts to admit id and waits until that has an answer or has to wait.
func (w *world) connect(id sessions.Identity) *caller {
	w.t.Helper()
	c := w.arrive(id)
	synctest.Wait()
	return c
}

// waiting reports whether there is no answer yet.
func (c *caller) waiting() bool {
	synctest.Wait()
	select {
	case <-c.done:
		return false
	default:
		return true
	}
}

// host is where c was sent: "waiting", or the error, if nowhere.
func (c *caller) host() string {
	switch {
	case c.waiting():
		return "waiting"
	case c.err != nil:
		return c.err.Error()
	}
	return c.a.Host.Name
}

// close ends the connection, as after a good dial.
func (c *caller) close() {
	c.w.t.Helper()
	if c.waiting() || c.err != nil {
		c.w.t.Fatalf("there is no connection to close: %s", c.host())
	}
	c.a.Close(nil)
	synctest.Wait()
}

// expect fails unless c was sent to host, or is "waiting".
func (c *caller) expect(host string) *caller {
	c.w.t.Helper()
	if got := c.host(); got != host {
		c.w.t.Fatalf("got %s, want %s\nevents: %q", got, host, c.w.events())
	}
	return c
}

var client = netip.MustParseAddr("192.0.2.7")

// named is a caller whose name is known in full, from an address of their own.
func named(account string) sessions.Identity {
	a := sessions.ParseAccount(account)
	b := [4]byte{10}
	for i, c := range []byte(account) {
		b[1+i%3] += c*7 + byte(i)
	}
	return sessions.Identity{Confidence: sessions.ConfidenceName, Said: account, Known: true, Accounts: []sessions.Account{a}, Client: netip.AddrFrom4(b)}
}

// stranger is somebody without a name at address client+n.
func stranger(n int) sessions.Identity {
	b := client.As4()
	b[3] += byte(n)
	return sessions.Identity{Client: netip.AddrFrom4(b)}
}
