package broker

import "time"

// linger is how long a reservation outlives the last connection of its logon:
// clients open several in a row, and come back after a password prompt.
const linger = 15 * time.Second

// lingering is the time that a logon has without a connection. Connections of one caller
// come and go within milliseconds: the timer of one that has left is neither stopped by
// the next nor made anew, but goes on for as long as there is something to wait for.
type lingering struct {
	left  time.Time   // when the last connection ended
	until time.Time   // nothing is done before
	timer *time.Timer // nil: none has left since it was last looked at
}

func (i *lingering) stop() {
	if i.timer != nil {
		i.timer.Stop()
		i.timer = nil
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
	l.left, l.until = now, now.Add(linger)
	if l.timer == nil {
		l.timer = time.AfterFunc(linger, func() { b.lingered(l) })
	}
}

// lingerAnew gives a caller who has shown proof and left while room was made for them
// the time to come back that others have: FreeRDP gives up after 9 s. The caller
// holds mu.
func (b *Broker) lingerAnew(l *logon, now time.Time) {
	if l.proven && l.conns == 0 && l.timer != nil {
		b.linger(l, now)
	}
}

// lingered releases l, whose time is over, unless somebody has come back. Its last
// connection may have left a session behind: as long as no reading begun after it
// tells, the slot stays promised, at most until it expires.
func (b *Broker) lingered(l *logon) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if l.timer == nil || b.closed {
		return
	}
	if l.conns > 0 {
		l.timer = nil
		return
	}
	now := time.Now()
	if now.Before(l.until) {
		l.timer.Reset(l.until.Sub(now))
		return
	}
	if l.proven && !isClosed(l.ready) { // the caller gave up; their slot is in the making
		l.timer.Reset(recheck)
		return
	}
	h := b.snapshot.Host(l.host.Name)
	read := h == nil || h.Report != nil && h.Report.ReadAt.After(l.left)
	if !read && (now.Before(l.res.ExpiresAt) || b.mayHaveArrived(l, now)) {
		l.timer.Reset(recheck)
		return
	}
	b.drop(l)
	b.pumpSoon(b.farm(l.res.Farm), now)
}
