package winrm

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/rdpbroker/rdpbroker/sessions"
	"github.com/rdpbroker/rdpbroker/sessions/winagent"
)

// liveChannel reads a host through an agent that runs on it, and may evict by it
// always: the host is the judge.
type liveChannel struct {
	remote *remote
	agent  *winagent.Agent
}

func newLiveChannel(c *client, cfg winagent.Config, log *zap.Logger) *liveChannel {
	r := &remote{client: c}
	return &liveChannel{remote: r, agent: winagent.New(cfg, r, log)}
}

func (l *liveChannel) watch(ctx context.Context, refresh <-chan struct{}, publish func(sessions.Report)) error {
	forwarding, stop := context.WithCancel(ctx)
	done := make(chan struct{})
	go l.forward(forwarding, refresh, done)
	defer func() { stop(); <-done }()
	return l.agent.Run(ctx, publish)
}

// forward hands requests for a reading on.
func (l *liveChannel) forward(ctx context.Context, refresh <-chan struct{}, done chan<- struct{}) {
	defer close(done)
	for {
		select {
		case <-refresh:
			l.agent.Refresh()
		case <-ctx.Done():
			return
		}
	}
}

func (l *liveChannel) evict(ctx context.Context, host string, victim sessions.Session) error {
	return l.agent.Evict(ctx, host, victim)
}

// byAgent is channel.
func (l *liveChannel) byAgent() *winagent.Agent { return l.agent }

const (
	// failuresToFall is how many agents in a row must have been started in vain
	// before the host is read by text.
	failuresToFall = 3
	// textFor is how long a host is read by text before the agent is tried again.
	textFor = time.Hour
)

// autoChannel is the live one where the host can run an agent, and the text one
// where it cannot.
type autoChannel struct {
	live    *liveChannel
	text    *textChannel
	log     *zap.Logger
	textFor time.Duration

	byText   atomic.Bool // the last readings came by text
	failures int         // of agents in a row, watch's own
}

func (a *autoChannel) watch(ctx context.Context, refresh <-chan struct{}, publish func(sessions.Report)) error {
	for {
		a.live.remote.began.Store(false)
		read := false
		err := a.live.watch(ctx, refresh, func(r sessions.Report) {
			read = true
			a.byText.Store(false)
			publish(r)
		})
		if ctx.Err() != nil {
			return ctx.Err()
		}
		why := a.judge(err, read)
		if why == "" {
			return err
		}
		a.log.Warn("no agent on this host, reading it by quser and qwinsta", zap.String("why", why), zap.Duration("for", a.textFor))
		if err := a.watchText(ctx, why, refresh, publish); err != nil {
			return err
		}
	}
}

// judge says why the host should be read by text after the agent ended with err,
// or "" if the agent should be tried again.
func (a *autoChannel) judge(err error, read bool) string {
	var unusable *winagent.UnusableError
	switch {
	case errors.As(err, &unusable):
		return unusable.Why
	case read || !a.live.remote.began.Load(): // it ran, or the host could not be reached at all
		a.failures = 0
		return ""
	}
	if a.failures++; a.failures < failuresToFall {
		return ""
	}
	return "it failed to start several times"
}

// watchText reads by text for some time; nil when that is over.
func (a *autoChannel) watchText(ctx context.Context, why string, refresh <-chan struct{}, publish func(sessions.Report)) error {
	inner, cancel := context.WithTimeout(ctx, a.textFor)
	defer cancel()
	err := a.text.watch(inner, refresh, func(r sessions.Report) {
		r.Source = fmt.Sprintf("%s (no agent: %s)", r.Source, why)
		a.byText.Store(true)
		publish(r)
	})
	if ctx.Err() == nil && inner.Err() != nil {
		return nil
	}
	return err
}

func (a *autoChannel) evict(ctx context.Context, host string, victim sessions.Session) error {
	if a.byText.Load() {
		return a.text.evict(ctx, host, victim)
	}
	return a.live.evict(ctx, host, victim)
}

// byAgent is channel.
func (a *autoChannel) byAgent() *winagent.Agent {
	if a.byText.Load() {
		return nil
	}
	return a.live.byAgent()
}
