package loop

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/rdpbroker/rdpbroker/rdpproxy/relay"
)

// Engine is a number of loops. Make one with New and Run it; what is relayed when
// Run ends is lost.
type Engine struct {
	loops []*Loop
}

// New makes an engine of n loops, one for each core. It starts nothing. GOMAXPROCS
// should be larger than n: a busy loop does not share its place.
func New(n int) (*Engine, error) {
	e := new(Engine)
	for range n {
		l, err := newLoop()
		if err != nil {
			for _, l := range e.loops {
				l.close()
			}
			return nil, fmt.Errorf("loop: %w", err)
		}
		e.loops = append(e.loops, l)
	}
	return e, nil
}

// Run serves until ctx ends, and closes what New opened.
func (e *Engine) Run(ctx context.Context) {
	stop := context.AfterFunc(ctx, func() {
		for _, l := range e.loops {
			l.Post(func(l *Loop) { l.stopped = true })
		}
	})
	defer stop()
	var all sync.WaitGroup
	for _, l := range e.loops {
		all.Go(l.run)
	}
	all.Wait()
	for _, l := range e.loops {
		l.close()
	}
}

// Loops are the engine's loops.
func (e *Engine) Loops() []*Loop { return e.loops }

// Lightest is the loop with the fewest pairs.
func (e *Engine) Lightest() *Loop {
	least := e.loops[0]
	for _, l := range e.loops[1:] {
		if l.load.Load() < least.load.Load() {
			least = l
		}
	}
	return least
}

// Load is how many pairs the loop has. It may be called from anywhere.
func (l *Loop) Load() int64 { return l.load.Load() }

// Relay begins to relay between two sockets on l, by p, which must be new. For the
// loop's own goroutine; the owner may hear of the end before Relay returns.
func (l *Loop) Relay(p *Pair, client, host Socket, o *Options, owner Owner) {
	if err := p.start(l, client, host, o, owner); err != nil {
		p.abandon(client, host)
	}
}

// abandon ends a pair that could not be registered.
func (p *Pair) abandon(client, host Socket) {
	p.over = true
	p.l.load.Add(-1)
	for _, s := range []Socket{client, host} {
		p.l.Close(s.FD)
	}
	p.owner.Ended(p.l, relay.Result{Err: p.err, Closer: relay.CloserContext})
}

// Say has b written to the host first. To be called before Relay.
func (p *Pair) Say(b []byte) {
	if len(b) > 0 {
		p.toHost.held = &block{b: b}
	}
}

// Watched has w see the bytes at the beginning of p. To be called before Relay. The
// functions of w get a context that ends with ctx or the pair.
func (p *Pair) Watched(ctx context.Context, w *relay.Watch) { p.watch = newWatching(ctx, w) }

// Take takes the descriptor out of c, which is closed and of no use any more. It
// reports false, and c stays as it was, if there is none to be had.
func Take(c net.Conn) (fd int32, ok bool) {
	tcp, ok := c.(*net.TCPConn)
	if !ok {
		return 0, false
	}
	fd, err := Dup(tcp)
	if err != nil {
		return 0, false
	}
	_ = tcp.Close() // the socket lives on in its duplicate
	return fd, true
}

// Dup is another descriptor of c's, one that does not block. The caller closes it.
func Dup(c syscall.Conn) (fd int32, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, err
	}
	dup := -1
	control := raw.Control(func(fd uintptr) {
		if dup, err = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0); err == nil {
			err = unix.SetNonblock(dup, true)
		}
	})
	if err := errors.Join(control, err); err != nil {
		if dup >= 0 {
			_ = unix.Close(dup)
		}
		return 0, err
	}
	return int32(dup), nil
}
