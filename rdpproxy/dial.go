package rdpproxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"
)

// ErrDialQueue is in the error of a dial that was never tried, because too many
// others to the same address were in flight for the whole DialTimeout.
var ErrDialQueue = errors.New("no place among the dials in flight")

// dials bounds the dials in flight per address. The zero value is ready.
type dials struct {
	mu    sync.Mutex
	gates map[string]*gate
}

// gate is one address with at least one dial in flight.
type gate struct {
	inFlight int
	waiting  []chan struct{} // in order of arrival; closed to hand the place over
}

// acquire waits for a place among limit dials to addr. The place is given
// back by calling release, once or more often.
func (d *dials) acquire(ctx context.Context, addr string, limit int) (release func(), err error) {
	d.mu.Lock()
	g := d.gates[addr]
	if g == nil {
		if d.gates == nil {
			d.gates = make(map[string]*gate)
		}
		g = new(gate)
		d.gates[addr] = g
	}
	release = sync.OnceFunc(func() { d.release(addr, g) })
	if g.inFlight < limit && len(g.waiting) == 0 {
		g.inFlight++
		d.mu.Unlock()
		return release, nil
	}
	turn := make(chan struct{})
	g.waiting = append(g.waiting, turn)
	d.mu.Unlock()

	select {
	case <-turn:
		return release, nil
	case <-ctx.Done():
	}
	d.mu.Lock()
	i := slices.Index(g.waiting, turn)
	if i >= 0 {
		g.waiting = slices.Delete(g.waiting, i, i+1)
	}
	d.mu.Unlock()
	if i < 0 { // handed over at the same moment
		release()
	}
	return nil, context.Cause(ctx)
}

func (d *dials) release(addr string, g *gate) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(g.waiting) > 0 {
		close(g.waiting[0])
		g.waiting = slices.Delete(g.waiting, 0, 1)
		return
	}
	if g.inFlight--; g.inFlight == 0 {
		delete(d.gates, addr)
	}
}

// dial connects to addr within the limits of cfg. The caller closes the
// connection, and calls release when the dial no longer counts as in flight.
func (d *dials) dial(ctx context.Context, addr string, cfg *Config) (host net.Conn, release func(), err error) {
	wait, cancel := ctx, context.CancelFunc(func() {})
	if cfg.DialTimeout > 0 {
		wait, cancel = context.WithTimeoutCause(ctx, cfg.DialTimeout, ErrDialQueue)
	}
	release, err = d.acquire(wait, addr, cfg.DialsPerHost)
	cancel()
	if err != nil {
		return nil, nil, fmt.Errorf("dialling %s: %w", addr, err)
	}
	dialing, cancel := ctx, context.CancelFunc(func() {})
	if cfg.DialTimeout > 0 {
		dialing, cancel = context.WithTimeout(ctx, cfg.DialTimeout)
	}
	defer cancel()
	host, err = cfg.Dial(dialing, "tcp", addr)
	if err != nil {
		release()
		return nil, nil, fmt.Errorf("dialling %s: %w", addr, err)
	}
	return host, release, nil
}

// firstAnswer passes the host's first bytes on to the client, waiting for them
// no longer than wait, and ctx. After that the host has certainly taken the
// connection out of its backlog. An error is one of the host's connection.
func firstAnswer(ctx context.Context, client, host net.Conn, wait time.Duration) (n int64, err error) {
	if err := host.SetReadDeadline(time.Now().Add(wait)); err != nil {
		return 0, err
	}
	stop := context.AfterFunc(ctx, func() { _ = host.SetReadDeadline(past()) })
	defer stop()
	buf := make([]byte, 512)
	got, err := host.Read(buf)
	if got > 0 {
		put, _ := client.Write(buf[:got]) // a client that is gone: the relay finds out
		n = int64(put)
	}
	if isTimeout(err) {
		err = nil
	}
	return n, err
}

// past is a deadline that has always been over: it interrupts a read.
func past() time.Time { return time.Unix(1, 0) }

func isTimeout(err error) bool {
	var timeout interface{ Timeout() bool }
	return errors.As(err, &timeout) && timeout.Timeout()
}
