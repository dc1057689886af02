package rdpproxy

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"go.uber.org/zap"

	"github.com/rdpbroker/rdpbroker/rdpproxy/loop"
	"github.com/rdpbroker/rdpbroker/rdpproxy/relay"
)

// loops are the Linux engine of a Proxy. A nil *loops serves nothing.
type loops struct {
	*loop.Engine
	p       *Proxy
	endings *endings
	end     context.CancelFunc
	done    chan struct{}

	mu   sync.Mutex
	opts *loop.Options // as the newest configuration has it
}

// newLoops starts the loops of p. It returns nil, and connections are served by
// goroutines, if the system will not have it.
func newLoops(p *Proxy) *loops {
	n := p.cfg.Load().Loops
	if n <= 0 {
		n = runtime.GOMAXPROCS(0) - 1
	}
	e, err := loop.New(max(1, min(n, mostLoops)))
	if err != nil {
		p.log.Warn("no loops; connections are served by goroutines", zap.Error(err))
		return nil
	}
	ctx, end := context.WithCancel(context.Background())
	lo := &loops{Engine: e, p: p, endings: newEndings(), end: end, done: make(chan struct{})}
	go func() {
		defer close(lo.done)
		var both sync.WaitGroup
		both.Go(func() { lo.endings.run(ctx) })
		e.Run(ctx)
		both.Wait()
	}()
	return lo
}

// mostLoops: one loop relays more than a network card carries; more of them share
// out what happens before.
const mostLoops = 16

// stop ends the loops; no connection may be left.
func (lo *loops) stop() {
	if lo != nil {
		lo.end()
		<-lo.done
	}
}

// options are those for connections with cfg. They are shared: a Pair keeps a pointer
// to them for as long as it lives.
func (lo *loops) options(cfg *Config) *loop.Options {
	lo.mu.Lock()
	defer lo.mu.Unlock()
	if o := lo.opts; o == nil || o.Linger != cfg.Linger || o.AnswerWait != cfg.AnswerWait {
		lo.opts = &loop.Options{Linger: cfg.Linger, AnswerWait: cfg.AnswerWait, Settle: tuneAfter}
	}
	return lo.opts
}

// takes reports whether l can be served by loops from the first byte on. What comes
// through a PROXY header is read by goroutines first, and so is what a listener of
// some other make accepts.
func (lo *loops) takes(l Listener) bool {
	_, tcp := l.Listener.(*net.TCPListener)
	return lo != nil && tcp && l.ProxyProtocol == ProxyOff
}

// serve accepts connections until ctx ends. It takes the socket out of the listener,
// and closes that: Go's own poller would be woken for each connection otherwise.
func (lo *loops) serve(ctx context.Context, l *listening) error {
	tcp := l.Listener.Listener.(*net.TCPListener)
	local := addrPort(tcp.Addr())
	fd, err := loop.Dup(tcp)
	if err != nil {
		return err
	}
	_ = tcp.Close()
	expectRequests(fd, lo.p.cfg.Load().DeferAccept)
	every := make([]*acceptor, 0, len(lo.Loops()))
	for _, at := range lo.Loops() {
		a := &acceptor{loops: lo, l: at, listening: l, ctx: context.WithoutCancel(ctx), fd: fd, local: local}
		every = append(every, a)
	}
	err = lo.each(every, (*acceptor).begin)
	if err == nil {
		select {
		case <-ctx.Done():
		case <-lo.done:
			err = fmt.Errorf("accepting on listener %q: %w", l.Name, errStopping)
		}
	}
	_ = lo.each(every, (*acceptor).end)
	_ = unix.Close(int(fd))
	return err
}

// each calls do for each acceptor on its loop, and waits.
func (lo *loops) each(every []*acceptor, do func(*acceptor) error) error {
	errs := make(chan error, len(every))
	for _, a := range every {
		a.l.Post(func(*loop.Loop) { errs <- do(a) })
	}
	var first error
	for range every {
		select {
		case err := <-errs:
			first = cmp.Or(first, err)
		case <-lo.done: // nobody is there to do it
			return first
		}
	}
	return first
}

// carry has a loop relay t's connection, from a goroutine that is not needed any more.
// It reports false if that cannot be.
func (lo *loops) carry(t *task, host net.Conn, release func(), toHost []byte, already relay.Result, w *relay.Watch) bool {
	if lo == nil {
		return false
	}
	if _, ok := host.(*net.TCPConn); !ok {
		return false
	}
	clientFD, ok := loop.Take(t.nc)
	if !ok {
		return false
	}
	hostFD, ok := loop.Take(host)
	if !ok { // out of descriptors, and the client's has left its net.Conn
		_ = unix.Close(int(clientFD))
		release()
		t.cancel(nil)
		_ = host.Close()
		t.over(relay.Result{ToHost: already.ToHost, ToClient: already.ToClient, Err: syscall.EMFILE, Closer: relay.CloserContext})
		return true
	}
	q := &quick{conn: t.conn, l: lo.Lightest(), fd: clientFD, hostFD: hostFD, step: relaying, release: release, cancel: t.cancel}
	q.pair.Count(already.ToHost, already.ToClient)
	q.pair.Say(toHost)
	if w != nil {
		q.pair.Watched(t.ctx, w)
	}
	opts := lo.options(t.cfg)
	begin := func(l *loop.Loop) {
		if t.cfg.AnswerWait <= 0 {
			q.Answered(l)
		}
		l.Relay(&q.pair, loop.Socket{FD: clientFD}, loop.Socket{FD: hostFD}, opts, q)
		if cause := context.Cause(t.ctx); cause != nil { // cut while it was the task's
			q.pair.Cut(cause)
		}
	}
	t.p.serves(t.conn, q, func() { q.l.Post(begin) })
	return true
}

// acceptor accepts a listener's connections on one loop. All loops share the
// listening socket, and the system wakes one of them for each connection.
type acceptor struct {
	*listening
	loops   *loops
	l       *loop.Loop
	ctx     context.Context // of the connections
	fd      int32
	local   netip.AddrPort
	tuned   *Config // whose keep-alive the listening socket passes on
	inherit bool
	retry   loop.Timer
	backoff time.Duration
	waiting bool // for descriptors
}

func (a *acceptor) begin() error {
	a.waiting = false
	// Exclusive: of the loops that wait one is woken. Not edge-triggered: whoever is
	// woken need not accept all that wait, the others take their share.
	return a.l.Register(a.fd, a, unix.EPOLLIN|unix.EPOLLEXCLUSIVE)
}

func (a *acceptor) end() error {
	a.l.Stop(&a.retry)
	if !a.waiting {
		a.l.Forget(a.fd)
	}
	return nil
}

// acceptAtOnce connections are accepted before the loop sees to those that it has.
const acceptAtOnce = 8

// Ready implements loop.Handler.
func (a *acceptor) Ready(*loop.Loop, loop.Events) {
	for range acceptAtOnce {
		fd, client, err := loop.Accept(a.fd)
		switch err {
		case nil:
			a.backoff = 0
			a.take(fd, client)
			continue
		case unix.EAGAIN:
			return
		case unix.ECONNABORTED, unix.EINTR, unix.EPROTO:
			continue
		}
		// Out of descriptors, most likely; see Proxy.ServeListener.
		a.backoff = min(max(2*a.backoff, 5*time.Millisecond), time.Second)
		a.p.log.Warn("cannot accept", zap.String("listener", a.Name), zap.Duration("retry_in", a.backoff), zap.Error(os.NewSyscallError("accept", err)))
		a.l.Forget(a.fd)
		a.waiting = true
		a.l.Start(&a.retry, a.backoff, a)
		return
	}
}

// Expired implements loop.Expirer: time to try again.
func (a *acceptor) Expired(*loop.Loop, *loop.Timer) {
	if err := a.begin(); err != nil {
		a.waiting = true
		a.l.Start(&a.retry, time.Second, a)
	}
}

// take begins to serve a connection, here or on a loop that has much less to do: the
// one that waits is woken for it, and while little happens that is always the same.
func (a *acceptor) take(fd int32, client netip.AddrPort) {
	cfg := a.p.cfg.Load()
	if fresh := cfg != a.tuned; fresh || !a.inherit {
		if fresh { // the next ones inherit what their listener has
			a.tuned, a.inherit = cfg, tune(a.fd, cfg.KeepAlive) == nil
		}
		_ = tune(fd, cfg.KeepAlive) // a connection that is broken already fails soon enough
	}
	at := a.l
	if least := a.loops.Lightest(); least != at && at.Load() > least.Load()+4+least.Load()/8 {
		at = least
	}
	q := &quick{l: at, fd: fd, conn: &conn{
		p: a.p, cfg: cfg, listener: a.listening, client: client, accepted: time.Now(),
	}}
	a.p.observe.Accepted(a.Name)
	refused := q.admit()
	if refused == "" && !a.p.add(q.conn, q) {
		refused = RefusedStopping
	}
	if refused != "" {
		q.place.leave()
		q.refuse(refused, nil)
		_ = unix.Close(int(fd))
		return
	}
	q.opening = &opening{acceptor: a}
	if at == a.l {
		q.open()
		return
	}
	at.Post(func(*loop.Loop) { q.open() })
}
