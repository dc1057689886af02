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
	p.mu.Lock()
	if !p.stopping {
		p.stopping = true
		if len(p.conns) == 0 {
			close(p.empty)
		}
	}
	for c := range p.conns {
		if !c.relaying {
			c.abort(errStopping)
		}
	}
	p.mu.Unlock()

	select {
	case <-p.empty:
		return nil
	case <-ctx.Done():
	}
	p.mu.Lock()
	left := len(p.conns)
	for c := range p.conns {
		c.cancel(errStopping)
	}
	p.mu.Unlock()
	<-p.empty
	if left == 0 {
		return nil
	}
	return fmt.Errorf("stopping the proxy: %d connections were cut: %w", left, context.Cause(ctx))
}

// add registers c. It reports false if the proxy stops.
func (p *Proxy) add(c *conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopping {
		return false
	}
	p.conns[c] = struct{}{}
	return true
}

// relaying marks c as one that Shutdown waits for. It reports false if the
// proxy stops already.
func (p *Proxy) relaying(c *conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	c.relaying = !p.stopping
	return c.relaying
}

func (p *Proxy) remove(c *conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, c)
	if p.stopping && len(p.conns) == 0 {
		close(p.empty)
	}
}
