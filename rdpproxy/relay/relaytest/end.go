package relaytest

import (
	"errors"
	"io"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/rdpbroker/rdpbroker/rdpproxy/relay"
)

// side picks the ends of a line by who acts first.
func (l *line) side(first string) (acts, other *net.TCPConn) {
	if first == relay.CloserClient {
		return l.client, l.host
	}
	return l.host, l.client
}

// testEnd: how the end of one side reaches the other, and the result.
func testEnd(t *testing.T, run RunFunc) {
	for name, test := range map[string]func(t *testing.T, run RunFunc, first string){
		"half-close":                           testHalfClose,
		"reset":                                testReset,
		"last words before a reset":            testLastWords,
		"close, while the other goes on":       testDeaf,
		"close, while the other never listens": testTorrent,
		"half-close, and the other never ends": testLinger,
	} {
		for _, first := range []string{relay.CloserClient, relay.CloserHost} {
			t.Run(name+" by the "+first, func(t *testing.T) {
				t.Parallel()
				test(t, run, first)
			})
		}
	}
	t.Run("half-close, and the other ends slowly", func(t *testing.T) {
		t.Parallel()
		testTrickle(t, run)
	})
}

// testHalfClose: one side says all it has and ends; the other hears the end,
// and only then answers at length.
func testHalfClose(t *testing.T, run RunFunc, first string) {
	l := start(t, run, relay.Options{})
	acts, other := l.side(first)
	if _, err := acts.Write([]byte("question")); err != nil {
		t.Fatal(err)
	}
	if err := acts.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(other); err != nil || string(b) != "question" {
		t.Fatalf("%q, %v", b, err)
	}
	l.running(t)

	const n = 5 << 20
	var answer traffic
	sent := make(chan error, 1)
	go func() { sent <- send(other, &answer, 3, n, func() int { return 50000 }) }()
	receive(acts, &answer, make([]byte, 32<<10), func() {})
	if err := <-sent; err != nil {
		t.Error(err)
	}
	r := l.wait(t)
	answer.check(t, "after the half-close", n)
	if r.Err != nil || r.Closer != first || r.ToHost+r.ToClient != n+int64(len("question")) {
		t.Errorf("%+v", r)
	}
}

func reset(t *testing.T, c *net.TCPConn) {
	t.Helper()
	if err := c.SetLinger(0); err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
}

// testReset: a reset is an error that names its side, and ends the other side.
func testReset(t *testing.T, run RunFunc, first string) {
	l := start(t, run, relay.Options{})
	acts, other := l.side(first)
	if _, err := acts.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(other, make([]byte, 5)); err != nil {
		t.Fatal(err)
	}
	reset(t, acts)
	if b, err := io.ReadAll(other); err != nil && !errors.Is(err, syscall.ECONNRESET) || len(b) > 0 {
		t.Errorf("%q, %v", b, err)
	}
	_ = other.Close()
	r := l.wait(t)
	if r.Err == nil || r.Closer != first {
		t.Errorf("%+v, want an error and %s", r, first)
	}
}

// testLastWords: a side that closes with unread bytes resets the connection.
// What it said before, the reason of the end, must still reach the other side,
// even though that one goes on talking. Behind a client's words there may be a reset.
func testLastWords(t *testing.T, run RunFunc, first string) {
	l := start(t, run, relay.Options{})
	acts, other := l.side(first)
	talk := make([]byte, 256<<10)
	if _, err := other.Write(talk); err != nil { // lies unread where acts could read it
		t.Fatal(err)
	}
	words := make([]byte, 4000) // few enough to be on their way when the reset cuts off what is not
	copy(words, "the session was ended by the administrator")
	if _, err := acts.Write(words); err != nil {
		t.Fatal(err)
	}
	_ = acts.Close()

	stopped := make(chan struct{})
	go func() { // keys and mouse, until the end is seen
		defer close(stopped)
		for {
			if _, err := other.Write(talk[:50]); err != nil {
				return
			}
			time.Sleep(time.Millisecond)
		}
	}()
	b, err := io.ReadAll(other)
	if first == relay.CloserClient && errors.Is(err, syscall.ECONNRESET) {
		err = nil
	}
	if err != nil || string(b) != string(words) {
		t.Errorf("%d of %d bytes arrived, %v", len(b), len(words), err)
	}
	_ = other.Close()
	<-stopped
	if r := l.wait(t); r.Closer != first {
		t.Errorf("%+v, want closer %s", r, first)
	}
}

// testDeaf: one side closes as programs do, wholly, and what comes for it
// later is refused by its system. The other side must hear of the end.
func testDeaf(t *testing.T, run RunFunc, first string) {
	l := start(t, run, relay.Options{Linger: 300 * time.Millisecond})
	acts, other := l.side(first)
	_ = acts.Close()
	gone := make(chan error, 1)
	go func() {
		for {
			if _, err := other.Write(make([]byte, 1000)); err != nil {
				gone <- err
				return
			}
			time.Sleep(time.Millisecond)
		}
	}()
	// A FIN, or if this test is slow to read it, the reset that ends the linger time.
	if b, err := io.ReadAll(other); err != nil && !errors.Is(err, syscall.ECONNRESET) || len(b) > 0 {
		t.Errorf("%q, %v", b, err)
	}
	r := l.wait(t) // though other never closes
	<-gone
	if r.Closer != first {
		t.Errorf("%+v, want closer %s", r, first)
	}
}

// testTorrent: a side that goes on sending at full speed after the other has gone is
// cut before long; it would keep a relay busy for the whole linger time.
func testTorrent(t *testing.T, run RunFunc, first string) {
	l := start(t, run, relay.Options{Linger: -1}) // it is not time that ends it
	acts, other := l.side(first)
	gone := make(chan int64, 1)
	go func() {
		n, _ := io.Copy(other, newStream(1, 1<<40))
		gone <- n
	}()
	if _, err := io.CopyN(io.Discard, acts, 1<<20); err != nil {
		t.Fatal(err)
	}
	reset(t, acts)
	if r := l.wait(t); r.Closer != first || r.Err == nil {
		t.Errorf("%+v", r)
	}
	if n := <-gone; n > relay.MaxDrain+64<<20 { // with all buffers in between
		t.Errorf("%d bytes were sent", n)
	}
}

// testLinger: a side that does not end after the other cannot hold the relay.
func testLinger(t *testing.T, run RunFunc, first string) {
	l := start(t, run, relay.Options{Linger: 100 * time.Millisecond})
	acts, other := l.side(first)
	if err := acts.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	r := l.wait(t)
	if r.Err == nil || r.Closer != first {
		t.Errorf("%+v, want an error and closer %s", r, first)
	}
	if _, err := io.ReadAll(other); err != nil && !errors.Is(err, syscall.ECONNRESET) {
		t.Error(err)
	}
}

// testTrickle: as long as bytes move, however few, a half-closed relay goes on.
func testTrickle(t *testing.T, run RunFunc) {
	const linger, drops = time.Second, 8
	sides := []string{relay.CloserClient, relay.CloserHost}
	var lines []*line
	for _, first := range sides {
		l := start(t, run, relay.Options{Linger: linger})
		if acts, _ := l.side(first); acts.CloseWrite() != nil {
			t.Fatal("no half-close")
		}
		lines = append(lines, l)
	}
	for range drops { // more than two linger times in all
		time.Sleep(linger * 3 / 10)
		for i, l := range lines {
			var b [1]byte
			acts, other := l.side(sides[i])
			if _, err := other.Write(b[:]); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(acts, b[:]); err != nil {
				t.Fatal(err)
			}
		}
	}
	for i, l := range lines {
		_, other := l.side(sides[i])
		_ = other.CloseWrite()
		if r := l.wait(t); r.Err != nil || r.Closer != sides[i] || r.ToHost+r.ToClient != drops {
			t.Errorf("%+v", r)
		}
	}
}
