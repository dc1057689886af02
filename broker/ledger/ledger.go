// Package ledger keeps reservations: slots that were promised to a caller until
// the inventory sees the caller's session. Reserving is check-and-insert in one
// step, so that two brokers on one store never promise the same slot.
//
// Memory is the store of a single broker. Every store passes ledgertest.
package ledger

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/rdpbroker/rdpbroker/broker/due"
	"github.com/rdpbroker/rdpbroker/broker/placement"
	"github.com/rdpbroker/rdpbroker/sessions"
)

// Reservation is a slot promised to one caller. It is a value; change it with
// Update.
type Reservation struct {
	// ID is the store's number for it, unique and never 0.
	ID   uint64 `json:"id"`
	Farm string `json:"farm"`
	// Key names the caller (sessions.Identity.Key). A farm holds at most one
	// reservation per key.
	Key string `json:"key"`
	// Host is where the slot is.
	Host string `json:"host"`
	// Account is who it was made for; zero if that is not known.
	Account sessions.Account `json:"account,omitzero"`
	Client  netip.Addr       `json:"client,omitzero"`
	// Decision is what was decided for the caller, without its candidates.
	Decision placement.Decision `json:"decision"`
	// Baseline are the sessions that the host had when it was made: what is not
	// among them is new.
	Baseline []sessions.Ref `json:"baseline,omitempty"`
	// MadeAt and ExpiresAt are the broker's clock. It expires in any case.
	MadeAt    time.Time `json:"made_at"`
	ExpiresAt time.Time `json:"expires_at"`
	// Seen is the caller's session once the inventory has seen it; from then on
	// that session holds the slot, and the reservation only keeps the answer.
	Seen *sessions.Ref `json:"seen,omitempty"`
}

// Claim is r as a decision for somebody else sees it.
func (r Reservation) Claim() placement.Claim {
	c := placement.Claim{Account: r.Account, Host: r.Host, Own: r.Decision.Own, Confirmed: r.Seen != nil}
	if v := r.Decision.Victim; v != nil {
		ref := v.Ref()
		c.Victim = &ref
	}
	return c
}

// ErrConflict says that the farm's reservations changed since the version that
// the caller decided on. Nothing was reserved: read again and decide again.
var ErrConflict = errors.New("the farm's reservations have changed since the decision")

// HeldError says that the key holds a reservation already: this one.
type HeldError struct{ Existing Reservation }

func (e *HeldError) Error() string {
	return fmt.Sprintf("%s already holds reservation %d on %s", e.Existing.Key, e.Existing.ID, e.Existing.Host)
}

// Memory is a ledger in this process. The zero value is empty and ready.
type Memory struct {
	mu     sync.Mutex
	lastID uint64
	farms  map[string]*farm
}

type farm struct {
	version uint64
	byKey   map[string]Reservation
	// changed are the keys that changed with each version, up to the newest; the first
	// one made version first.
	changed []string
	first   uint64
	ends    due.Queue[string]
}

// remembered is how many changes are told one by one to whoever asks; whoever has
// not asked for longer is told everything.
const remembered = 256

// Changes is what has become of a farm's reservations since a version.
type Changes struct {
	// Version is the newest, to reserve against.
	Version uint64
	// All says that Live are all there are: nothing is known of what was before.
	All bool
	// Live are those that are new or have changed, in no particular order.
	Live []Reservation
	// Gone are the keys of those that were released or have expired.
	Gone []string
}

// List returns the reservations of farm that are live at now, in no particular
// order, and the version to reserve against. Expired ones are dropped.
func (m *Memory) List(ctx context.Context, name string, now time.Time) ([]Reservation, uint64, error) {
	c, err := m.Changes(ctx, name, 0, now)
	return c.Live, c.Version, err
}

// Changes tells what has changed in farm since the version since, which it told
// before; 0 asks for everything. Ones that have expired at now are dropped.
func (m *Memory) Changes(_ context.Context, name string, since uint64, now time.Time) (Changes, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f := m.farm(name)
	f.expire(now)
	c := Changes{Version: f.version}
	if since == f.version && since > 0 {
		return c, nil
	}
	if since == 0 || since+1 < f.first || since > f.version {
		c.All, c.Live = true, make([]Reservation, 0, len(f.byKey))
		for _, r := range f.byKey {
			c.Live = append(c.Live, r)
		}
		return c, nil
	}
	keys := f.changed[since+1-f.first:]
	for i, key := range keys {
		if slices.Contains(keys[:i], key) {
			continue
		}
		if r, live := f.byKey[key]; live {
			c.Live = append(c.Live, r)
		} else {
			c.Gone = append(c.Gone, key)
		}
	}
	return c, nil
}

// Reserve inserts r if the farm is still at version, and returns it with its ID.
// It returns ErrConflict if the farm has changed and *HeldError if r.Key holds
// a reservation already.
func (m *Memory) Reserve(_ context.Context, r Reservation, version uint64) (Reservation, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f := m.farm(r.Farm)
	f.expire(r.MadeAt)
	if old, held := f.byKey[r.Key]; held {
		return Reservation{}, &HeldError{Existing: old}
	}
	if f.version != version {
		return Reservation{}, ErrConflict
	}
	m.lastID++
	r.ID = m.lastID
	f.put(r)
	return r, nil
}

// Update replaces the reservation with r's ID and key. It reports false if there
// is none any more: released or expired.
func (m *Memory) Update(_ context.Context, r Reservation) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f := m.farm(r.Farm)
	if old, ok := f.byKey[r.Key]; !ok || old.ID != r.ID {
		return false, nil
	}
	f.put(r)
	return true, nil
}

// Release removes the reservation with r's ID and key; one that is gone already
// is no error.
func (m *Memory) Release(_ context.Context, r Reservation) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	f := m.farm(r.Farm)
	if old, ok := f.byKey[r.Key]; ok && old.ID == r.ID {
		f.remove(r.Key)
	}
	return nil
}

func (m *Memory) farm(name string) *farm {
	if m.farms == nil {
		m.farms = map[string]*farm{}
	}
	f := m.farms[name]
	if f == nil {
		f = &farm{byKey: map[string]Reservation{}}
		m.farms[name] = f
	}
	return f
}

func (f *farm) put(r Reservation) {
	f.byKey[r.Key] = r
	f.ends.Add(r.ExpiresAt, r.Key)
	f.change(r.Key)
}

func (f *farm) remove(key string) {
	delete(f.byKey, key)
	f.change(key)
}

func (f *farm) change(key string) {
	f.version++
	if len(f.changed) == 0 {
		f.first = f.version
	}
	f.changed = append(f.changed, key)
	if len(f.changed) > 2*remembered {
		f.changed = append(f.changed[:0], f.changed[remembered:]...)
		f.first += remembered
	}
}

func (f *farm) expire(now time.Time) {
	for key, ok := f.ends.Next(now); ok; key, ok = f.ends.Next(now) {
		// It may have been released, or be another's, or end later by now.
		if r, live := f.byKey[key]; live && !now.Before(r.ExpiresAt) {
			f.remove(key)
		}
	}
}
