package daemon

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"github.com/rdpbroker/rdpbroker/broker"
	"github.com/rdpbroker/rdpbroker/broker/admin"
	"github.com/rdpbroker/rdpbroker/rdpproxy"
	"github.com/rdpbroker/rdpbroker/sessions"
)

// connections are those that have a route now. The proxy knows no accounts, so
// they are noted here.
type connections struct {
	mu   sync.Mutex
	last uint64
	open map[uint64]admin.Connection
}

// add notes one, until end is called.
func (c *connections) add(farm string, req rdpproxy.Request, id sessions.Identity, a *broker.Assignment) (end func()) {
	conn := admin.Connection{
		Farm: farm, Host: a.Host.Name, Client: req.Client.String(), Said: id.Said,
		Kind: a.Decision.Kind, Since: time.Now(),
	}
	conn.Account, _ = id.Account()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.open == nil {
		c.open = map[uint64]admin.Connection{}
	}
	c.last++
	conn.ID = c.last
	c.open[conn.ID] = conn
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.open, conn.ID)
	}
}

// list is all of them, the oldest first.
func (c *connections) list() []admin.Connection {
	c.mu.Lock()
	out := make([]admin.Connection, 0, len(c.open))
	for _, x := range c.open {
		out = append(out, x)
	}
	c.mu.Unlock()
	slices.SortFunc(out, func(a, b admin.Connection) int { return cmp.Compare(a.ID, b.ID) })
	return out
}
