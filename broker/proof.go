package broker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/rdpbroker/rdpbroker/broker/placement"
	"github.com/rdpbroker/rdpbroker/sessions"
)

// errExpired says that proof came too late.
var errExpired = errors.New("the reservation had ended before the host accepted the password")

// AdmitUnproven is Admit for a caller who was assigned to host until proof, and
// whom host would let in without asking for a password first. There is no proof to
// wait for then; see placement.Eviction.RefuseUnproven for what policy makes of it.
func (b *Broker) AdmitUnproven(ctx context.Context, farmName string, id sessions.Identity, host string) (*Assignment, error) {
	return b.admit(ctx, farmName, &waiter{id: id, unproven: host})
}

// Accepted says that the host has accepted the caller's password: now, and not
// before, the victim is logged off, for all connections of the logon at once. It
// returns nil when there is room: the caller may go on to the session. After an
// error they must not; their next connection is decided anew. Where NeedsProof is
// false there is nothing to do.
//
// If ctx ends first, the logoff goes on, and the slot is kept for the caller.
func (a *Assignment) Accepted(ctx context.Context) error {
	if !a.NeedsProof {
		return nil
	}
	return a.b.accepted(ctx, a.l)
}

// accepted is Assignment.Accepted for a connection of l.
func (b *Broker) accepted(ctx context.Context, l *logon) error {
	b.mu.Lock()
	b.prove(l, time.Now())
	b.mu.Unlock()
	return b.roomMade(ctx, l)
}

// awaitsProof reports whether l's victim is named, and nothing done yet. The
// caller holds mu.
func (l *logon) awaitsProof() bool {
	return l.res.Decision.NeedsProof && !l.proven && !isClosed(l.ready)
}

// droppable reports whether l was promised to somebody who has left without proof.
func (l *logon) droppable() bool { return l.conns == 0 && l.awaitsProof() }

// dropUnproven takes back what was promised, until proof, to callers who have left
// without it, and reports whether there was anything: a scanner must not keep the
// victims of a full farm from those who wait. It
// is done for the caller with key. The caller holds mu.
func (b *Broker) dropUnproven(f *farm, key string) (any bool) {
	for k, l := range f.logons {
		if k != key && l.droppable() {
			b.drop(l)
			any = true
		}
	}
	return any
}

// prove sets off what l's caller has shown proof for. The picture may have changed
// since the decision, while somebody typed a password: it is made again, and holds
// only if it still leads to the same host. The caller holds mu.
func (b *Broker) prove(l *logon, now time.Time) {
	if b.closed || !l.awaitsProof() {
		return
	}
	l.proven = true
	f := b.farm(l.res.Farm)
	if f.logons[l.res.Key] != l || !now.Before(l.res.ExpiresAt) {
		b.fail(l, errExpired)
		return
	}
	settings := b.settings(f.name)
	view, _, err := b.view(f, l.id, l.res.Key, now)
	if err != nil {
		b.fail(l, err)
		return
	}
	d := placement.Decide(view, l.id, settings.Policy)
	if d.Host != l.host.Name {
		b.fail(l, fmt.Errorf("there is no room on %s any more: %s", l.host.Name, d.Reason))
		return
	}
	d.Candidates = nil
	l.res.Decision, l.res.ExpiresAt = d, now.Add(settings.Reservation)
	if d.Victim != nil {
		l.res.ExpiresAt = l.res.ExpiresAt.Add(settings.SoftLimit)
	}
	if held, err := b.deps.Ledger.Update(context.Background(), l.res); err != nil || !held {
		b.fail(l, errors.Join(errExpired, err))
		return
	}
	if d.Victim == nil { // a slot has become free meanwhile
		b.open(l)
		return
	}
	b.startEviction(l, *d.Victim, settings, now)
}
