package rdpproxy

import (
	"context"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/rdpbroker/rdpbroker/rdpproxy/relay"
)

// steps brings one connection into each step, and returns the client of the
// last one, which relays, and the others.
func steps(t *testing.T) (b *bench, relaying net.Conn, others []net.Conn) {
	t.Helper()
	host := startHost(t, nil)
	const busy = "127.0.0.1:1" // never dialled: its only place is taken
	var routing atomic.Int32
	b = newBench(t, Config{DialsPerHost: 1, DialTimeout: patience},
		routerFunc(func(ctx context.Context, req Request) (Route, error) {
			switch req.Opening.Request.Cookie {
			case "wait":
				routing.Add(1)
				<-ctx.Done()
				return Route{}, context.Cause(ctx)
			case "queue":
				routing.Add(1)
				rt := host.route()
				rt.Addr = busy
				return rt, nil
			}
			return host.route(), nil
		}))
	relaying = b.dial(t, "")
	if err := exchange(relaying, cookie("good")); err != nil {
		t.Fatal(err)
	}
	release, err := b.dials.acquire(context.Background(), busy, 1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(release)
	for _, request := range [][]byte{nil, cookie("half")[:20], cookie("wait"), cookie("queue")} {
		c := b.dial(t, "")
		if _, err := c.Write(request); err != nil {
			t.Fatal(err)
		}
		others = append(others, c)
	}
	b.counts.until(t, "all are accepted", func(c *counts) bool { return c.accepted == 5 })
	for routing.Load() < 2 {
		time.Sleep(time.Millisecond)
	}
	return b, relaying, others
}

// TestShutdownDrains: who has a host may stay, the others end at once, nobody
// new gets in, and Shutdown returns when the last one has left.
func TestShutdownDrains(t *testing.T) {
	b, relaying, others := steps(t)
	b.stop()
	if err := <-b.served; err != nil {
		t.Errorf("Serve: %v", err)
	}
	if _, err := net.Dial("tcp", b.addr); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("dialling after the end of Serve: %v", err)
	}
	down := make(chan error, 1)
	go func() { down <- b.Shutdown(context.Background()) }()
	for _, c := range others {
		closedByPeer(t, c)
	}
	b.counts.untilRefused(t, RefusedStopping, len(others))
	if _, err := relaying.Write([]byte("still here")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(relaying, make([]byte, len("still here"))); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-down:
		t.Fatalf("Shutdown returned early: %v", err)
	default:
	}
	_ = relaying.Close()
	if err := <-down; err != nil {
		t.Error(err)
	}
	if err := b.Shutdown(cut(context.Background())); err != nil {
		t.Errorf("again: %v", err)
	}
}

// TestShutdownCuts: the second signal.
func TestShutdownCuts(t *testing.T) {
	b, relaying, others := steps(t)
	why := errors.New("second signal")
	ctx, cancel := context.WithCancelCause(context.Background())
	down := make(chan error, 1)
	go func() { down <- b.Shutdown(ctx) }()
	for _, c := range others {
		closedByPeer(t, c)
	}
	late := b.dial(t, "") // Serve still runs
	closedByPeer(t, late)
	b.counts.untilRefused(t, RefusedStopping, len(others)+1)

	cancel(why)
	if err := <-down; !errors.Is(err, why) {
		t.Errorf("Shutdown: %v", err)
	}
	closedByPeer(t, relaying)
	b.counts.mu.Lock()
	defer b.counts.mu.Unlock()
	last := b.counts.outcomes[len(b.counts.outcomes)-1]
	if last.Relay.Closer != relay.CloserContext || !errors.Is(last.Relay.Err, errStopping) {
		t.Errorf("%+v", last)
	}
}

// TestListenersShareLimits: one proxy, two listeners; one of them is taken away
// while its connections live on.
func TestListenersShareLimits(t *testing.T) {
	host := startHost(t, nil)
	names := make(chan string, 2)
	b := newBench(t, Config{Listener: "first", MaxConnections: 2}, routerFunc(func(_ context.Context, r Request) (Route, error) {
		names <- r.Listener
		return host.route(), nil
	}))
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- b.ServeListener(ctx, Listener{Listener: ln, Name: "second"}) }()

	first := b.dial(t, "")
	if err := exchange(first, cookie("a")); err != nil {
		t.Fatal(err)
	}
	second, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	if err := exchange(second, cookie("b")); err != nil {
		t.Fatal(err)
	}
	if a, b := <-names, <-names; a != "first" || b != "second" {
		t.Errorf("listeners %q, %q", a, b)
	}
	closedByPeer(t, b.dial(t, ""))
	b.counts.untilRefused(t, RefusedTooMany, 1)

	cancel()
	if err := <-served; err != nil {
		t.Error(err)
	}
	if _, err := second.Write([]byte("x")); err != nil {
		t.Error(err)
	}
	if _, err := io.ReadFull(second, make([]byte, 1)); err != nil {
		t.Errorf("a connection of the listener that is gone: %v", err)
	}
}

// TestReload: new limits hold for the next connection.
func TestReload(t *testing.T) {
	host := startHost(t, nil)
	b := newBench(t, Config{MaxPerClient: 1}, host.to())
	if err := exchange(b.dial(t, ""), cookie("a")); err != nil {
		t.Fatal(err)
	}
	closedByPeer(t, b.dial(t, ""))
	b.Reload(Config{MaxPerClient: 2})
	if err := exchange(b.dial(t, ""), cookie("b")); err != nil {
		t.Error(err)
	}
	closedByPeer(t, b.dial(t, ""))
	b.counts.untilRefused(t, RefusedTooManyFromClient, 2)
}

// failingListener fails a few times before it accepts.
type failingListener struct {
	net.Listener
	failures atomic.Int32
}

func (l *failingListener) Accept() (net.Conn, error) {
	if l.failures.Add(-1) >= 0 {
		return nil, syscall.EMFILE
	}
	return l.Listener.Accept()
}

// TestAcceptGoesOn: running out of descriptors is survived, a closed listener is not.
func TestAcceptGoesOn(t *testing.T) {
	host := startHost(t, nil)
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ln := &failingListener{Listener: inner}
	ln.failures.Store(4)
	b := newBench(t, Config{}, host.to())
	served := make(chan error, 1)
	go func() { served <- b.Serve(context.Background(), ln) }()
	c, err := net.Dial("tcp", inner.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := exchange(c, cookie("alice")); err != nil {
		t.Error(err)
	}
	if n := len(b.untilLogged(t, "cannot accept", 4)); n != 4 {
		t.Errorf("%d warnings", n)
	}
	_ = inner.Close()
	if err := <-served; !errors.Is(err, net.ErrClosed) {
		t.Errorf("Serve: %v", err)
	}
}
