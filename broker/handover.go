package broker

import (
	"context"
	"fmt"
	"time"

	"github.com/rdpbroker/rdpbroker/broker/ledger"
	"github.com/rdpbroker/rdpbroker/sessions"
)

// CarriedLogon is a reservation on its way to the process that takes this one's place.
type CarriedLogon struct {
	Reservation ledger.Reservation `json:"reservation"`
	Host        sessions.Host      `json:"host"`
	Identity    sessions.Identity  `json:"identity"`
	Proven      bool               `json:"proven,omitempty"`
	Mixed       bool               `json:"mixed,omitempty"`
	Served      bool               `json:"served,omitempty"`
}

// HandOver is every reservation whose slot may be used: what another process needs to
// know so that a restart costs nobody their slot. Reservations that still wait for
// somebody's logoff or for proof are left out, as their callers have no session yet
// and their connections end with this process. The Broker goes on as before.
func (b *Broker) HandOver() []CarriedLogon {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []CarriedLogon
	for _, f := range b.farms {
		for _, l := range f.logons {
			if !isClosed(l.ready) || l.failed != nil {
				continue
			}
			out = append(out, CarriedLogon{Reservation: l.res, Host: l.host, Identity: l.id, Proven: l.proven, Mixed: l.mixed, Served: l.served})
		}
	}
	return out
}

// TakeOver enters what another process has handed over. It is to be called before
// anybody is admitted. Each reservation is kept as if its last connection had just
// ended: Resume brings the connections that were handed over with it back to it. The
// error says what could not be kept; the rest is.
func (b *Broker) TakeOver(logons []CarriedLogon) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	var failed error
	for _, c := range logons {
		if !now.Before(c.Reservation.ExpiresAt) && c.Reservation.Seen == nil {
			continue
		}
		known, err := b.deps.Ledger.Changes(context.Background(), c.Reservation.Farm, 0, now)
		if err == nil {
			var r ledger.Reservation
			if r, err = b.deps.Ledger.Reserve(context.Background(), c.Reservation, known.Version); err == nil {
				b.resume(c, r, now)
				continue
			}
		}
		failed = fmt.Errorf("the reservation of %s on %s: %w", c.Reservation.Key, c.Reservation.Host, err)
	}
	return failed
}

// resume makes the logon of a reservation that was taken over. The caller holds mu.
func (b *Broker) resume(c CarriedLogon, r ledger.Reservation, now time.Time) {
	l := &logon{res: r, host: c.Host, id: c.Identity, ready: make(chan struct{}), proven: c.Proven, mixed: c.Mixed, served: c.Served}
	close(l.ready)
	b.farm(r.Farm).add(l)
	if b.resumed == nil {
		b.resumed = map[uint64]*logon{}
	}
	b.resumed[c.Reservation.ID] = l
	b.linger(l, now)
}

// Resume is an assignment for a connection that was handed over: to the reservation
// that had the number id in the other process. If that is gone, the connection goes
// on without one: its session, which the host shows, holds the slot by itself.
func (b *Broker) Resume(id uint64, host sessions.Host) *Assignment {
	b.mu.Lock()
	defer b.mu.Unlock()
	if l := b.resumed[id]; l != nil && b.farm(l.res.Farm).logons[l.res.Key] == l {
		l.join()
		return b.assign(l)
	}
	return &Assignment{Host: host, Hold: &Hold{b: b, host: host.Name}}
}
