package broker

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/rdpbroker/rdpbroker/broker/audit"
	"github.com/rdpbroker/rdpbroker/broker/placement"
	"github.com/rdpbroker/rdpbroker/sessions"
)

// RefusedError says that a caller got no slot. It is for operators: the client
// sees a closed connection.
type RefusedError struct {
	// Decision is the last one made, with every host and why it would not do.
	Decision placement.Decision
	// Waited is how long the caller waited.
	Waited time.Duration
}

func (e *RefusedError) Error() string {
	if e.Waited == 0 {
		return e.Decision.Reason
	}
	return fmt.Sprintf("waited %s: %s", e.Waited.Round(time.Second), e.Decision.Reason)
}

// ErrClosed says that the broker is shutting down.
var ErrClosed = errors.New("the broker is shutting down")

// Assignment is one connection's handle on its reservation. Whoever got it from
// Admit must close it exactly as the connection ends; closing twice is harmless.
type Assignment struct {
	// Host is where to connect.
	Host sessions.Host
	// Reservation is the number that joins the connections of one logon.
	Reservation uint64
	// Decision is why.
	Decision placement.Decision
	// NeedsProof: the slot is still taken, and becomes free by Accepted.
	NeedsProof bool
	// Waited is how long Admit waited, for a slot or for a logoff.
	Waited time.Duration
	*Hold
}

// Hold is what an Assignment is while its connection is open, hours perhaps.
type Hold struct {
	b      *Broker
	l      *logon // nil: it holds nothing, and host is where it was connected
	host   string
	closed atomic.Bool
}

// Close ends the connection's hold on the reservation. dialErr is why the host
// could not be reached, nil if it was: after a failed dial the host is left
// alone for a while, and the slot is given back at once unless another connection of
// the same logon has been there, which may have left a session.
func (h *Hold) Close(dialErr error) {
	switch {
	case h.closed.Swap(true):
	case h.l == nil:
		h.b.deps.Refresh(h.host)
	default:
		h.b.leave(h.l, dialErr)
	}
}

// waiter is one call of Admit that has no slot yet.
type waiter struct {
	id      sessions.Identity
	since   time.Time
	granted chan *logon // receives once, when the queue serves it
	gone    <-chan struct{}
	// unproven is a host that asks this caller for no password, "" if none is known.
	unproven string
	last     placement.Decision
}

// Admit finds a host for the caller id in farm. It blocks while a victim is being
// logged off (unless that has to wait for proof: Assignment.NeedsProof), and while the caller waits in the farm's queue. If ctx ends, the
// caller gives up its place and the error is ctx's. The error is *RefusedError if
// there was no slot, ErrClosed while shutting down.
//
// Connections of the same caller share one reservation and get the same host.
func (b *Broker) Admit(ctx context.Context, farmName string, id sessions.Identity) (*Assignment, error) {
	return b.admit(ctx, farmName, &waiter{id: id})
}

// admit is Admit for w, of which it is known who it is.
func (b *Broker) admit(ctx context.Context, farmName string, w *waiter) (*Assignment, error) {
	w.since, w.granted, w.gone = time.Now(), make(chan *logon, 1), ctx.Done()
	var patience chan struct{} // closed when it is at its end; starts when there is something to wait for
	var waited time.Duration
	for {
		l, err := b.joinOrQueue(farmName, w)
		if err != nil {
			return nil, err
		}
		if patience == nil && l == nil {
			patience = make(chan struct{})
			t := time.AfterFunc(b.wait(farmName), func() { close(patience) })
			defer t.Stop()
		}
		if l == nil {
			began := time.Now()
			if l, err = b.inQueue(ctx, farmName, w, patience); err != nil {
				return nil, err
			}
			waited += time.Since(began)
		}
		if a := b.untilProof(l); a != nil {
			a.Waited = waited
			return a, nil
		}
		began := time.Now()
		err = b.roomMade(ctx, l)
		waited += time.Since(began)
		if err == nil {
			b.mu.Lock()
			defer b.mu.Unlock()
			a := b.assign(l)
			a.Waited = waited
			return a, nil
		}
		if ctx.Err() != nil || errors.Is(err, ErrClosed) {
			b.leave(l, nil)
			if ctx.Err() != nil {
				b.left(farmName, w)
			}
			return nil, err
		}
		// The victim would not go, and the reservation is gone with it: decide anew,
		// without that victim.
	}
}

func (b *Broker) wait(farmName string) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.config.Farms[farmName].Wait
}

// joinOrQueue gives w the reservation that its caller holds already, or a new
// one; or puts it into the queue and returns nil.
func (b *Broker) joinOrQueue(farmName string, w *waiter) (*logon, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil, ErrClosed
	}
	now := time.Now()
	f := b.farm(farmName)
	if l := b.shared(f, w, now); l != nil {
		l.join()
		return l, nil
	}
	// Serving the queue serves w too, when it is its turn: nobody overtakes those who
	// wait, and whoever comes back because a victim would not go has kept their place.
	f.enqueue(w)
	if len(f.queue) == 1 || b.settings(farmName).Wait <= 0 {
		b.pump(f, now)
	} else {
		switch b.prospectOf(f, w, now) {
		case outside:
			b.serve(f, w, false, now)
		case inTurn:
			b.pumpSoon(f, now)
		}
	}
	select {
	case l := <-w.granted:
		return l, nil
	default:
	}
	if w.last.Host != "" { // which is not theirs yet
		w.last = placement.Decision{Kind: placement.WaitForSlot, Class: placement.ClassBehind, Reason: "those who came before are looked at first"}
	}
	if w.last.Kind == placement.Refuse || b.settings(farmName).Wait <= 0 {
		f.dequeue(w)
		return nil, b.refuse(f, w, now)
	}
	b.record(audit.Record{Time: now, Event: audit.Decided, Farm: f.name, Identity: w.id, Decision: w.last})
	b.keepLooking(f)
	return nil, nil
}

// inQueue waits until the queue serves w.
func (b *Broker) inQueue(ctx context.Context, farmName string, w *waiter, patience <-chan struct{}) (*logon, error) {
	select {
	case l := <-w.granted:
		return l, nil
	case <-ctx.Done():
	case <-patience:
	case <-b.closing:
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	f := b.farm(farmName)
	if !f.dequeue(w) { // served at the very moment
		l := <-w.granted
		if ctx.Err() == nil && !b.closed {
			return l, nil
		}
		b.part(l, now)
	}
	switch {
	case b.closed:
		return nil, ErrClosed
	case ctx.Err() != nil:
		b.record(audit.Record{Time: now, Event: audit.Left, Farm: f.name, Identity: w.id, Decision: w.last, Took: now.Sub(w.since)})
		return nil, ctx.Err()
	}
	return nil, b.refuse(f, w, now)
}

// refuse records that w got nothing, and why. The caller holds mu.
func (b *Broker) refuse(f *farm, w *waiter, now time.Time) error {
	if len(w.last.Candidates) == 0 && w.last.Kind == placement.WaitForSlot {
		b.fillIn(f, w, now)
	}
	err := &RefusedError{Decision: w.last, Waited: now.Sub(w.since)}
	b.record(audit.Record{Time: now, Event: audit.Refused, Farm: f.name, Identity: w.id, Decision: w.last, Took: err.Waited})
	return err
}

// left records that w went away while its victim was being logged off.
func (b *Broker) left(farmName string, w *waiter) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	b.record(audit.Record{Time: now, Event: audit.Left, Farm: farmName, Identity: w.id, Decision: w.last, Took: now.Sub(w.since)})
}

// roomMade waits until l's slot is free, if somebody is being logged off for it.
func (b *Broker) roomMade(ctx context.Context, l *logon) error {
	select {
	case <-l.ready:
		return l.failed
	case <-ctx.Done():
		return ctx.Err()
	case <-b.closing:
		return ErrClosed
	}
}

// untilProof is an assignment to l if its victim waits for proof, else nil.
func (b *Broker) untilProof(l *logon) *Assignment {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !l.awaitsProof() {
		return nil
	}
	return b.assignUntilProof(l)
}

// assignUntilProof is assign for l whose victim waits for proof. The caller holds mu.
func (b *Broker) assignUntilProof(l *logon) *Assignment {
	a := b.assign(l)
	a.NeedsProof = true
	return a
}

// assign makes one connection's handle on l. The caller holds mu.
func (b *Broker) assign(l *logon) *Assignment {
	return &Assignment{Host: l.host, Reservation: l.res.ID, Decision: l.res.Decision, Hold: &Hold{b: b, l: l}}
}

// leave ends one connection's part in l.
func (b *Broker) leave(l *logon, dialErr error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.parted(l, dialErr)
}

// parted is leave. The caller holds mu.
func (b *Broker) parted(l *logon, dialErr error) {
	now := time.Now()
	if dialErr != nil {
		b.unreachable[l.host.Name] = hostMark{why: dialErr.Error(), until: now.Add(hostPause)}
		if !l.reached && l.conns == 1 { // nobody of l has been there, nor may be yet
			b.drop(l)
		}
	} else {
		l.reached = true
	}
	b.part(l, now)
	b.deps.Refresh(l.host.Name)
	b.pumpSoon(b.farm(l.res.Farm), now)
}

func (b *Broker) record(r audit.Record) {
	if _, ok := b.config.Farms[r.Farm]; ok {
		r.Mode = b.settings(r.Farm).Policy.Eviction.Mode.String()
	}
	b.deps.Record(r)
}
