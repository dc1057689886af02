package broker

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"time"

	"github.com/rdpbroker/rdpbroker/broker/audit"
	"github.com/rdpbroker/rdpbroker/broker/placement"
	"github.com/rdpbroker/rdpbroker/sessions"
)

// confirm finds the sessions of those who were sent to a host. From then on the
// session itself holds the slot. The caller holds mu.
func (b *Broker) confirm(now time.Time) {
	for _, f := range b.farms {
		for _, host := range b.unread(f) {
			b.confirmOn(f, host, now)
		}
	}
}

// confirmOn is confirm for those who were sent to host.
func (b *Broker) confirmOn(f *farm, host string, now time.Time) {
	ls := f.byNumber(host)
	var seen []*logon // before this reading
	for _, l := range ls {
		if l.res.Seen != nil {
			seen = append(seen, l)
		}
	}
	for _, l := range ls {
		b.ownAnew(l, now)
	}
	// Whoever is known takes their own session before it can be taken for somebody
	// else's, and whoever was taken for somebody else the one that shows it.
	for _, l := range ls {
		if b.mayConfirm(l) && l.named() {
			b.confirmed(f, l, b.arrived, now)
		}
	}
	for _, l := range ls {
		if b.mayConfirm(l) && l.guessed() {
			b.confirmed(f, l, b.strayed, now)
		}
	}
	for _, l := range ls {
		if b.mayConfirm(l) && !l.named() {
			b.confirmed(f, l, b.arrived, now)
		}
	}
	for _, l := range seen {
		if l.res.Seen != nil && !b.renamed(f, l) {
			b.promiseAnew(l)
		}
	}
	for _, l := range ls {
		if b.ownGone(l) {
			b.drop(l)
		}
	}
}

// ownAnew is for a caller on the way back to their own session of whom a reading shows
// another disconnected one, which was there when they came: the reading by which they were
// sent there was old, and this is where they will get. It is theirs to come back to, and
// not a sign that they have. The caller holds mu.
func (b *Broker) ownAnew(l *logon, now time.Time) {
	h := b.withoutOwn(l)
	if h == nil || !l.named() {
		return
	}
	for _, x := range h.Report.Sessions {
		if x.State != sessions.StateDisconnected || !x.HasUser() || !l.res.Account.Matches(x.Account) {
			continue
		}
		if away, known := h.Report.DisconnectedFor(x, now); known && now.Add(-away).After(l.res.MadeAt) {
			continue // they have been there since
		}
		ref := sessions.RefOf(l.host.Name, x)
		l.res.Decision.Kind, l.res.Decision.Own = placement.Reconnect, &ref
		_, _ = b.deps.Ledger.Update(context.Background(), l.res) // lost only with the reservation
		return
	}
}

// ownGone reports whether l has no connection, its caller was on the way back to their own
// session, and a reading has shown since they left that it is not there any more, nor a
// new one in its place. The reading that they were sent there by may have been old, and
// the host be full by now: if they come back they are not sent there again. The caller
// holds mu.
func (b *Broker) ownGone(l *logon) bool {
	if l.conns > 0 {
		return false
	}
	h := b.withoutOwn(l)
	return h != nil && h.Report.ReadAt.After(l.left)
}

// withoutOwn is l's host if its caller is on the way back to their own session, and a
// reading begun since then shows that this is not there; else nil. The caller holds mu.
func (b *Broker) withoutOwn(l *logon) *sessions.HostState {
	if l.res.Decision.Own == nil || l.res.Seen != nil {
		return nil
	}
	if _, there := b.snapshot.Find(*l.res.Decision.Own); there {
		return nil
	}
	return b.readSince(l)
}

// readSince is l's host if there is a reading of it that was begun after l was made; else
// nil. The caller holds mu.
func (b *Broker) readSince(l *logon) *sessions.HostState {
	h := b.snapshot.Host(l.host.Name)
	if h == nil || h.Report == nil || !h.Report.ReadAt.After(l.res.MadeAt) {
		return nil
	}
	return h
}

// renamed takes note that l's session has another reference now, if that is so: a host
// that is read by text may take a session for another one from one reading to the
// next. Whether it is or not, whoever it is for has the slot. The caller holds mu.
func (b *Broker) renamed(f *farm, l *logon) bool {
	h := b.snapshot.Host(l.host.Name)
	if _, there := b.snapshot.Find(*l.res.Seen); there || h == nil || h.Report == nil || !l.named() {
		return false
	}
	for _, x := range h.Report.Sessions {
		if x.ID == l.res.Seen.ID && l.res.Account.Matches(x.Account) && h.Counted(x) {
			ref := sessions.RefOf(l.host.Name, x)
			l.res.Seen = &ref
			f.notNew(ref, l, x.Account)
			_, _ = b.deps.Ledger.Update(context.Background(), l.res) // lost only with the reservation
			return true
		}
	}
	return false
}

// mayConfirm reports whether a new session may be l's.
func (b *Broker) mayConfirm(l *logon) bool {
	return l.res.Seen == nil && isClosed(l.ready) && l.failed == nil
}

// confirmed looks with find for l's session, and takes note of it.
func (b *Broker) confirmed(f *farm, l *logon, find func(*logon) (s sessions.Session, ok, sure bool), now time.Time) {
	s, ok, sure := find(l)
	if !ok {
		return
	}
	ref := sessions.RefOf(l.host.Name, s)
	l.res.Seen = &ref
	f.notNew(ref, l, s.Account)
	if l.certain() {
		b.giveUp(f, l, ref)
	}
	// Lost with the reservation, if that has expired: the session is there.
	_, _ = b.deps.Ledger.Update(context.Background(), l.res)
	if sure {
		b.deps.Learn(l.id, s.Account)
	}
	r := audit.Record{
		Time: now, Event: audit.Confirmed, Farm: f.name, Reservation: l.res.ID,
		Identity: l.id, Decision: l.res.Decision, Account: s.Account, Took: now.Sub(l.res.MadeAt),
	}
	b.record(r)
	if own := l.res.Decision.Own; sure && (own == nil || *own != ref) {
		if r.Earlier = b.earlier(f, ref, s); len(r.Earlier) > 0 {
			r.Event = audit.SecondSession
			b.record(r)
		}
	}
	if l.conns == 0 {
		b.drop(l)
	}
}

// earlier are the disconnected sessions in farm f of the one who has the new session s:
// the broker did not know who was coming, or they could not be taken there.
func (b *Broker) earlier(f *farm, ref sessions.Ref, s sessions.Session) []sessions.Ref {
	var found []sessions.Ref
	for _, at := range b.snapshot.AppendHostsOf(nil, s.Account) {
		h := &b.snapshot.Hosts[at]
		if h.Host.Farm != f.name {
			continue
		}
		for _, x := range h.Report.Sessions {
			other := sessions.RefOf(h.Host.Name, x)
			if x.State == sessions.StateDisconnected && x.HasUser() && x.Account.Matches(s.Account) && other != ref && !b.leaving[other] {
				found = append(found, other)
			}
		}
	}
	return found
}

// promiseAnew is for a logon whose session holds no slot any more, since it has ended
// or does not count while it is disconnected. Whoever is still connected may log on
// again, and so may those who join them: the slot is theirs as before. The caller
// holds mu.
func (b *Broker) promiseAnew(l *logon) {
	h := b.snapshot.Host(l.host.Name)
	if h == nil || h.Report == nil {
		return
	}
	if s, there := b.snapshot.Find(*l.res.Seen); there && h.Counted(s) {
		return
	}
	l.res.Baseline = append(l.res.Baseline, *l.res.Seen)
	l.res.Seen, l.served = nil, true
	_, _ = b.deps.Ledger.Update(context.Background(), l.res) // lost only with the reservation
}

// notNew keeps the session ref of a, which has turned out to be l's, from being taken for
// another caller's, then or once l is gone; but if l only might be a's, not for that of
// one who certainly is.
func (f *farm) notNew(ref sessions.Ref, l *logon, a sessions.Account) {
	for o := range f.byHost[ref.Host] {
		if o.res.Seen == nil && (l.certain() || !o.certain() || !o.res.Account.Matches(a)) {
			o.res.Baseline = append(o.res.Baseline, ref)
		}
	}
}

// giveUp takes ref, the session of l's caller beyond doubt, from whomever else it was taken
// to be the session of: they have yet to log on. The caller holds mu.
func (b *Broker) giveUp(f *farm, l *logon, ref sessions.Ref) {
	for o := range f.byHost[ref.Host] {
		if o == l || o.certain() || o.res.Seen == nil || *o.res.Seen != ref {
			continue
		}
		o.res.Baseline = append(o.res.Baseline, ref)
		o.res.Seen = nil
		_, _ = b.deps.Ledger.Update(context.Background(), o.res) // lost only with the reservation
	}
}

// byNumber are f's logons on host in the order in which they were made.
func (f *farm) byNumber(host string) []*logon {
	ls := slices.Collect(maps.Keys(f.byHost[host]))
	slices.SortFunc(ls, func(a, b *logon) int { return cmp.Compare(a.res.ID, b.res.ID) })
	return ls
}

// named reports whether it is known, or guessed from the address, whose logon it is.
func (l *logon) named() bool { return !l.res.Account.IsZero() }

// guessed reports whether l's caller may well be somebody else than was thought.
func (l *logon) guessed() bool {
	return !l.id.Guess.IsZero() || l.named() && l.id.Confidence <= sessions.ConfidencePrefix
}

// certain reports whether it is known whose logon it is.
func (l *logon) certain() bool { return l.named() && !l.guessed() }

// arrived is the session that l's caller got, if the newest reading shows it. sure
// is false if it may be somebody else's: of two callers without a name it cannot
// be told whose session is whose, which is all the same for the slots.
func (b *Broker) arrived(l *logon) (s sessions.Session, ok, sure bool) {
	h := b.readSince(l)
	if h == nil {
		return sessions.Session{}, false, false
	}
	if own := l.res.Decision.Own; own != nil {
		if s, there := b.snapshot.Find(*own); there {
			// A takeover's session was active before: it tells nothing new, and needs no slot.
			return s, s.State == sessions.StateActive && l.res.Decision.Kind == placement.Reconnect, true
		}
		// It ended before its user was back: what they get is a new one.
	}
	named := !l.res.Account.IsZero()
	found := 0
	for i := range h.Report.Sessions {
		x := &h.Report.Sessions[i]
		switch { // the dearest question last
		case !x.HasUser():
			continue
		case named && !l.res.Account.Matches(x.Account), len(l.id.Accounts) > 1 && !l.id.CouldBe(x.Account):
			continue
		case slices.Contains(l.res.Baseline, sessions.RefOf(l.host.Name, *x)):
			continue
		}
		if found++; found == 1 {
			s = *x
		}
	}
	return s, found > 0, named || found == 1 && !l.mixed
}

// strayed is the new session of somebody else than l's caller was taken for. It must
// be the only one on the host that was made from the caller's address; where that
// is not known, or behind address translation, there is none.
func (b *Broker) strayed(l *logon) (s sessions.Session, ok, sure bool) {
	h := b.readSince(l)
	if h == nil {
		return sessions.Session{}, false, false
	}
	found := 0
	for _, x := range h.Report.Sessions {
		if x.HasUser() && x.ClientAddr.IsValid() && x.ClientAddr.Unmap() == l.res.Client &&
			!slices.Contains(l.res.Baseline, sessions.RefOf(l.host.Name, x)) {
			s = x
			found++
		}
	}
	return s, found == 1, true
}
