package rdpproxy

import (
	"net/netip"
	"sync"
)

// limits counts connections, in all and per client address. What may be is the
// caller's to say each time, so that it can change.
type limits struct {
	mu            sync.Mutex
	open, pending int
	clients       map[netip.Addr]*clientCount
}

type clientCount struct{ open, pending int }

// place is one connection's share in the counts. It belongs to the goroutine
// that serves the connection.
type place struct {
	limits  *limits
	pending bool
	client  netip.Addr // as clientKey has it; zero while the client is not known
}

// enter counts a connection that has yet to send its first packet, or returns
// the kind of refusal.
func (l *limits) enter(cfg *Config) (pl place, refused string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open >= cfg.MaxConnections {
		return place{}, RefusedTooMany
	}
	if l.pending >= cfg.MaxPending {
		return place{}, RefusedTooManyPending
	}
	l.open++
	l.pending++
	return place{limits: l, pending: true}, ""
}

// from counts the connection for its client's address, or returns the kind of
// refusal. It is called once, before ready.
func (pl *place) from(addr netip.Addr, cfg *Config) (refused string) {
	l, key := pl.limits, clientKey(addr)
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.clients[key]
	if c == nil {
		c = new(clientCount)
	}
	if c.open >= cfg.MaxPerClient {
		return RefusedTooManyFromClient
	}
	if c.pending >= cfg.MaxPendingPerClient {
		return RefusedTooManyPendingFromClient
	}
	if l.clients == nil {
		l.clients = make(map[netip.Addr]*clientCount)
	}
	c.open++
	c.pending++
	l.clients[key] = c
	pl.client = key
	return ""
}

// ready says that the first packet has come.
func (pl *place) ready() {
	l := pl.limits
	l.mu.Lock()
	defer l.mu.Unlock()
	pl.leavePending()
}

// leave takes the connection out of all counts.
func (pl *place) leave() {
	l := pl.limits
	l.mu.Lock()
	defer l.mu.Unlock()
	pl.leavePending()
	l.open--
	if c := l.clients[pl.client]; c != nil {
		if c.open--; c.open == 0 {
			delete(l.clients, pl.client)
		}
	}
}

// leavePending needs limits.mu.
func (pl *place) leavePending() {
	if !pl.pending {
		return
	}
	pl.pending = false
	pl.limits.pending--
	if c := pl.limits.clients[pl.client]; c != nil {
		c.pending--
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
