package broker

import (
	"time"

	"github.com/rdpbroker/rdpbroker/broker/due"
)

const (
	// linger is how long a reservation outlives the last connection of its logon:
	// clients open several in a row, and come back after a password prompt.
	linger = 15 * time.Second
	// atOnce is how many logons are looked at before others get their turn with the broker.
	atOnce = 256
)

// absences are a farm's logons that were without a connection when they were last heard
// of. Connections of one caller come and go within milliseconds: one that comes takes
// nothing out here, and one that goes puts nothing in that is there already.
type absences struct {
	due   due.Queue[*logon]
	timer *time.Timer // for the first one; nil: there never was one
}

// absence is that of one logon.
type absence struct {
	left  time.Time // when the last connection ended
	noted bool      // it is among what is due
}

func (a *absences) stop() {
	if a.timer != nil {
		a.timer.Stop()
	}
}

// part takes one connection out of l, and releases l some time after the last
// one: at once if the session has been seen, since then that session says it all,
// or has come and gone.
// The caller holds mu.
func (b *Broker) part(l *logon, now time.Time) {
	l.conns--
	if l.conns > 0 || b.closed || b.farm(l.res.Farm).logons[l.res.Key] != l {
		return
	}
	if l.mixed && l.res.Seen == nil && !l.served {
		b.unmix(l)
	}
	if l.res.Seen != nil || l.served {
		b.drop(l)
		return
	}
	b.linger(l, now)
}

// linger begins the time of l, which has no connection since now. The caller holds mu.
func (b *Broker) linger(l *logon, now time.Time) {
	l.left = now
	if !l.noted {
		l.noted = true
		f := b.farm(l.res.Farm)
		if f.absences.due.Add(now.Add(linger), l) { // else the timer is set for somebody before
			b.lookAfterAbsent(f, now)
		}
	}
}

// lookAfterAbsent sets the timer for the first one that is due. The caller holds mu.
func (b *Broker) lookAfterAbsent(f *farm, now time.Time) {
	a := &f.absences
	at, ok := a.due.First()
	switch {
	case !ok:
	case a.timer == nil:
		a.timer = time.AfterFunc(at.Sub(now), func() { b.lookAtAbsent(f) })
	default:
		a.timer.Reset(at.Sub(now))
	}
}

// lookAtAbsent looks at those whose time has come.
func (b *Broker) lookAtAbsent(f *farm) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return
	}
	now := time.Now()
	dropped := false
	for range atOnce {
		l, ok := f.absences.due.Next(now)
		if !ok {
			break
		}
		l.noted = false
		if l.conns > 0 || f.logons[l.res.Key] != l {
			continue
		}
		if again := b.lingered(l, now); again > 0 {
			l.noted = true
			f.absences.due.Add(now.Add(again), l)
			continue
		}
		dropped = true
	}
	if dropped {
		b.pumpSoon(f, now)
	}
	b.lookAfterAbsent(f, now)
}

// lingerAnew gives a caller who has shown proof and left while room was made for them
// the time to come back that others have: FreeRDP gives up after 9 s. The caller
// holds mu.
func (b *Broker) lingerAnew(l *logon, now time.Time) {
	if l.proven && l.conns == 0 && l.noted {
		b.linger(l, now)
	}
}

// lingered releases l, which has no connection, if its time is over; else it returns when
// to look again. The last connection may have left a session behind: as long as no reading
// begun after it tells, the slot stays promised, at most until it expires. The caller
// holds mu.
func (b *Broker) lingered(l *logon, now time.Time) (again time.Duration) {
	if until := l.left.Add(linger); now.Before(until) { // somebody has been there meanwhile
		return until.Sub(now)
	}
	if l.proven && !isClosed(l.ready) { // the caller gave up; their slot is in the making
		return recheck
	}
	h := b.snapshot.Host(l.host.Name)
	read := h == nil || h.Report != nil && h.Report.ReadAt.After(l.left)
	if !read && (now.Before(l.res.ExpiresAt) || b.mayHaveArrived(l, now)) {
		return recheck
	}
	b.drop(l)
	return 0
}
