// Package memnet is a network in memory, so that programs that speak TLS, HTTP
// and RDP to each other can run in a bubble of testing/synctest, in which time
// passes only when everybody waits. Its connections have buffers, half-closes,
// deadlines and addresses, as those of TCP have.
package memnet

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"syscall"
)

// Network joins those who dial with those who listen. The zero value is an empty
// network.
type Network struct {
	mu        sync.Mutex
	listeners map[netip.AddrPort]*Listener
	port      uint16
}

// ErrRefused is what dialling an address without a listener fails with.
var ErrRefused = syscall.ECONNREFUSED

// Listen makes a listener at addr, which must be free.
func (n *Network) Listen(addr netip.AddrPort) (*Listener, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.listeners[addr] != nil {
		return nil, fmt.Errorf("listen on %s: %w", addr, syscall.EADDRINUSE)
	}
	if n.listeners == nil {
		n.listeners = map[netip.AddrPort]*Listener{}
	}
	l := &Listener{network: n, addr: addr, arrived: make(chan struct{}, 1), closed: make(chan struct{}), conns: map[*Conn]struct{}{}}
	n.listeners[addr] = l
	return l, nil
}

// Dial connects to addr from client, with a free port if it has none.
func (n *Network) Dial(ctx context.Context, client netip.AddrPort, addr string) (net.Conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	to, err := netip.ParseAddrPort(addr)
	if err != nil {
		return nil, fmt.Errorf("dial: %w", err)
	}
	n.mu.Lock()
	l := n.listeners[to]
	if client.Port() == 0 {
		n.port = n.port%40000 + 1
		client = netip.AddrPortFrom(client.Addr(), 20000+n.port)
	}
	n.mu.Unlock()
	near, far := pipe(client, to)
	if l == nil || !l.offer(far) {
		return nil, fmt.Errorf("dial %s: %w", addr, ErrRefused)
	}
	return near, nil
}

// Dialer is Dial from a fixed client address, in the form of
// net.Dialer.DialContext.
func (n *Network) Dialer(client netip.Addr) func(ctx context.Context, network, addr string) (net.Conn, error) {
	return func(ctx context.Context, _, addr string) (net.Conn, error) {
		return n.Dial(ctx, netip.AddrPortFrom(client, 0), addr)
	}
}

// Listener accepts connections. Everybody who dials is connected at once: the
// backlog has no bound.
type Listener struct {
	network *Network
	addr    netip.AddrPort
	arrived chan struct{} // has a value while somebody may wait
	closed  chan struct{}

	mu       sync.Mutex
	isClosed bool
	backlog  []*Conn
	conns    map[*Conn]struct{} // accepted or not, and not closed
}

func (l *Listener) offer(c *Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.isClosed {
		return false
	}
	c.onClose = func() {
		l.mu.Lock()
		delete(l.conns, c)
		l.mu.Unlock()
	}
	l.conns[c] = struct{}{}
	l.backlog = append(l.backlog, c)
	select {
	case l.arrived <- struct{}{}:
	default:
	}
	return true
}

// Accept waits for the next connection.
func (l *Listener) Accept() (net.Conn, error) {
	for {
		l.mu.Lock()
		if l.isClosed {
			l.mu.Unlock()
			return nil, &net.OpError{Op: "accept", Net: "mem", Addr: l.Addr(), Err: net.ErrClosed}
		}
		if len(l.backlog) > 0 {
			c := l.backlog[0]
			l.backlog = l.backlog[1:]
			l.mu.Unlock()
			return c, nil
		}
		l.mu.Unlock()
		select {
		case <-l.arrived:
		case <-l.closed:
		}
	}
}

// Cut resets every connection that was made through l.
func (l *Listener) Cut() {
	l.mu.Lock()
	var all []*Conn
	for c := range l.conns {
		all = append(all, c)
	}
	l.mu.Unlock()
	for _, c := range all {
		c.Reset()
	}
}

// Close ends the listener and resets connections that nobody has accepted.
// Closing twice is harmless.
func (l *Listener) Close() error {
	l.network.mu.Lock()
	if l.network.listeners[l.addr] == l {
		delete(l.network.listeners, l.addr)
	}
	l.network.mu.Unlock()
	l.mu.Lock()
	if l.isClosed {
		l.mu.Unlock()
		return nil
	}
	l.isClosed = true
	close(l.closed)
	waiting := l.backlog
	l.backlog = nil
	l.mu.Unlock()
	for _, c := range waiting {
		c.Reset()
	}
	return nil
}

// Addr is a *net.TCPAddr.
func (l *Listener) Addr() net.Addr { return net.TCPAddrFromAddrPort(l.addr) }

// errReset is what both ends see after Reset.
var errReset error = syscall.ECONNRESET
