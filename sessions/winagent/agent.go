package winagent

import (
	"context"
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
func (a *Agent) Run(ctx context.Context, publish func(sessions.Report)) error {
	ctx, cancel := context.WithCancel(ctx)
	var links sync.WaitGroup
	defer links.Wait()
	defer cancel()
	defer a.use(nil, nil)

	l, err := a.open(ctx, &links)
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
			return l.err
		case <-a.refresh:
			select {
			case l.refresh <- struct{}{}:
			default:
			}
		case <-renew.C:
			renew.Reset(a.lifetime())
			next, err := a.open(ctx, &links)
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

// open starts an agent and waits for its first reading.
func (a *Agent) open(ctx context.Context, links *sync.WaitGroup) (*link, error) {
	startCtx, cancelStart := context.WithTimeout(ctx, a.cfg.StartWithin)
	defer cancelStart()
	started := time.Now()
	proc, err := a.transport.Start(startCtx, Command())
	if err != nil {
		return nil, fmt.Errorf("start the agent: %w", err)
	}
	l := newLink(a.cfg, proc, started, a.deliver, a.log)
	l.outgoing <- outgoing{data: a.cfg.introduction()}
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
	out.Sessions = append([]sessions.Session(nil), r.Sessions...)
	a.memory = a.memory.complete(out.Sessions)
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
