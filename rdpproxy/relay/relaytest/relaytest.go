// Package relaytest is the contract of a relay as a test suite, so that every
// implementation passes the same one.
package relaytest

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/rdpbroker/rdpbroker/rdpproxy/relay"
)

// RunFunc is an implementation: relay.Run or one like it.
type RunFunc func(ctx context.Context, client, host net.Conn, o relay.Options) relay.Result

// patience is how long anything in here may take before it counts as hung.
const patience = 30 * time.Second

// Run tests an implementation with real connections over loopback.
func Run(t *testing.T, run RunFunc) {
	for name, test := range map[string]func(*testing.T, RunFunc){
		"transfer": testTransfer, "end": testEnd, "cut": testCut, "vanish": testVanish, "churn": testChurn,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, run)
		})
	}
}

// line is a relay under test with the peers at its two ends.
type line struct {
	client, host *net.TCPConn // the peers: what a user and a machine hold
	cancel       context.CancelCauseFunc
	result       chan relay.Result
}

// start starts run between two fresh pairs of connections.
func start(t *testing.T, run RunFunc, o relay.Options) *line {
	t.Helper()
	client, near := connect(t)
	far, host := connect(t)
	for _, c := range []net.Conn{near, far} {
		if err := relay.Tune(c, relay.KeepAlive{Idle: time.Second, Interval: time.Second, Count: 2}); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	l := &line{client: client, host: host, cancel: cancel, result: make(chan relay.Result, 1)}
	go func() { l.result <- run(ctx, near, far, o) }()
	t.Cleanup(func() {
		_ = client.Close()
		_ = host.Close()
		cancel(errors.New("the test is over"))
	})
	return l
}

// wait returns the result of the relay; it must end.
func (l *line) wait(t *testing.T) relay.Result {
	t.Helper()
	select {
	case r := <-l.result:
		return r
	case <-time.After(patience):
		t.Fatal("the relay does not end")
		panic("unreachable")
	}
}

// running fails the test if the relay has ended.
func (l *line) running(t *testing.T) {
	t.Helper()
	select {
	case r := <-l.result:
		t.Fatalf("the relay ended: %+v", r)
	default:
	}
}

// connect returns the two ends of a TCP connection over loopback.
func connect(t *testing.T) (a, b *net.TCPConn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	accepted := make(chan net.Conn, 1)
	go func() {
		c, _ := ln.Accept()
		accepted <- c
	}()
	dialed, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	other := <-accepted
	if other == nil {
		t.Fatal("accept failed")
	}
	for _, c := range []net.Conn{dialed, other} {
		_ = c.SetDeadline(time.Now().Add(patience))
	}
	return dialed.(*net.TCPConn), other.(*net.TCPConn)
}

// stream is a reproducible stream of bytes.
type stream struct {
	random *rand.ChaCha8
	left   int64
	sum    hash.Hash
}

func newStream(seed byte, n int64) *stream {
	return &stream{random: rand.NewChaCha8([32]byte{seed}), left: n, sum: sha256.New()}
}

func (s *stream) Read(p []byte) (int, error) {
	if s.left == 0 {
		return 0, io.EOF
	}
	n := int(min(int64(len(p)), s.left))
	_, _ = s.random.Read(p[:n])
	s.sum.Write(p[:n])
	s.left -= int64(n)
	return n, nil
}

// traffic is one direction under way: what was written and what arrived.
type traffic struct {
	sent, got [sha256.Size]byte
	n         int64
	err       error
}

func (f *traffic) check(t *testing.T, name string, want int64) {
	t.Helper()
	if f.err != nil || f.n != want || f.sent != f.got {
		t.Errorf("%s: %d of %d bytes arrived, intact %t, error %v", name, f.n, want, f.sent == f.got, f.err)
	}
}

// send writes n bytes in pieces of the given sizes and half-closes.
func send(to *net.TCPConn, f *traffic, seed byte, n int64, piece func() int) error {
	s := newStream(seed, n)
	buf := make([]byte, 128<<10)
	for s.left > 0 {
		k, _ := s.Read(buf[:min(len(buf), piece())])
		if _, err := to.Write(buf[:k]); err != nil {
			return fmt.Errorf("with %d bytes left: %w", s.left, err)
		}
	}
	s.sum.Sum(f.sent[:0])
	return to.CloseWrite()
}

// receive reads to the end, calling pause before each read.
func receive(from *net.TCPConn, f *traffic, buf []byte, pause func()) {
	sum := sha256.New()
	for {
		pause()
		n, err := from.Read(buf)
		sum.Write(buf[:n])
		f.n += int64(n)
		if err != nil {
			if !errors.Is(err, io.EOF) {
				f.err = err
			}
			break
		}
	}
	sum.Sum(f.got[:0])
}

// exchange sends both ways at once and checks that all of it arrived.
func (l *line) exchange(t *testing.T, toHost, toClient int64, piece func() int, buf int, pause func()) {
	t.Helper()
	var up, down traffic
	var upErr, downErr error
	var wg sync.WaitGroup
	wg.Go(func() { upErr = send(l.client, &up, 1, toHost, piece) })
	wg.Go(func() { downErr = send(l.host, &down, 2, toClient, piece) })
	wg.Go(func() { receive(l.host, &up, make([]byte, buf), pause) })
	wg.Go(func() { receive(l.client, &down, make([]byte, buf), pause) })
	wg.Wait()
	if upErr != nil || downErr != nil {
		t.Errorf("sending: %v, %v", upErr, downErr)
	}
	up.check(t, "to the host", toHost)
	down.check(t, "to the client", toClient)

	r := l.wait(t)
	if r.Err != nil || r.ToHost != toHost || r.ToClient != toClient {
		t.Errorf("result %+v, want %d and %d bytes and no error", r, toHost, toClient)
	}
	if r.Closer != relay.CloserClient && r.Closer != relay.CloserHost {
		t.Errorf("closer %q", r.Closer)
	}
}
