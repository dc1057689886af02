package daemon

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/rdpbroker/rdpbroker/broker"
	"github.com/rdpbroker/rdpbroker/broker/admin"
	"github.com/rdpbroker/rdpbroker/broker/audit"
	"github.com/rdpbroker/rdpbroker/broker/placement"
	"github.com/rdpbroker/rdpbroker/sessions"
)

// messenger is a driver that can show a text to the user of a session.
type messenger interface {
	Message(ctx context.Context, h sessions.Host, s sessions.Session, title, text string) error
}

// actions are what operators may have done.
func (d *Daemon) actions() admin.Actions {
	a := admin.Actions{
		Drain: func(_ context.Context, by, host string, on bool) error { return refusal(d.drainHost(by, host, on)) },
		Message: func(ctx context.Context, by string, ref sessions.Ref, title, text string) error {
			return refusal(d.message(ctx, by, ref, title, text))
		},
		Logoff: func(ctx context.Context, by string, ref sessions.Ref) error {
			return refusal(d.broker.Logoff(ctx, ref, by))
		},
		Keep: func(_ context.Context, by string, ref sessions.Ref, until time.Time) error {
			return refusal(d.broker.Keep(ref, until, by))
		},
		Unkeep: func(_ context.Context, by string, ref sessions.Ref) error { return refusal(d.broker.Unkeep(ref, by)) },
		SetEviction: func(_ context.Context, by, mode string) error {
			d.broker.SetEviction(modes[mode], by)
			return nil
		},
	}
	if d.opts.ReadConfig != nil {
		a.Reload = d.reloadFor
	}
	return a
}

// modes are the words of admin.Actions.SetEviction.
var modes = map[string]*placement.Mode{
	"off": new(placement.Off), "shadow": new(placement.Shadow), "evict": new(placement.Evict), "": nil,
}

// refusal is err as the admin rooms tell it.
func refusal(err error) error {
	var refused *sessions.RefusedError
	var stuck *sessions.StuckError
	switch {
	case errors.Is(err, broker.ErrNoSession), errors.Is(err, broker.ErrNoHost):
		return &admin.ConflictError{Why: err.Error()}
	case errors.As(err, &refused), errors.As(err, &stuck):
		return &admin.ConflictError{Why: err.Error()}
	}
	return err
}

// drainHost drains a host. Taken back, it is as the configuration says, or
// against it where that drains the host.
func (d *Daemon) drainHost(by, host string, on bool) error {
	h := d.inventory.Snapshot().Host(host)
	if h == nil {
		return &admin.NotFoundError{What: "a host of the name " + host}
	}
	if !on && !h.Host.Draining {
		return d.broker.Drain(host, nil, by)
	}
	return d.broker.Drain(host, &on, by)
}

// message shows a text to the user of a session, by the host's driver.
func (d *Daemon) message(ctx context.Context, by string, ref sessions.Ref, title, text string) (err error) {
	h := d.Snapshot().Host(ref.Host)
	s, there := d.Snapshot().Find(ref)
	if h == nil || !there {
		return fmt.Errorf("%s: %w", ref, broker.ErrNoSession)
	}
	m, can := (*d.evictors.Load())[ref.Host].driver.(messenger)
	if !can {
		return &admin.ConflictError{Why: "no message can be shown on " + ref.Host + ": the way in which it is read has none"}
	}
	defer func() {
		r := audit.Record{
			Time: time.Now(), Event: audit.MessageShown, Farm: h.Host.Farm, By: by, Session: &ref, Account: s.Account, Setting: text,
		}
		if err != nil {
			r.Error = err.Error()
		}
		d.record(r)
	}()
	return m.Message(ctx, h.Host, s, title, text)
}
