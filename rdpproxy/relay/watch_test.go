package relay_test

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/rdpbroker/rdpbroker/rdpproxy/relay"
	"github.com/rdpbroker/rdpbroker/rdpproxy/relay/relaytest"
)

// TestWatched: a relay that is watched to its end is one like any other.
func TestWatched(t *testing.T) {
	t.Parallel()
	relaytest.Run(t, func(ctx context.Context, client, host net.Conn, o relay.Options) relay.Result {
		see := func(context.Context, []byte) (bool, error) { return true, nil }
		o.Watch = &relay.Watch{FromClient: see, FromHost: see}
		return relay.Run(ctx, client, host, o)
	})
}

// TestWatchedAtFirst: and so is one that goes on in the kernel in the middle.
func TestWatchedAtFirst(t *testing.T) {
	t.Parallel()
	relaytest.Run(t, func(ctx context.Context, client, host net.Conn, o relay.Options) relay.Result {
		until := func(enough int) func(context.Context, []byte) (bool, error) {
			seen := 0
			return func(_ context.Context, b []byte) (bool, error) {
				seen += len(b)
				return seen < enough, nil
			}
		}
		o.Watch = &relay.Watch{FromClient: until(1000), FromHost: until(300_000)}
		return relay.Run(ctx, client, host, o)
	})
}

// TestHold: what waits in one direction does not stop the other, and then goes on
// whole.
func TestHold(t *testing.T) {
	client, near := pair(t)
	far, host := pair(t)
	held, release := make(chan struct{}), make(chan struct{})
	watch := &relay.Watch{
		FromClient: func(_ context.Context, b []byte) (bool, error) {
			close(held)
			<-release
			return false, nil
		},
		FromHost: func(context.Context, []byte) (bool, error) { return true, nil },
	}
	done := make(chan relay.Result, 1)
	go func() { done <- relay.Run(t.Context(), near, far, relay.Options{Watch: watch}) }()

	write(t, client, "knock knock")
	<-held
	write(t, client, ", who is there?")
	write(t, host, "please wait")
	read(t, client, "please wait")
	_ = host.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if n, err := host.Read(make([]byte, 1)); n > 0 || err == nil {
		t.Fatal("what is held has been passed on")
	}
	_ = host.SetReadDeadline(time.Now().Add(patience))
	close(release)
	read(t, host, "knock knock, who is there?")
	_, _ = client.CloseWrite(), host.CloseWrite()
	if r := <-done; r.Err != nil || r.ToHost != 26 || r.ToClient != 11 {
		t.Errorf("%+v", r)
	}
}

// TestWatchSaysNo: an error ends both sides, and what it was about goes nowhere.
func TestWatchSaysNo(t *testing.T) {
	no := errors.New("no room")
	client, near := pair(t)
	far, host := pair(t)
	pass := func(context.Context, []byte) (bool, error) { return true, nil }
	watch := &relay.Watch{FromHost: pass, FromClient: func(context.Context, []byte) (bool, error) { return true, no }}
	done := make(chan relay.Result, 1)
	go func() { done <- relay.Run(t.Context(), near, far, relay.Options{Watch: watch}) }()
	write(t, client, "let me in")
	if b, _ := io.ReadAll(host); len(b) > 0 {
		t.Errorf("%q was passed on", b)
	}
	if b, _ := io.ReadAll(client); len(b) > 0 {
		t.Errorf("%q came back", b)
	}
	if r := <-done; !errors.Is(r.Err, no) || r.Closer != relay.CloserWatch || r.ToHost != 0 {
		t.Errorf("%+v", r)
	}
}

// TestHoldEndsWithTheRelay: whoever holds is told when there is nobody left.
func TestHoldEndsWithTheRelay(t *testing.T) {
	for _, ending := range []string{"context", "host"} {
		ctx, cancel := context.WithCancel(t.Context())
		client, near := pair(t)
		far, host := pair(t)
		held := make(chan struct{})
		watch := &relay.Watch{
			FromHost: func(context.Context, []byte) (bool, error) { return true, nil },
			FromClient: func(ctx context.Context, _ []byte) (bool, error) {
				close(held)
				<-ctx.Done()
				return false, context.Cause(ctx)
			},
		}
		done := make(chan relay.Result, 1)
		go func() { done <- relay.Run(ctx, near, far, relay.Options{Watch: watch, Linger: 100 * time.Millisecond}) }()
		write(t, client, "let me in")
		<-held
		if ending == "host" {
			_ = host.Close()
		} else {
			cancel()
		}
		if r := <-done; r.Err == nil || r.Closer != ending || r.ToHost != 0 {
			t.Errorf("%s: %+v", ending, r)
		}
		cancel()
	}
}

const patience = 20 * time.Second

// pair is the two ends of a TCP connection.
func pair(t *testing.T) (a, b *net.TCPConn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	dialed, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	accepted, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []net.Conn{dialed, accepted} {
		_ = c.SetDeadline(time.Now().Add(patience))
		t.Cleanup(func() { _ = c.Close() })
	}
	return dialed.(*net.TCPConn), accepted.(*net.TCPConn)
}

func write(t *testing.T, c net.Conn, s string) {
	t.Helper()
	if _, err := c.Write([]byte(s)); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, c net.Conn, want string) {
	t.Helper()
	b := make([]byte, len(want))
	if _, err := io.ReadFull(c, b); err != nil || string(b) != want {
		t.Fatalf("%q, %v, want %q", b, err, want)
	}
}
