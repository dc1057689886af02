package rdpproxy

import (
	"cmp"
	"net/netip"
	"slices"
	"time"
)

// Connection is one open connection, as an operator sees it.
type Connection struct {
	// ID is different from that of any other connection of this proxy.
	ID       uint64
	Listener string
	Client   netip.AddrPort
	// Host, Why and Resume are those of its Route; zero if there is none yet.
	Host, Why string
	Resume    uint64
	// Said is what the first packet says of its sender, fit for logs.
	Said  string
	Since time.Time
	// ToHost and ToClient are the bytes relayed so far. They are counted as bytes
	// pass through this process; where goroutines relay in the kernel (Config.Portable
	// on Linux) they are 0 until the end.
	ToHost, ToClient int64
}

// Connections are the open connections, the oldest first.
func (p *Proxy) Connections() []Connection {
	p.mu.Lock()
	out := make([]Connection, 0, len(p.conns))
	for c := range p.conns {
		o := Connection{ID: c.id, Listener: c.listener.Name, Client: c.client, Since: c.accepted}
		if c.relaying {
			o.Host, o.Why, o.Resume, o.Said = c.relayed.host, c.relayed.why, c.relayed.resume, c.identity
			o.ToHost, o.ToClient = c.by.moved()
		}
		out = append(out, o)
	}
	p.mu.Unlock()
	slices.SortFunc(out, func(a, b Connection) int { return cmp.Compare(a.ID, b.ID) })
	return out
}
