package identity

import (
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/golang-lru/v2/expirable"

	"github.com/rdpbroker/rdpbroker/sessions"
)

// Memory bounds what a Resolver remembers of addresses.
type Memory struct {
	// Entries is how many addresses, and how many names said there; 0 means 10,000, a
	// negative number none.
	Entries int
	// For is how long since it was learned; 0 means 30 days.
	For time.Duration
}

// place is where somebody came from and what they said there, in lower case; of
// the last one there, whatever they said, it is "".
type place struct {
	client netip.Addr
	said   string
}

// memory is what several Resolvers share: whose session was last seen after a
// connection from an address, and from there by one who said the same.
type memory struct {
	off     bool // nothing is learned
	life    time.Duration
	last    *expirable.LRU[place, learned] // nothing said
	saying  *expirable.LRU[place, learned]
	people  people // in them
	adding  sync.RWMutex
	changes atomic.Uint64 // counts new accounts in them
	// reached is where each host was last reached, by name: a netip.AddrPort each.
	reached sync.Map
}

// learned is who somebody turned out to be, and when.
type learned struct {
	sessions.Account
	at time.Time
}

func newMemory(m Memory) *memory {
	if m.Entries == 0 {
		m.Entries = 10_000
	}
	if m.For == 0 {
		m.For = 30 * 24 * time.Hour
	}
	mem := &memory{off: m.Entries < 0, life: m.For}
	gone := func(_ place, l learned) { mem.people.remove(l.Account) }
	mem.last = expirable.NewLRU(max(1, m.Entries), gone, m.For)
	mem.saying = expirable.NewLRU(max(1, m.Entries), gone, m.For)
	return mem
}

// of is the part of m that p belongs to.
func (m *memory) of(p place) *expirable.LRU[place, learned] {
	if p.said == "" {
		return m.last
	}
	return m.saying
}

func (m *memory) get(p place) (sessions.Account, bool) {
	m.adding.RLock() // not between the two steps of add
	defer m.adding.RUnlock()
	l, ok := m.of(p).Get(p)
	return l.Account, ok
}

func (m *memory) add(p place, l learned) {
	m.adding.Lock() // one at a time, or people would be counted wrongly
	defer m.adding.Unlock()
	cache := m.of(p)
	before, _ := cache.Peek(p)
	m.people.add(l.Account)
	cache.Remove(p) // so that what was there, expired or not, is taken out of people
	cache.Add(p, l)
	if before.Account != l.Account {
		m.changes.Add(1)
	}
}

// Learn remembers that the caller id turned out to be a.
func (r *Resolver) Learn(id sessions.Identity, a sessions.Account) {
	if !id.Client.IsValid() || a.IsZero() || r.mem.off {
		return
	}
	l := learned{a, time.Now()}
	r.mem.add(place{client: id.Client.Unmap()}, l)
	if id.Said != "" {
		r.mem.add(place{id.Client.Unmap(), strings.ToLower(id.Said)}, l)
	}
}

// learned is whose session was last seen after id's client said what id says.
func (r *Resolver) learned(id *sessions.Identity) (sessions.Account, bool) {
	if id.Said == "" {
		return sessions.Account{}, false
	}
	return r.mem.get(place{id.Client, strings.ToLower(id.Said)})
}

// Remembered is one thing that was learned.
type Remembered struct {
	Client netip.Addr `json:"client"`
	// Said is what was said there, "" for whoever was the last one.
	Said    string           `json:"said,omitempty"`
	Account sessions.Account `json:"account"`
	At      time.Time        `json:"at"`
}

// Remembered is all that was learned, what is oldest first in each of the two
// kinds, to be kept over a restart. changes tells whether it is the same as before.
func (r *Resolver) Remembered() (all []Remembered, changes uint64) {
	changes = r.mem.changes.Load()
	for _, part := range []*expirable.LRU[place, learned]{r.mem.last, r.mem.saying} {
		for _, p := range part.Keys() {
			if l, ok := part.Peek(p); ok {
				all = append(all, Remembered{p.client, p.said, l.Account, l.at})
			}
		}
	}
	return all, changes
}

// Recall takes up what Remembered has told before a restart, unless it is too old
// at now or makes no sense.
func (r *Resolver) Recall(all []Remembered, now time.Time) {
	for _, x := range all {
		if x.Client.IsValid() && !x.Account.IsZero() && !r.mem.off && now.Sub(x.At) < r.mem.life {
			r.mem.add(place{x.Client.Unmap(), strings.ToLower(printable(x.Said))}, learned{x.Account, x.At})
		}
	}
}

// Reached remembers at which address the host of this name was reached, for routing
// tokens that name it by that while the configuration has its DNS name.
func (r *Resolver) Reached(host string, at netip.AddrPort) {
	if !at.IsValid() {
		return
	}
	at = netip.AddrPortFrom(at.Addr().Unmap(), at.Port())
	if before, ok := r.mem.reached.Load(host); !ok || before != at {
		r.mem.reached.Store(host, at)
	}
}
