package loop

import (
	"context"
	"fmt"

	"github.com/rdpbroker/rdpbroker/rdpproxy/relay"
)

// watching is the part of a Pair that is watched at its beginning. A watcher may
// take its time, so each piece is shown to it on a goroutine of its own, while the
// direction holds the piece and reads nothing more. That costs microseconds for
// each of the few dozen pieces of a logon; afterwards nothing is left of it.
type watching struct {
	ctx      context.Context
	cancel   context.CancelCauseFunc
	toHost   look
	toClient look
}

// look is one function of a relay.Watch.
type look = func(ctx context.Context, b []byte) (more bool, err error)

func newWatching(ctx context.Context, w *relay.Watch) *watching {
	if w == nil {
		return nil
	}
	out := &watching{toHost: w.FromClient, toClient: w.FromHost}
	out.ctx, out.cancel = context.WithCancelCause(ctx)
	return out
}

// of is who watches d, nil if nobody does.
func (w *watching) of(d *direction) look {
	switch {
	case w == nil:
		return nil
	case d.from == client:
		return w.toHost
	}
	return w.toClient
}

// ask shows b to d's watcher.
func (p *Pair) ask(d *direction, b []byte, look look) {
	d.asking = true
	d.held = p.l.pool.hold(b)
	held, w, l := d.held, p.watch, p.l
	l.Go(func() {
		more, err := look(w.ctx, held.b)
		l.Post(func(*Loop) { p.told(d, more, err) })
	})
}

// told takes a watcher's answer.
func (p *Pair) told(d *direction, more bool, err error) {
	if p.over {
		return
	}
	d.asking = false
	if err != nil {
		by := watcher
		if p.watch.ctx.Err() != nil {
			by = ourselves
		}
		p.cut(by, fmt.Errorf("relay: %w", err))
		return
	}
	if !more {
		p.watch.forget(d)
		if p.watch.toHost == nil && p.watch.toClient == nil {
			p.watch.cancel(nil)
			p.watch = nil
		}
	}
	p.pump()
}

func (w *watching) forget(d *direction) {
	if d.from == client {
		w.toHost = nil
		return
	}
	w.toClient = nil
}
