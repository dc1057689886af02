package winagent

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/rdpbroker/rdpbroker/sessions"
)

// Agent reads one host through an agent that runs there. Its methods may be
// called at the same time, but Run only once at a time.
type Agent struct {
	cfg       Config
	transport Transport
	log       *zap.Logger
	refresh   chan struct{}

	mu      sync.Mutex
	current *link // whose readings are published; nil when none runs

	deaf bool // the host is known to take no standard input; Run's own

	publishing sync.Mutex // one report at a time, in order; before mu
	publish    func(sessions.Report)
	memory     memory
}

// New makes the agent of the host that t reaches. It starts nothing.
func New(cfg Config, t Transport, log *zap.Logger) *Agent {
	if log == nil {
		log = zap.NewNop()
	}
	return &Agent{cfg: cfg.withDefaults(), transport: t, log: log, refresh: make(chan struct{}, 1)}
}

// Run starts the agent on the host and publishes a report at once, on every
// change, and with each sign of life. It returns with ctx's error or when the
// host is lost; everything on the host has been ended by then, or that has been
// tried. An *UnusableError says that the host cannot run an agent.
//
// Where the host takes no standard input and the transport is a VariableTransport,
// the agent takes no commands: Refresh does nothing, and each order to it starts
// another agent for it alone.
func (a *Agent) Run(ctx context.Context, publish func(sessions.Report)) error {
	ctx, cancel := context.WithCancel(ctx)
	var links sync.WaitGroup
	defer links.Wait()
	defer cancel()
	defer a.use(nil, nil)

	l, err := a.openEither(ctx, &links)
	if err != nil {
		return err
	}
	a.use(l, publish)
	renew := time.NewTimer(a.lifetime())
	defer renew.Stop()
	for {
		select {
		case <-l.ended:
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if a.refusedInput(l.err) { // from now on, it has taken some; no reason to give the host up
				a.deaf = true
				return fmt.Errorf("%v; it is started without it next time", l.err)
			}
			return l.err
		case <-a.refresh:
			select {
			case l.refresh <- struct{}{}:
			default:
			}
		case <-renew.C:
			renew.Reset(a.lifetime())
			a.deaf = false // once in a lifetime it is worth asking again
			next, err := a.openEither(ctx, &links)
			if err != nil { // the old one runs on
				a.log.Warn("no new agent could be started to take over", zap.Error(err))
				continue
			}
			a.use(next, publish)
			old := l
			links.Go(func() { old.retire(ctx) })
			l = next
		}
	}
}

// lifetime is spread, so that the agents of a farm are not renewed all at once.
func (a *Agent) lifetime() time.Duration {
	return a.cfg.Lifetime - time.Duration(rand.Int64N(int64(a.cfg.Lifetime)/4+1))
}

// openEither opens an agent in the way that worked last, and if the host takes no
// standard input in the other.
func (a *Agent) openEither(ctx context.Context, links *sync.WaitGroup) (*link, error) {
	l, err := a.open(ctx, links)
	_, can := a.transport.(VariableTransport)
	switch {
	case err == nil:
		return l, nil
	case a.deaf: // it may be that the host has been changed
		a.deaf = false
		return nil, err
	case can && errors.Is(err, errUnheard): // what it was sent may have been lost without a word
		a.deaf = true
		return nil, err
	case !a.refusedInput(err):
		return nil, err
	}
	a.log.Info("the host takes no standard input, the agent is given all at its start", zap.Error(err))
	a.deaf = true
	l, deafErr := a.open(ctx, links)
	if deafErr != nil {
		a.deaf = false
		return nil, fmt.Errorf("%w; nor can it run without: %v", err, deafErr)
	}
	return l, nil
}

// refusedInput: the host took no standard input, which is no matter to the transport.
func (a *Agent) refusedInput(err error) bool {
	var unusable *UnusableError
	_, can := a.transport.(VariableTransport)
	return can && !a.deaf && errors.As(err, &unusable) && unusable.Why == WhyNoInput
}

// startWith starts an agent whose first line is start and that reads no input.
func (a *Agent) startWith(ctx context.Context, start string) (Process, error) {
	t, ok := a.transport.(VariableTransport)
	if !ok {
		return nil, errors.New("this way to the host has no variables")
	}
	return t.StartWith(ctx, Command(), variables(start))
}

// open starts an agent and waits for its first reading.
func (a *Agent) open(ctx context.Context, links *sync.WaitGroup) (*link, error) {
	startCtx, cancelStart := context.WithTimeout(ctx, a.cfg.StartWithin)
	defer cancelStart()
	l := newLink(a.cfg, a.deliver, a.log)
	l.deaf = a.deaf
	l.clock = agentClock{start: time.Now()}
	var err error
	if l.deaf {
		l.proc, err = a.startWith(startCtx, a.cfg.deafStart())
	} else {
		l.proc, err = a.transport.Start(startCtx, Command())
		l.outgoing <- outgoing{data: a.cfg.introduction()}
	}
	if err != nil {
		return nil, fmt.Errorf("start the agent: %w", err)
	}
	linkCtx, cancel := context.WithCancel(ctx)
	l.cancel = cancel
	links.Go(func() { l.run(linkCtx) })
	select {
	case <-l.ready:
		return l, nil
	case <-l.ended:
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, l.err
	}
}

// deliver publishes a reading of the link whose readings count.
func (a *Agent) deliver(l *link, r *sessions.Report) {
	a.publishing.Lock()
	defer a.publishing.Unlock()
	if a.live() == l {
		a.send(r)
	}
}

// use makes l the link whose readings count, and publishes its newest.
func (a *Agent) use(l *link, publish func(sessions.Report)) {
	a.publishing.Lock()
	defer a.publishing.Unlock()
	a.mu.Lock()
	a.current, a.publish = l, publish
	a.mu.Unlock()
	if l != nil {
		a.send(l.newest.Load())
	}
}

func (a *Agent) live() *link {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.current
}

// send publishes r. Needs a.publishing.
func (a *Agent) send(r *sessions.Report) {
	out := *r
	out.Sessions, a.memory = a.memory.complete(r.Sessions)
	a.publish(out)
}

// Refresh asks for a reading now. It does not block, and several requests may
// become one reading.
func (a *Agent) Refresh() {
	select {
	case a.refresh <- struct{}{}:
	default:
	}
}
