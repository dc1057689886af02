package broker

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/rdpbroker/rdpbroker/broker/audit"
	"github.com/rdpbroker/rdpbroker/broker/ledger"
	"github.com/rdpbroker/rdpbroker/broker/placement"
	"github.com/rdpbroker/rdpbroker/sessions"
)

// logon is a reservation with the connections that share it. Broker.mu guards it.
type logon struct {
	res  ledger.Reservation
	host sessions.Host
	id   sessions.Identity
	// ready is closed when the slot may be used, or will not be: see failed.
	ready chan struct{}
	// failed, set before ready is closed, is why no room could be made.
	failed error
	// proven: the host has accepted the caller's password, where that is needed.
	proven bool
	// mixed: neither this caller nor another one on the same host gave a name, so
	// that it cannot be told whose session is whose.
	mixed bool
	// served: the caller had a session, which holds no slot any more. Nobody has joined
	// since then, so that the reservation ends with the last connection.
	served bool
	conns  int
	// reached: a connection of it that is closed had reached the host, as far as is known.
	reached bool
	absence
}

func (l *logon) join() {
	l.conns++
	l.served = false
}

// shared is the live logon that w's connection belongs to, or nil. The caller
// holds mu.
func (b *Broker) shared(f *farm, w *waiter, now time.Time) *logon {
	key := w.id.Key()
	l := f.logons[key]
	if l != nil && b.mayShare(l, w, now) {
		return l
	}
	if _, exact := w.id.Account(); !exact {
		return nil
	}
	// Whose reservation has ended, and who may have logged on at the last moment, has
	// another one behind it (see freeKey) until a reading tells.
	for n := 2; ; n++ {
		l := f.logons[numbered(key, n)]
		if l == nil || b.mayShare(l, w, now) {
			return l
		}
	}
}

// mayShare reports whether w's connection may belong to l, which has its key. What has
// ended is dropped, unless its caller may have logged on. The caller holds mu.
func (b *Broker) mayShare(l *logon, w *waiter, now time.Time) bool {
	if !now.Before(l.res.ExpiresAt) || l.failed != nil {
		if !b.mayHaveArrived(l, now) {
			b.drop(l)
		}
		return false
	}
	if w.unproven != "" && l.awaitsProof() { // which will not come
		if l.conns == 0 {
			b.drop(l)
		}
		return false
	}
	if _, down := b.unreachable[l.host.Name]; down && b.hostDown(l.host.Name, now) != "" {
		return false
	}
	// One address may be that of many people, and a cookie cut to "CONTOSO\a" that
	// of all of them whose names begin so: unless it is known who is coming, only
	// connections that follow one another are taken for one logon.
	_, exact := w.id.Account()
	return exact || l.conns == 0
}

// reserve decides for w and reserves what was decided. It returns nil if w has to
// wait; w.last tells why. The caller holds mu.
func (b *Broker) reserve(f *farm, w *waiter, brief bool, now time.Time) *logon {
	key := f.freeKey(w.id)
	for range maxRaces {
		view, version, err := b.view(f, w.id, key, now)
		if err != nil {
			w.last = placement.Decision{Kind: placement.WaitForSlot, Class: placement.ClassInternal, Reason: err.Error()}
			return nil
		}
		view.Unproven, view.Brief = w.unproven, brief
		view.Few = b.snapshot.FarmSize(f.name) > explained
		settings := b.settings(f.name)
		w.last = placement.Decide(view, w.id, settings.Policy)
		if w.last.Host == "" {
			if b.dropUnproven(f, key) {
				continue
			}
			return nil
		}
		if why := b.tooMany(f, w.id, settings); why != "" && w.last.Own == nil {
			w.last = placement.Decision{Kind: placement.WaitForSlot, Class: placement.ClassTooMany, Reason: why}
			return nil
		}
		if brief { // whoever is served is told why in full
			view.Brief = false
			w.last = placement.Decide(view, w.id, settings.Policy)
		}
		l, err := b.promise(f, w, key, version, settings, now)
		if err == nil {
			return l
		}
		if !errors.Is(err, ledger.ErrConflict) {
			w.last = placement.Decision{Kind: placement.WaitForSlot, Class: placement.ClassInternal, Reason: fmt.Sprintf("reserving on %s: %v", w.last.Host, err)}
			return nil
		}
	}
	w.last = placement.Decision{Kind: placement.WaitForSlot, Class: placement.ClassInternal, Reason: "other brokers were faster each time"}
	return nil
}

// promise reserves w.last for w and sets off what it needs.
func (b *Broker) promise(f *farm, w *waiter, key string, version uint64, settings Farm, now time.Time) (*logon, error) {
	host := b.snapshot.Host(w.last.Host)
	slim := w.last
	slim.Candidates = nil
	r := ledger.Reservation{
		Farm: f.name, Key: key, Host: w.last.Host, Client: w.id.Client, Decision: slim,
		Baseline: b.there(host.Host.Name), MadeAt: now, ExpiresAt: now.Add(settings.Reservation),
	}
	if slim.Victim != nil && !slim.NeedsProof {
		r.ExpiresAt = r.ExpiresAt.Add(settings.SoftLimit) // the slot cannot be used before the victim is gone
	}
	r.Account, _ = w.id.Account()
	r, err := b.deps.Ledger.Reserve(context.Background(), r, version)
	if err != nil {
		return nil, err
	}
	l := &logon{res: r, host: host.Host, id: w.id, ready: make(chan struct{})}
	for o := range f.byHost[l.host.Name] {
		if o.res.Account.IsZero() && r.Account.IsZero() && o.res.Seen == nil {
			o.mixed, l.mixed = true, true
		}
	}
	f.add(l)
	b.record(audit.Record{
		Time: now, Event: audit.Decided, Farm: f.name, Reservation: r.ID,
		Identity: w.id, Decision: w.last, Took: now.Sub(w.since),
	})
	switch v := slim.Victim; {
	case v == nil:
		close(l.ready)
	case !slim.NeedsProof: // else Accepted does it
		b.startEviction(l, *v, settings, now)
	}
	return l, nil
}

// freeKey is id's key, with a number before it where that is held already: by somebody
// else at the same address, or by a reservation of the caller's that has ended in doubt.
func (f *farm) freeKey(id sessions.Identity) string {
	first := id.Key()
	key := first
	for n := 2; f.logons[key] != nil; n++ {
		key = numbered(first, n)
	}
	return key
}

// numbered is the n-th key of those who have the same one. The number stands first: what
// is behind the first one's may be in somebody's name.
func numbered(key string, n int) string { return strconv.Itoa(n) + ":" + key }

// tooMany is why id's address gets no further slot for now, "" if it does. The way
// back to one's own session is always open: an office behind one address may
// lose all its connections at once.
func (b *Broker) tooMany(f *farm, id sessions.Identity, settings Farm) string {
	if id.Trusted {
		return ""
	}
	n := 0
	for l := range f.byClient[id.Client] {
		if l.res.Seen == nil && l.res.Decision.Own == nil {
			n++
		}
	}
	if n < settings.PerClient {
		return ""
	}
	return fmt.Sprintf("%d slots are reserved for this client address already and nobody has logged on", n)
}

// view gathers what a decision for the caller with key may look at. It is good as
// long as mu is held.
func (b *Broker) view(f *farm, id sessions.Identity, key string, now time.Time) (placement.View, uint64, error) {
	claims, version, err := b.claimed(f, key, now)
	if err != nil {
		return placement.View{}, 0, err
	}
	claims.Count(b.snapshot)
	b.evictions.expire(now)
	v := placement.View{
		Snapshot: b.snapshot, Farm: f.name, Now: now, Leaving: b.leaving, Claims: claims,
		Unreachable: map[string]string{}, Untouchable: b.sparedNow(now), CannotEvict: b.cannotEvict,
	}
	b.evictions.fill(&v, id)
	for name := range b.unreachable {
		if why := b.hostDown(name, now); why != "" {
			v.Unreachable[name] = why
		}
	}
	return v, version, nil
}

// mayHaveArrived reports whether the caller of l, which has expired, may have
// logged on at the last moment, so that no reading shows the session yet. The
// slot then stays taken until one does, or shows that there is none.
func (b *Broker) mayHaveArrived(l *logon, now time.Time) bool {
	h := b.snapshot.Host(l.host.Name)
	return l.res.Seen == nil && l.failed == nil && h != nil && h.Fresh(now) && !h.Report.ReadAt.After(l.res.ExpiresAt)
}

// hostDown is why the host is left alone now, "" if it is not.
func (b *Broker) hostDown(name string, now time.Time) string {
	m, marked := b.unreachable[name]
	if marked && !now.Before(m.until) {
		delete(b.unreachable, name)
		return ""
	}
	return m.why
}

// unmix is for a caller without a name who leaves and whose session was not seen,
// while that of another such caller on the same host was, who is still connected.
// It may have been the first one's, and the second has yet to log on: the slot is
// kept for whoever stays. The caller holds mu.
func (b *Broker) unmix(l *logon) {
	for _, o := range b.farm(l.res.Farm).byNumber(l.host.Name) {
		if o.mixed && o.res.Seen != nil && o.res.Decision.Own == nil && o.conns > 0 {
			l.res.Seen, o.res.Seen = o.res.Seen, nil
			// No session that is there is o's: a new one has always confirmed somebody.
			o.res.Baseline = append(o.res.Baseline, b.there(o.host.Name)...)
			_, _ = b.deps.Ledger.Update(context.Background(), o.res) // lost only with the reservation
			return
		}
	}
}

// drop releases l's reservation. Connections that still share it go on; dropping
// twice is harmless. The caller holds mu.
func (b *Broker) drop(l *logon) {
	b.farm(l.res.Farm).remove(l)
	// Nobody could act on a failure: what is not released expires.
	_ = b.deps.Ledger.Release(context.Background(), l.res)
}

// there are the sessions that somebody has on host. They are the snapshot's: read only.
func (b *Broker) there(host string) []sessions.Ref {
	if i := b.snapshot.Position(host); i >= 0 {
		return b.snapshot.UserRefs(i)
	}
	return nil
}
