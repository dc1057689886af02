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
	d        *dials
	addr     string
	inFlight int
	waiting  []*turn // in order of arrival
}

// turn is a dial that waits for a place, or has one.
type turn struct {
	gate *gate
	come func() // called when a place is handed over; must not block
}

// enter asks for a place among limit dials to addr. now is false if there is none yet:
// then come is called when there is, unless leave is called before. Whoever has a
// place gives it back by leave.
func (d *dials) enter(addr string, limit int, come func()) (t *turn, now bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	g := d.gates[addr]
	if g == nil {
		if d.gates == nil {
			d.gates = make(map[string]*gate)
		}
		g = &gate{d: d, addr: addr}
		d.gates[addr] = g
	}
	t = &turn{gate: g, come: come}
	if g.inFlight < limit && len(g.waiting) == 0 {
		g.inFlight++
		return t, true
	}
	g.waiting = append(g.waiting, t)
	return t, false
}

// leave gives up t's place, or its wait for one. It reports false if t waited no
// longer. Leaving again is harmless, but not at the same time.
func (t *turn) leave() (waited bool) {
	g := t.gate
	if g == nil {
		return false
	}
	t.gate = nil
	g.d.mu.Lock()
	if i := slices.Index(g.waiting, t); i >= 0 {
		g.waiting = slices.Delete(g.waiting, i, i+1)
		g.d.mu.Unlock()
		return true
	}
	var next *turn
	if len(g.waiting) > 0 {
		next = g.waiting[0]
		g.waiting = slices.Delete(g.waiting, 0, 1)
	} else if g.inFlight--; g.inFlight == 0 {
		delete(g.d.gates, g.addr)
	}
	g.d.mu.Unlock()
	if next != nil {
		next.come()
	}
	return false
}

// acquire waits for a place among limit dials to addr. The place is given
// back by calling release, once or more often.
func (d *dials) acquire(ctx context.Context, addr string, limit int) (release func(), err error) {
	come := make(chan struct{})
	t, now := d.enter(addr, limit, func() { close(come) })
	release = sync.OnceFunc(func() { t.leave() })
	if now {
		return release, nil
	}
	select {
	case <-come:
		return release, nil
	case <-ctx.Done():
	}
	release() // and on to the next, if it was handed over at the same moment
	return nil, context.Cause(ctx)
}

// dial connects to the host of rt within the limits of cfg. The caller closes the
// connection, and calls release when the dial no longer counts as in flight.
func (d *dials) dial(ctx context.Context, rt Route, cfg *Config) (host net.Conn, release func(), err error) {
	wait, cancel := ctx, context.CancelFunc(func() {})
	if cfg.DialTimeout > 0 {
		wait, cancel = context.WithTimeoutCause(ctx, cfg.DialTimeout, ErrDialQueue)
	}
	addr := rt.Addr
	release, err = d.acquire(wait, addr, cfg.dialsTo(rt))
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
