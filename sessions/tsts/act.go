package tsts

import (
	"context"
	"errors"
	"fmt"
	"strings"

	session "github.com/oiweiwei/go-msrpc/msrpc/tsts/termsrvsession/v1"

	"github.com/rdpbroker/rdpbroker/sessions"
)

// Disconnect takes the client of s away and leaves the session as it is, if it is
// still exactly the session described and Active, and not the console; if
// s.LastInputAt is set its user must have done nothing since. It is looked at again
// on the connection that carries the order and right before it, as with Evict.
//
// Errors: *sessions.RefusedError if nothing was done. After any other the outcome is
// not known.
func (d *Driver) Disconnect(ctx context.Context, h sessions.Host, s sessions.Session) error {
	return d.act(ctx, h, s, "disconnected", order{
		check: func(now sessions.Session) error {
			switch {
			case other(s, now) != nil:
				return other(s, now)
			case strings.EqualFold(now.Name, "console"):
				return objection("it is the console session")
			case now.State != sessions.StateActive:
				return objection(fmt.Sprintf("it is not active but %s", now.State))
			case !s.LastInputAt.IsZero() && now.LastInputAt.After(s.LastInputAt):
				return objection("the user has done something since")
			}
			return nil
		},
		lsm:    func(ctx context.Context, c *lsm, s *session.Session) error { return c.disconnect(ctx, s) },
		legacy: func(ctx context.Context, c *legacy, id int) error { return c.disconnect(ctx, id) },
	})
}

// Message shows a text to the user of s, if that is still the session described, in
// a window that stays until they close it. It does not wait for that. Hosts that
// speak the legacy interface only are sent none: how that one counts the length of a
// text is told in two ways.
//
// Errors: *sessions.RefusedError if nothing was done. After any other the outcome is
// not known.
func (d *Driver) Message(ctx context.Context, h sessions.Host, s sessions.Session, title, text string) error {
	title, text = sessions.Shown(title, sessions.MaxTitle), sessions.Shown(text, sessions.MaxMessage)
	if title == "" || text == "" {
		return errors.New("a message needs a title and a text")
	}
	return d.act(ctx, h, s, "sent a message", order{
		check: func(now sessions.Session) error { return other(s, now) },
		lsm:   func(ctx context.Context, c *lsm, s *session.Session) error { return c.message(ctx, s, title, text) },
		legacy: func(context.Context, *legacy, int) error {
			return objection("the host speaks the legacy interface only")
		},
	})
}

// act does something to s on a connection of its own, and tells what came of it.
func (d *Driver) act(ctx context.Context, h sessions.Host, s sessions.Session, what string, o order) error {
	refuse := func(why error) error {
		return &sessions.RefusedError{Ref: sessions.RefOf(h.Name, s), Act: what, Why: why.Error()}
	}
	if why := undescribed(s); why != nil {
		return refuse(why)
	}
	l := d.link()
	defer l.close()
	err := d.limit(ctx, func(ctx context.Context) error { return l.act(ctx, s.ID, o) })
	var no objection
	if errors.As(err, &no) {
		return refuse(no)
	}
	if k, ok := answered(err); ok {
		if k == kindGone {
			return refuse(errors.New("it is not there any more"))
		}
		return refuse(err)
	}
	if err != nil {
		return fmt.Errorf("session %d of %s should be %s: %w", s.ID, h.Name, what, err)
	}
	return nil
}
