// Package broker carries decisions out: it decides where a caller goes, reserves
// the slot, has a victim logged off where that is the decision, lets callers wait
// in a fair queue, and hands out an Assignment for each connection.
package broker

import (
	"context"
	"net/netip"
	"sync"
	"time"

	"github.com/rdpbroker/rdpbroker/broker/audit"
	"github.com/rdpbroker/rdpbroker/broker/ledger"
	"github.com/rdpbroker/rdpbroker/broker/placement"
	"github.com/rdpbroker/rdpbroker/sessions"
)

// Evictor logs one session off one host by compare-and-evict: it succeeds only
// if the session is still exactly the one described, and returns when it is gone.
//
// The error is nil if the session is gone, *sessions.RefusedError if nothing was
// touched, *sessions.StuckError if it was told to go and is still there when ctx
// ends; after any other error the outcome is not known.
type Evictor interface {
	Evict(ctx context.Context, h sessions.Host, victim sessions.Session) error
}

// Ledger keeps reservations; see package ledger for the contract.
type Ledger interface {
	Changes(ctx context.Context, farm string, since uint64, now time.Time) (ledger.Changes, error)
	Reserve(ctx context.Context, r ledger.Reservation, version uint64) (ledger.Reservation, error)
	Update(ctx context.Context, r ledger.Reservation) (bool, error)
	Release(ctx context.Context, r ledger.Reservation) error
}

// Deps are what a Broker works with. Ledger is required.
type Deps struct {
	Ledger Ledger
	// Evictor returns what logs sessions off the named host; nil if nothing can. It
	// must not block and must not call the Broker.
	Evictor func(host string) Evictor
	// Messenger and Disconnecter return what warns users of the named host and
	// disconnects them; nil if nothing can. They must not block and must not call the
	// Broker.
	Messenger    func(host string) Messenger
	Disconnecter func(host string) Disconnecter
	// Refresh asks for a reading of a host now. It must not block.
	Refresh func(host string)
	// Record is told of every event, in order. It must not block and must not call
	// the Broker.
	Record func(audit.Record)
	// Learn is told whom a caller turned out to be.
	Learn func(id sessions.Identity, a sessions.Account)
	// Remember keeps what operators have ordered over a restart (Broker.Restore). It
	// may take as long as a disk takes, and must not call the Broker.
	Remember func(Orders) error
}

// Config is how the farms want to be run. It is immutable; SetConfig swaps it.
type Config struct {
	// Farms by name.
	Farms map[string]Farm
}

// Farm is one farm's settings.
type Farm struct {
	Policy placement.Policy
	// Wait is how long a caller waits for a slot; 0: not at all.
	Wait time.Duration
	// Reservation is how long a slot stays promised to a caller whose session does
	// not appear; 0 means DefaultReservation.
	Reservation time.Duration
	// SoftLimit is how long a logoff may take before the next victim is chosen; 0
	// means DefaultSoftLimit.
	SoftLimit time.Duration
	// HardLimit is when a session that was told to log off counts as stuck; 0
	// means DefaultHardLimit.
	HardLimit time.Duration
	// IdleMessage warns a user before they are disconnected for want of input; {idle}
	// and {time} stand for how long there was none and how long they have. ""
	// means DefaultIdleMessage.
	IdleMessage string
	// PerClient bounds the new sessions that one client address may have slots
	// reserved for while they have not appeared, so that nobody fills a farm with
	// names; 0 means DefaultPerClient. Trusted clients are exempt.
	PerClient int
}

// Defaults of Farm.
const (
	DefaultReservation = 90 * time.Second
	DefaultSoftLimit   = 60 * time.Second
	DefaultHardLimit   = 300 * time.Second
	DefaultPerClient   = 16
)

const (
	// hostPause is how long a host that could not be dialled is left alone.
	hostPause = 5 * time.Second
	// maxRaces is how often a decision is made anew when another broker was faster.
	maxRaces = 3
	// explained is up to how many hosts the audit of one who is served tells of each host
	// why it was not the one. Of a larger farm it would be a page for each logon.
	explained = 64
	// crowd is from how many waiting callers on it is not noted for a newcomer what was
	// looked at, until they are turned away.
	crowd = 16
	// recheck is how often waiting callers are looked at without an event, because
	// time alone changes decisions (min_disconnected, expiries).
	recheck = time.Second
	// ceilingWindow is the time over which eviction ceilings count.
	ceilingWindow = time.Hour
)

// Broker admits callers. Make one with New, feed it with Observe, and Run it.
type Broker struct {
	deps Deps

	closing chan struct{} // closed when Run ends
	work    sync.WaitGroup

	// ordering is held by one operator's order at a time, so that Deps.Remember is
	// told of them one after the other; it is taken before mu.
	ordering sync.Mutex

	// mu guards everything below. It is never held while waiting for the network;
	// the ledger of a single broker is memory.
	mu          sync.Mutex
	closed      bool
	config      Config
	snapshot    *sessions.Snapshot
	farms       map[string]*farm
	unreachable map[string]hostMark
	leaving     map[sessions.Ref]bool
	untouchable map[sessions.Ref]sessionMark
	evictions   ceilings
	resumed     map[uint64]*logon // by the number that another process gave it; see TakeOver
	mode        *placement.Mode   // an operator's word on eviction, nil for the configuration's
	kept        map[sessions.Ref]Kept
	drains      map[string]bool    // an operator's word on draining, by host
	observed    *sessions.Snapshot // as observed, without drains
}

// farm is the state of one farm in this broker.
type farm struct {
	name     string
	logons   map[string]*logon // by reservation key
	byHost   map[string]map[*logon]bool
	byClient map[netip.Addr]map[*logon]bool
	queue    []*waiter   // first come, first served
	tick     *time.Timer // looks at the queue again; nil when nobody waits
	// lookedAt is when the queue was looked at last, lookTook how long that took;
	// lookSoon: tick is set for an early look.
	lookedAt time.Time
	lookTook time.Duration
	lookSoon bool
	promised
	looked   map[string]seen // by host: what confirm has looked at
	ahead    ahead
	idle     idling
	absences absences
}

type hostMark struct {
	why   string
	until time.Time
}

// sessionMark keeps a session from being chosen until a reading made after
// `until` shows it again; a zero until means as long as it exists.
type sessionMark struct {
	why   string
	until time.Time
}

// New makes a Broker. It starts nothing.
func New(cfg Config, deps Deps) *Broker {
	if deps.Evictor == nil {
		deps.Evictor = func(string) Evictor { return nil }
	}
	if deps.Messenger == nil {
		deps.Messenger = func(string) Messenger { return nil }
	}
	if deps.Disconnecter == nil {
		deps.Disconnecter = func(string) Disconnecter { return nil }
	}
	if deps.Refresh == nil {
		deps.Refresh = func(string) {}
	}
	if deps.Record == nil {
		deps.Record = func(audit.Record) {}
	}
	if deps.Learn == nil {
		deps.Learn = func(sessions.Identity, sessions.Account) {}
	}
	if deps.Remember == nil {
		deps.Remember = func(Orders) error { return nil }
	}
	nothing := sessions.NewSnapshot(nil)
	return &Broker{
		deps:        deps,
		closing:     make(chan struct{}),
		config:      cfg,
		snapshot:    nothing,
		observed:    nothing,
		farms:       map[string]*farm{},
		unreachable: map[string]hostMark{},
		leaving:     map[sessions.Ref]bool{},
		untouchable: map[sessions.Ref]sessionMark{},
		kept:        map[sessions.Ref]Kept{},
		drains:      map[string]bool{},
		evictions:   newCeilings(),
	}
}

// Run returns when ctx has ended, waiting callers have been turned away, and
// logoffs under way have been let go of. (A session that was already told to log
// off still goes.)
func (b *Broker) Run(ctx context.Context) error {
	<-ctx.Done()
	b.mu.Lock()
	if !b.closed {
		b.closed = true
		close(b.closing)
	}
	for _, f := range b.farms {
		if f.tick != nil {
			f.tick.Stop()
		}
		f.absences.stop()
	}
	b.mu.Unlock()
	b.work.Wait()
	return nil
}

// SetConfig swaps the configuration. Reservations and the queue stay.
func (b *Broker) SetConfig(cfg Config) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.config = cfg
	b.pumpAll(time.Now())
}

// Observe takes a new picture of the farm: reservations whose session has
// appeared are confirmed, and whoever waits is looked at again.
func (b *Broker) Observe(s *sessions.Snapshot) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	b.observed, b.snapshot = s, s.WithDraining(b.drains)
	b.confirm(now)
	b.forgetMarks(now)
	for _, f := range b.farms {
		b.pumpSoon(f, now) // of a large farm there is a reading every few milliseconds
	}
	for name := range b.config.Farms {
		b.keepFree(name, now)
		b.watchIdle(name, now)
	}
}

// cannotEvict is why nothing can log a session off host, "" if something can.
func (b *Broker) cannotEvict(host string) string {
	if b.deps.Evictor(host) == nil {
		return noEvictor
	}
	return ""
}

func (b *Broker) farm(name string) *farm {
	f := b.farms[name]
	if f == nil {
		f = &farm{
			name: name, promised: newPromised(), logons: map[string]*logon{}, looked: map[string]seen{},
			byHost: map[string]map[*logon]bool{}, byClient: map[netip.Addr]map[*logon]bool{},
		}
		b.farms[name] = f
	}
	return f
}

func (b *Broker) settings(farm string) Farm {
	c := b.config.Farms[farm].withDefaults()
	if b.mode != nil {
		c.Policy.Eviction.Mode = *b.mode
	}
	return c
}

func (c Farm) withDefaults() Farm {
	if c.Reservation == 0 {
		c.Reservation = DefaultReservation
	}
	if c.SoftLimit == 0 {
		c.SoftLimit = DefaultSoftLimit
	}
	if c.HardLimit == 0 {
		c.HardLimit = DefaultHardLimit
	}
	if c.PerClient == 0 {
		c.PerClient = DefaultPerClient
	}
	return c
}
