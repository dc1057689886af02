package broker

import (
	"context"
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
		for _, l := range f.inOrder() {
			if l.res.Seen != nil {
				b.promiseAnew(l)
				continue
			}
			if !isClosed(l.ready) || l.failed != nil {
				continue
			}
			s, ok, sure := b.arrived(l)
			if !ok {
				continue
			}
			ref := sessions.RefOf(l.host.Name, s)
			l.res.Seen = &ref
			f.notNew(ref)
			// Lost with the reservation, if that has expired: the session is there.
			_, _ = b.deps.Ledger.Update(context.Background(), l.res)
			if sure {
				b.deps.Learn(l.res.Client, s.Account)
			}
			b.record(audit.Record{
				Time: now, Event: audit.Confirmed, Farm: f.name, Reservation: l.res.ID,
				Identity: l.id, Decision: l.res.Decision, Account: s.Account, Took: now.Sub(l.res.MadeAt),
			})
			if l.conns == 0 {
				b.drop(l)
			}
		}
	}
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

// notNew keeps a session that has turned out to be one caller's from being taken
// for another's, then or once the first one's reservation is gone.
func (f *farm) notNew(ref sessions.Ref) {
	for _, l := range f.logons {
		if l.host.Name == ref.Host && l.res.Seen == nil {
			l.res.Baseline = append(l.res.Baseline, ref)
		}
	}
}

// inOrder are f's logons, those with a name first, then by number: whoever is
// known takes their own session before it can be taken for somebody else's.
func (f *farm) inOrder() []*logon {
	ls := make([]*logon, 0, len(f.logons))
	for _, l := range f.logons {
		ls = append(ls, l)
	}
	slices.SortFunc(ls, func(a, b *logon) int {
		if aNamed, bNamed := !a.res.Account.IsZero(), !b.res.Account.IsZero(); aNamed != bNamed {
			if aNamed {
				return -1
			}
			return 1
		}
		return int(int64(a.res.ID) - int64(b.res.ID))
	})
	return ls
}

// arrived is the session that l's caller got, if the newest reading shows it. sure
// is false if it may be somebody else's: of two callers without a name it cannot
// be told whose session is whose, which is all the same for the slots.
func (b *Broker) arrived(l *logon) (s sessions.Session, ok, sure bool) {
	h := b.snapshot.Host(l.host.Name)
	if h == nil || h.Report == nil || !h.Report.ReadAt.After(l.res.MadeAt) {
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
	for _, x := range h.Report.Sessions {
		ref := sessions.RefOf(l.host.Name, x)
		switch {
		case !x.HasUser(), slices.Contains(l.res.Baseline, ref):
			continue
		case named && !l.res.Account.Matches(x.Account), len(l.id.Accounts) > 1 && !l.id.CouldBe(x.Account):
			continue
		}
		if found++; found == 1 {
			s = x
		}
	}
	return s, found > 0, named || found == 1 && !l.mixed
}
