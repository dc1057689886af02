package broker

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/rdpbroker/rdpbroker/broker/ledger"
	"github.com/rdpbroker/rdpbroker/sessions"
)

// Waiting is one caller in a farm's queue.
type Waiting struct {
	Farm     string            `json:"farm"`
	Identity sessions.Identity `json:"identity"`
	Since    time.Time         `json:"since"`
	// Reason is why it could not be served when it was last looked at.
	Reason string `json:"reason"`
}

// Status is the broker's own state at one moment.
type Status struct {
	// Reservations in the order in which they were made.
	Reservations []ledger.Reservation `json:"reservations"`
	// Waiting by farm, the longest first.
	Waiting []Waiting `json:"waiting"`
	// Leaving are the sessions that were told to log off and are not gone yet.
	Leaving []sessions.Ref `json:"leaving"`
	// Stuck are those of them that did not go in time.
	Stuck []sessions.Ref `json:"stuck,omitempty"`
	// Mode is the eviction mode that an operator has set for all farms: off, shadow
	// or evict; "" if each farm's is as configured.
	Mode string `json:"mode,omitempty"`
	// Kept are the sessions that an operator has kept, by host and ID.
	Kept []Kept `json:"kept,omitempty"`
	// Draining is an operator's word on draining, by host.
	Draining map[string]bool `json:"draining,omitempty"`
}

// Status reports the reservations, the queues and the evictions under way.
func (b *Broker) Status() Status {
	b.mu.Lock()
	defer b.mu.Unlock()
	var st Status
	for _, f := range b.farms {
		for _, l := range f.logons {
			st.Reservations = append(st.Reservations, l.res)
		}
		for _, w := range f.queue {
			st.Waiting = append(st.Waiting, Waiting{Farm: f.name, Identity: w.id, Since: w.since, Reason: w.last.Reason})
		}
	}
	if b.mode != nil {
		st.Mode = b.mode.String()
	}
	st.Kept, st.Draining = b.keptNow(time.Now()), maps.Clone(b.drains)
	for ref := range b.leaving {
		st.Leaving = append(st.Leaving, ref)
		if b.untouchable[ref].why == stuckWhy {
			st.Stuck = append(st.Stuck, ref)
		}
	}
	slices.SortFunc(st.Reservations, func(a, b ledger.Reservation) int { return int(int64(a.ID) - int64(b.ID)) })
	slices.SortFunc(st.Waiting, func(a, b Waiting) int { return a.Since.Compare(b.Since) })
	slices.SortFunc(st.Leaving, byHostAndID)
	slices.SortFunc(st.Stuck, byHostAndID)
	return st
}

func byHostAndID(a, b sessions.Ref) int {
	return cmp.Or(cmp.Compare(a.Host, b.Host), cmp.Compare(a.ID, b.ID))
}
