package rdpproxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
)

// Proxy accepts connections on any number of listeners, which share its limits.
type Proxy struct {
	router  Router
	observe Observer
	log     *zap.Logger
	cfg     atomic.Pointer[Config] // with defaults; never changed, only replaced

	limits limits
	dials  dials

	start sync.Once
	loops atomic.Pointer[loops] // nil: none, or not started yet

	mu       sync.Mutex
	lastID   uint64
	conns    map[*conn]struct{}
	stopping bool
	empty    chan struct{} // closed when stopping and conns is empty
}

// Listener is one listener of a Proxy.
type Listener struct {
	net.Listener
	// Name is for routers, logs and counters.
	Name string
	// ProxyProtocol is as in Config.
	ProxyProtocol ProxyProtocol
}

// New returns a Proxy that asks r where connections go. It starts nothing. log
// may be nil.
func New(cfg Config, r Router, o Observer, log *zap.Logger) *Proxy {
	if log == nil {
		log = zap.NewNop()
	}
	p := &Proxy{
		router: r, observe: o.withDefaults(), log: log,
		conns: make(map[*conn]struct{}), empty: make(chan struct{}),
	}
	p.cfg.Store(cfg.withDefaults())
	return p
}

// Reload replaces the settings for connections accepted from now on. Listener
// and ProxyProtocol of cfg are for calls of Serve to come.
func (p *Proxy) Reload(cfg Config) { p.cfg.Store(cfg.withDefaults()) }

// started starts the loops, if they are not running, and returns them.
func (p *Proxy) started() *loops {
	p.start.Do(func() {
		if !p.cfg.Load().Portable {
			p.loops.Store(newLoops(p))
		}
	})
	return p.loops.Load()
}

// Serve is ServeListener for ln with the name and PROXY setting of Config.
func (p *Proxy) Serve(ctx context.Context, ln net.Listener) error {
	cfg := p.cfg.Load()
	return p.ServeListener(ctx, Listener{Listener: ln, Name: cfg.Listener, ProxyProtocol: cfg.ProxyProtocol})
}

// ServeListener accepts connections until ctx ends; then it closes the listener
// and returns nil. Any other end of the listener is an error. Connections that
// were accepted live on: wait for them, or end them, with Shutdown.
//
// On Linux the socket of a *net.TCPListener is taken out of it, and closing the
// listener meanwhile does nothing.
func (p *Proxy) ServeListener(ctx context.Context, l Listener) error {
	defer l.Close()
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()

	served := &listening{Listener: l, p: p}
	// Only for what they take: in a test's bubble a loop that waits for the kernel
	// would hold the time up.
	if _, tcp := l.Listener.(*net.TCPListener); tcp {
		if lo := p.started(); lo.takes(l) {
			return lo.serve(ctx, served)
		}
	}
	connections := context.WithoutCancel(ctx)
	backoff := time.Duration(0)
	for {
		nc, err := l.Accept()
		switch {
		case err == nil:
			backoff = 0
			p.accept(connections, served, nc)
			continue
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("accepting on listener %q: %w", l.Name, err)
		}
		// Out of descriptors, most likely. One failed accept is no reason to stop,
		// and trying again at once would only burn a core until some are free.
		backoff = min(max(2*backoff, 5*time.Millisecond), time.Second)
		p.log.Warn("cannot accept", zap.String("listener", l.Name), zap.Duration("retry_in", backoff), zap.Error(err))
		select {
		case <-time.After(backoff):
		case <-ctx.Done():
			return nil
		}
	}
}

// accept takes a place for a new connection and starts to serve it. Refusing
// one costs no more than this.
func (p *Proxy) accept(ctx context.Context, l *listening, nc net.Conn) {
	p.observe.Accepted(l.Name)
	t := newTask(ctx, &conn{
		p: p, cfg: p.cfg.Load(), listener: l, client: addrPort(nc.RemoteAddr()), accepted: time.Now(),
	}, nc)
	refused := t.admit()
	if refused == "" && !p.add(t.conn, t) {
		refused = RefusedStopping
	}
	if refused == "" {
		go t.serve()
		return
	}
	t.cancel(nil)
	t.place.leave()
	t.refuse(refused, nil)
	_ = nc.Close()
}
