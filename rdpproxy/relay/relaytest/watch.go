package relaytest

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/rdpbroker/rdpbroker/rdpproxy/relay"
)

// RunWatched tests what an implementation makes of Options.Watch: whole relays that
// are watched, by the tests of Run, and what a watcher may do.
func RunWatched(t *testing.T, run RunFunc) {
	for name, watch := range map[string]func() *relay.Watch{
		"to the end": func() *relay.Watch { return &relay.Watch{FromClient: pass, FromHost: pass} },
		"at first":   func() *relay.Watch { return &relay.Watch{FromClient: until(1000), FromHost: until(300_000)} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			Run(t, func(ctx context.Context, client, host net.Conn, o relay.Options) relay.Result {
				o.Watch = watch()
				return run(ctx, client, host, o)
			})
		})
	}
	t.Run("holds", func(t *testing.T) { testHold(t, run) })
	t.Run("says no", func(t *testing.T) { testWatchSaysNo(t, run) })
	t.Run("holds until the end", func(t *testing.T) { testHoldEndsWithTheRelay(t, run) })
}

// pass wants to see everything.
func pass(context.Context, []byte) (more bool, err error) { return true, nil }

// until has seen enough after some bytes.
func until(enough int) func(context.Context, []byte) (bool, error) {
	seen := 0
	return func(_ context.Context, b []byte) (bool, error) {
		seen += len(b)
		return seen < enough, nil
	}
}

// testHold: what waits in one direction does not stop the other, and then goes on
// whole.
func testHold(t *testing.T, run RunFunc) {
	held, release := make(chan struct{}), make(chan struct{})
	l := start(t, run, relay.Options{Watch: &relay.Watch{
		FromClient: func(context.Context, []byte) (bool, error) {
			close(held)
			<-release
			return false, nil
		},
		FromHost: pass,
	}})
	write(t, l.client, "knock knock")
	<-held
	write(t, l.client, ", who is there?")
	write(t, l.host, "please wait")
	read(t, l.client, "please wait")
	_ = l.host.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if n, err := l.host.Read(make([]byte, 1)); n > 0 || err == nil {
		t.Fatal("what is held has been passed on")
	}
	_ = l.host.SetReadDeadline(time.Now().Add(patience))
	close(release)
	read(t, l.host, "knock knock, who is there?")
	_, _ = l.client.CloseWrite(), l.host.CloseWrite()
	if r := l.wait(t); r.Err != nil || r.ToHost != 26 || r.ToClient != 11 {
		t.Errorf("%+v", r)
	}
}

// testWatchSaysNo: an error ends both sides, and what it was about goes nowhere.
func testWatchSaysNo(t *testing.T, run RunFunc) {
	no := errors.New("no room")
	l := start(t, run, relay.Options{Watch: &relay.Watch{
		FromHost:   pass,
		FromClient: func(context.Context, []byte) (bool, error) { return true, no },
	}})
	write(t, l.client, "let me in")
	if b, _ := io.ReadAll(l.host); len(b) > 0 {
		t.Errorf("%q was passed on", b)
	}
	if b, _ := io.ReadAll(l.client); len(b) > 0 {
		t.Errorf("%q came back", b)
	}
	if r := l.wait(t); !errors.Is(r.Err, no) || r.Closer != relay.CloserWatch || r.ToHost != 0 {
		t.Errorf("%+v", r)
	}
}

// testHoldEndsWithTheRelay: whoever holds is told when there is nobody left.
func testHoldEndsWithTheRelay(t *testing.T, run RunFunc) {
	for _, ending := range []string{relay.CloserContext, relay.CloserHost} {
		held, let := make(chan struct{}), make(chan struct{})
		l := start(t, run, relay.Options{Linger: 100 * time.Millisecond, Watch: &relay.Watch{
			FromHost: pass,
			FromClient: func(ctx context.Context, _ []byte) (bool, error) {
				close(held)
				<-ctx.Done()
				close(let)
				return false, context.Cause(ctx)
			},
		}})
		write(t, l.client, "let me in")
		<-held
		if ending == relay.CloserHost {
			_ = l.host.Close()
		} else {
			l.cancel(errors.New("the proxy stops"))
		}
		if r := l.wait(t); r.Err == nil || r.Closer != ending || r.ToHost != 0 {
			t.Errorf("%s: %+v", ending, r)
		}
		<-let
	}
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
