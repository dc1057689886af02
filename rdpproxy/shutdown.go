package rdpproxy

import (
	"context"
	"errors"
	"fmt"
)

// errStopping is the cause with which Shutdown ends connections.
var errStopping = errors.New("the proxy stops")

// Shutdown ends the proxy. Connections that have no host yet are ended at
// once, new ones are refused, and those that relay go on until they end by
// themselves or ctx ends, which cuts them. Shutdown returns when no connection
// is left: nil, or an error with the number of connections that were cut, which
// wraps the cause of ctx's end.
//
// It does not stop listeners; end the context of Serve first. The proxy cannot
// be used again.
func (p *Proxy) Shutdown(ctx context.Context) error {
	p.endPending()

	select {
	case <-p.empty:
		p.loops.Load().stop()
		return nil
	case <-ctx.Done():
	}
	left := p.cutAll()
	<-p.empty
	p.loops.Load().stop()
	if left == 0 {
		return nil
	}
	return fmt.Errorf("stopping the proxy: %d connections were cut: %w", left, context.Cause(ctx))
}

// endPending refuses new connections from now on, and ends those that have no host.
func (p *Proxy) endPending() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.stopping {
		p.stopping = true
		if len(p.conns) == 0 {
			close(p.empty)
		}
	}
	for c := range p.conns {
		if !c.relaying {
			c.by.abort(errStopping)
		}
	}
}

// cutAll cuts every connection, and returns how many they are.
func (p *Proxy) cutAll() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		c.by.cut(errStopping)
	}
	return len(p.conns)
}

// add registers c, which by serves. It reports false if the proxy stops.
func (p *Proxy) add(c *conn, by server) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopping {
		return false
	}
	p.lastID++
	c.id, c.by = p.lastID, by
	p.conns[c] = struct{}{}
	return true
}

// relaying marks c as one that by relays to rt, and that Shutdown waits for. It
// reports false if the proxy stops already.
func (p *Proxy) relaying(c *conn, rt Route, by server) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	c.relaying, c.by = !p.stopping, by
	c.relayed = rt.relayed()
	return c.relaying
}

// serves notes that by serves c from now on, and calls begin. Aborts and cuts that
// come later are by's.
func (p *Proxy) serves(c *conn, by server, begin func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c.by = by
	begin()
}

// passOn has do called for whoever serves c after by.
func (p *Proxy) passOn(c *conn, by server, do func(by server)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c.by != nil && c.by != by {
		do(c.by)
	}
}

func (p *Proxy) remove(c *conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c.by = nil
	delete(p.conns, c)
	if p.stopping && len(p.conns) == 0 {
		close(p.empty)
	}
}
