package daemon

import (
	"context"
	"time"

	"github.com/rdpbroker/rdpbroker/sessions"
)

// firstLook is how long after the start callers wait for hosts that have not
// answered yet. Hosts that answer do so in a fraction of it.
const firstLook = 5 * time.Second

// observe takes a new picture of the farm.
func (d *Daemon) observe(s *sessions.Snapshot) {
	d.broker.Observe(s)
	if lookedAtAll(s) {
		d.looking()
	}
}

// lookedAtAll reports whether of every host it is known what is on it, or why not.
func lookedAtAll(s *sessions.Snapshot) bool {
	for i := range s.Hosts {
		if s.Hosts[i].Report == nil && s.Hosts[i].Problem == "" {
			return false
		}
	}
	return true
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// awaitLook waits until every host has been looked at, for firstLook at most. A
// decision on half a picture would give users a new session beside their own, and
// log somebody off a host while the next one has a free slot.
func (d *Daemon) awaitLook(ctx context.Context) error {
	select {
	case <-d.looked:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
