package tsts

import (
	"context"
	"errors"
	"fmt"
	"time"

	session "github.com/oiweiwei/go-msrpc/msrpc/tsts/termsrvsession/v1"

	"github.com/rdpbroker/rdpbroker/sessions"
)

// settleTime is the pause between two looks at a session that is logging off.
const settleTime = time.Second

// objection is why a session is not logged off.
type objection string

func (o objection) Error() string { return string(o) }

// Evict logs the victim off if it is still exactly the session described: ID,
// account, logon time and disconnect time are read again, on the connection that
// carries the logoff and right before it, and must be the same, and the session
// Disconnected. One round trip lies between that look and the logoff; the caller
// closes the gap by holding this user's connections to the host back. Evict
// returns nil when the session is gone.
//
// Errors: *sessions.RefusedError if nothing was done, *sessions.StuckError if the
// session was told to log off and is still there when ctx ends. After any other
// the outcome is not known.
func (d *Driver) Evict(ctx context.Context, h sessions.Host, victim sessions.Session) error {
	refuse := func(why error) error {
		return &sessions.RefusedError{Ref: sessions.RefOf(h.Name, victim), Why: why.Error()}
	}
	if why := untouchable(victim); why != nil {
		return refuse(why)
	}
	l := d.link() // of its own: a logoff does not wait for a reading that hangs
	defer l.close()
	err := d.limit(ctx, func(ctx context.Context) error {
		return l.act(ctx, victim.ID, order{
			check:  func(now sessions.Session) error { return changed(victim, now) },
			lsm:    func(ctx context.Context, c *lsm, s *session.Session) error { return c.logoff(ctx, s) },
			legacy: func(ctx context.Context, c *legacy, id int) error { return c.logoff(ctx, id) },
		})
	})
	var no objection
	switch {
	case err == nil, errors.Is(err, errTold) && ctx.Err() == nil:
		return d.awaitGone(ctx, l, h.Name, victim)
	case errors.As(err, &no):
		return refuse(no)
	}
	if k, ok := answered(err); ok {
		if k == kindGone {
			return refuse(errors.New("it is not there any more"))
		}
		return refuse(err)
	}
	return fmt.Errorf("log session %d off %s: %w", victim.ID, h.Name, err)
}

// untouchable says why victim is not evicted whatever the host shows, or nil.
func untouchable(victim sessions.Session) error {
	switch {
	case undescribed(victim) != nil:
		return undescribed(victim)
	case victim.State != sessions.StateDisconnected || victim.DisconnectedAt.IsZero():
		return objection("it is not known since when it is disconnected")
	}
	return nil
}

// undescribed says why s could be taken for another session, or nil.
func undescribed(s sessions.Session) error {
	switch {
	case s.ID < 1 || s.ID >= sessions.FirstListenerID:
		return objection(fmt.Sprintf("ID %d is the services session or a listener", s.ID))
	case s.Account.IsZero() || s.Incarnation == "" || s.LogonAt.IsZero():
		return objection("it is not described well enough to be told from another session")
	}
	return nil
}

// other says why now is not the session that was described, or nil.
func other(described, now sessions.Session) error {
	switch {
	case now.ID != described.ID:
		return objection("the host answered for another session")
	case now.Account.IsZero():
		return objection("nobody is logged on to it any more")
	case now.Account.Folded() != described.Account.Folded():
		return objection("another user has this session ID now")
	case now.Incarnation != described.Incarnation || !now.LogonAt.Equal(described.LogonAt):
		return objection("its user has logged on anew since")
	}
	return nil
}

// changed says how the session differs now from its description, or nil.
func changed(victim, now sessions.Session) error {
	switch {
	case other(victim, now) != nil:
		return other(victim, now)
	case now.State == sessions.StateActive:
		return objection("the user is connected again")
	case now.State != sessions.StateDisconnected:
		return objection(fmt.Sprintf("it is not disconnected but %s", now.State))
	case !now.DisconnectedAt.Equal(victim.DisconnectedAt):
		return objection("the user was connected in between")
	}
	return nil
}

// awaitGone looks until the session is gone or its ID belongs to another one. A
// look that fails is no answer; the next may be.
func (d *Driver) awaitGone(ctx context.Context, l *link, host string, victim sessions.Session) error {
	stuck := &sessions.StuckError{Ref: sessions.RefOf(host, victim), State: victim.State}
	unread := errors.New("there was no time to look") // why the last look did not succeed
	for {
		var r *reading
		err := d.limit(ctx, func(ctx context.Context) (err error) {
			r, err = l.read(ctx)
			return err
		})
		if err == nil {
			state, there := stillThere(victim, r.sessions)
			if !there {
				return nil
			}
			stuck.State, unread = state, nil
		} else if ctx.Err() == nil { // a look that only ctx ended says nothing new
			unread = err
		}
		if !isAuthError(err) && sleep(ctx, d.settle) {
			continue
		}
		if unread != nil {
			return fmt.Errorf("session %d of %s was told to log off, what became of it is not known: %w", victim.ID, host, unread)
		}
		return stuck
	}
}

// stillThere finds the victim. A session that has lost its user or its logon time
// on the way down is still there.
func stillThere(victim sessions.Session, now []sessions.Session) (sessions.State, bool) {
	for _, s := range now {
		if s.ID == victim.ID {
			return s.State, s.Incarnation == "" || s.Incarnation == victim.Incarnation
		}
	}
	return 0, false
}

// sleep pauses and reports whether ctx still goes on.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
