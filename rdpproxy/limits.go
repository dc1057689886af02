package rdpproxy

import (
	"container/list"
	"net/netip"
	"sync"
)

// limits counts connections, in all and per client address. What may be is the
// caller's to say each time, so that it can change.
type limits struct {
	mu      sync.Mutex
	open    int
	pending list.List // of *place, the oldest first
	clients map[netip.Addr]*clientCount
}

type clientCount struct {
	key           netip.Addr // as clientKey has it
	open, pending int
}

// place is one connection's share in the counts.
type place struct {
	limits  *limits
	owner   *conn
	pending *list.Element // nil when the first packet has come, or the place was taken away
	client  *clientCount  // nil while the client is not known
	taken   bool          // the place was taken away
}

// enter counts a connection that has yet to send its first packet, or returns
// the kind of refusal. If too many are pending, the oldest of them gives way:
// whoever means it needs a fraction of a second, so a crowd of silent connections
// cannot keep users out unless it is renewed faster than that.
func (l *limits) enter(pl *place, cfg *Config) (refused string) {
	l.mu.Lock()
	if l.open >= cfg.MaxConnections {
		l.mu.Unlock()
		return RefusedTooMany
	}
	var oldest *place
	if l.pending.Len() >= cfg.MaxPending {
		oldest = l.pending.Front().Value.(*place)
		oldest.leavePending()
		oldest.taken = true
	}
	l.open++
	pl.limits, pl.pending = l, l.pending.PushBack(pl)
	l.mu.Unlock()
	if oldest != nil {
		oldest.owner.crowdedOut()
	}
	return ""
}

// from counts the connection for its client's address, or returns the kind of
// refusal. It is called once, before ready.
func (pl *place) from(addr netip.Addr, cfg *Config) (refused string) {
	l := pl.limits
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.client(addr)
	if c.open >= cfg.MaxPerClient {
		return RefusedTooManyFromClient
	}
	if c.pending >= cfg.MaxPendingPerClient {
		return RefusedTooManyPendingFromClient
	}
	if pl.pending != nil { // not taken away meanwhile
		c.pending++
	}
	pl.join(c)
	return ""
}

// adopt counts a connection that another process has admitted, whatever the limits are.
func (l *limits) adopt(pl *place, client netip.Addr) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open++
	pl.limits = l
	pl.join(l.client(client))
}

// client is what is counted of the client at addr. It needs mu.
func (l *limits) client(addr netip.Addr) *clientCount {
	key := clientKey(addr)
	if c := l.clients[key]; c != nil {
		return c
	}
	return &clientCount{key: key}
}

// join counts pl for c. It needs limits.mu.
func (pl *place) join(c *clientCount) {
	l := pl.limits
	if l.clients == nil {
		l.clients = make(map[netip.Addr]*clientCount)
	}
	l.clients[c.key] = c
	c.open++
	pl.client = c
}

// ready says that the first packet has come. It reports false if the place was
// taken away before.
func (pl *place) ready() bool {
	pl.limits.mu.Lock()
	defer pl.limits.mu.Unlock()
	pl.leavePending()
	return !pl.taken
}

// leave takes the connection out of all counts. It is harmless for one that was
// refused a place.
func (pl *place) leave() {
	l := pl.limits
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	pl.leavePending()
	l.open--
	if c := pl.client; c != nil {
		if c.open--; c.open == 0 {
			delete(l.clients, c.key)
		}
	}
}

// leavePending needs limits.mu.
func (pl *place) leavePending() {
	if pl.pending == nil {
		return
	}
	pl.limits.pending.Remove(pl.pending)
	pl.pending = nil
	if pl.client != nil {
		pl.client.pending--
	}
}

// clientKey is what is counted as one client: an IPv4 address, or the network
// that one IPv6 subscriber gets, whose addresses are all theirs.
func clientKey(a netip.Addr) netip.Addr {
	a = a.Unmap().WithZone("")
	if a.Is6() {
		if net, err := a.Prefix(64); err == nil {
			return net.Addr()
		}
	}
	return a
}
