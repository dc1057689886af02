package loop_test

import (
	"context"
	"net"
	"runtime"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/rdpbroker/rdpbroker/rdpproxy/loop"
	"github.com/rdpbroker/rdpbroker/rdpproxy/relay"
	"github.com/rdpbroker/rdpbroker/rdpproxy/relay/relaytest"
)

func TestMain(m *testing.M) {
	runtime.GOMAXPROCS(max(runtime.GOMAXPROCS(0), 4)) // more than any engine here has loops
	goleak.VerifyTestMain(m)
}

// engine runs an engine for one test.
func engine(t *testing.T, loops int) *loop.Engine {
	t.Helper()
	e, err := loop.New(loops)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var run sync.WaitGroup
	run.Go(func() { e.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		run.Wait()
	})
	return e
}

// ended waits for the end of a pair.
type ended chan relay.Result

func (e ended) Answered(*loop.Loop)                {}
func (e ended) Settled(*loop.Loop)                 {}
func (e ended) Ended(_ *loop.Loop, r relay.Result) { e <- r }

// on returns relay.Run as e does it.
func on(t *testing.T, e *loop.Engine) relaytest.RunFunc {
	return func(ctx context.Context, client, host net.Conn, o relay.Options) relay.Result {
		c, ok := loop.Take(client)
		h, okToo := loop.Take(host)
		if !ok || !okToo {
			t.Error("no descriptors")
			return relay.Result{}
		}
		l, p, over := e.Lightest(), new(loop.Pair), make(ended, 1)
		if o.Watch != nil {
			p.Watched(ctx, o.Watch)
		}
		l.Post(func(l *loop.Loop) {
			l.Relay(p, loop.Socket{FD: c}, loop.Socket{FD: h}, &loop.Options{Linger: o.Linger}, over)
		})
		stop := context.AfterFunc(ctx, func() {
			l.Post(func(*loop.Loop) { p.Cut(context.Cause(ctx)) })
		})
		defer stop()
		return <-over
	}
}

// TestRelay: the contract of relays.
func TestRelay(t *testing.T) {
	e := engine(t, 2)
	t.Run("plain", func(t *testing.T) { relaytest.Run(t, on(t, e)) })
	t.Run("watched", func(t *testing.T) { relaytest.RunWatched(t, on(t, e)) })
}
