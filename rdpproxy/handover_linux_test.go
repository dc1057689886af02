package rdpproxy

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/rdpbroker/rdpbroker/rdpproxy/x224"
)

// carriedBytes is what one connection sends and receives while its proxy changes.
const carriedBytes = 512 << 10

// TestHandOver passes connections from one proxy to the next again and again, in the
// middle of transfers both ways, with slow readers and half-closes. Every byte arrives,
// once and in order, and the ends are passed on.
func TestHandOver(t *testing.T) {
	if ways[way].portable {
		t.Skip("goroutines hand nothing over")
	}
	host := startHost(t, mirror)
	b := newBench(t, Config{AnswerWait: -1, MaxPerClient: 1000, MaxPendingPerClient: 1000, DialsPerHost: 100}, host.to())
	const n = 40
	var clients sync.WaitGroup
	begin := make(chan struct{})
	for i := range n {
		c := b.dial(t, "")
		_ = c.SetDeadline(time.Now().Add(3 * patience))
		clients.Go(func() {
			if err := transfer(c, uint64(i), begin); err != nil {
				t.Errorf("connection %d: %v", i, err)
			}
		})
	}
	b.counts.until(t, "all are relayed", func(c *counts) bool { return c.opened >= n })
	b.stop()
	<-b.served
	close(begin)

	done := make(chan struct{})
	go func() { clients.Wait(); close(done) }()
	now, generations, total := b.Proxy, 0, 0
	for over := false; !over; generations++ {
		select {
		case <-done:
			over = true
		case <-time.After(20 * time.Millisecond):
		}
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		carried, lost := now.HandOver(ctx)
		cancel()
		if lost > 0 {
			t.Errorf("%d were cut", lost)
		}
		total += len(carried)
		next := New(Config{}, nil, Observer{}, zap.NewNop())
		for _, c := range carried {
			rt := host.route()
			rt.Why = c.Why
			if err := next.Adopt(c, rt); err != nil {
				t.Fatal(err)
			}
		}
		if got := len(next.Connections()); got > len(carried) {
			t.Errorf("%d connections after %d were taken over", got, len(carried))
		}
		now = next
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := now.Shutdown(ctx); err != nil {
		t.Error(err)
	}
	if total < n {
		t.Errorf("%d connections were handed over %d times: too little was tried", n, total)
	}
	t.Logf("%d connections of %d KB each way were handed over %d times, through up to %d proxies", n, carriedBytes>>10, total, generations)
	// The first proxy never heard of their ends.
	b.counts.mu.Lock()
	b.counts.closed = b.counts.opened
	b.counts.mu.Unlock()
}

// transfer sends pseudo-random bytes once begin is closed and wants them back, both at
// its own pace, and then the end.
func transfer(c net.Conn, seed uint64, begin <-chan struct{}) error {
	r := x224.Request{Cookie: "alice", HasCookie: true, Negotiation: &x224.Negotiation{Protocols: x224.ProtocolSSL}}
	if _, err := c.Write(r.Append(nil)); err != nil {
		return err
	}
	if _, err := x224.ReadTPKT(c, x224.MaxPacket); err != nil {
		return err
	}
	<-begin
	sent := sha256.New()
	errs := make(chan error, 1)
	go func() {
		errs <- func() error {
			rng := rand.New(rand.NewPCG(seed, 1))
			for left := carriedBytes; left > 0; {
				b := make([]byte, min(left, 1+rng.IntN(16<<10)))
				for i := range b {
					b[i] = byte(rng.Uint32())
				}
				sent.Write(b)
				if _, err := c.Write(b); err != nil {
					return err
				}
				left -= len(b)
				time.Sleep(time.Duration(rng.IntN(2000)) * time.Microsecond)
			}
			return c.(*net.TCPConn).CloseWrite()
		}()
	}()
	rng := rand.New(rand.NewPCG(seed, 2))
	got, n := sha256.New(), 0
	buf := make([]byte, 8<<10)
	for {
		k, err := c.Read(buf[:1+rng.IntN(len(buf)-1)])
		got.Write(buf[:k])
		n += k
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		if rng.IntN(20) == 0 {
			time.Sleep(3 * time.Millisecond)
		}
	}
	if err := <-errs; err != nil {
		return err
	}
	if n != carriedBytes || !bytes.Equal(got.Sum(nil), sent.Sum(nil)) {
		return fmt.Errorf("of %d bytes %d came back, and not the same", carriedBytes, n)
	}
	return nil
}

// mirror is a host that sends back what it gets.
func mirror(c net.Conn) {
	_ = c.SetDeadline(time.Now().Add(3 * patience))
	if _, err := x224.ReadTPKT(c, x224.MaxPacket); err != nil {
		return
	}
	if _, err := c.Write(confirm); err != nil {
		return
	}
	_, _ = io.Copy(c, c)
	_ = c.(*net.TCPConn).CloseWrite()
}

// Connections without a host are ended; one whose host has ended its half is handed
// over and the client still hears of it.
func TestHandOverEndsWhoHasNoHost(t *testing.T) {
	if ways[way].portable {
		t.Skip("goroutines hand nothing over")
	}
	b, relaying, others := steps(t)
	b.stop()
	<-b.served
	carried, lost := b.HandOver(context.Background())
	for _, c := range others {
		closedByPeer(t, c)
	}
	if len(carried) != 1 || lost != 0 {
		t.Fatalf("%d handed over, %d lost", len(carried), lost)
	}
	c := carried[0]
	if c.Listener == "" && c.ClientAddr.String() != relaying.LocalAddr().String() || c.HostName != "fake" || c.MovedToHost == 0 {
		t.Errorf("%+v", c)
	}
	next := New(Config{}, nil, Observer{}, nil)
	closed := make(chan Outcome, 1)
	if err := next.Adopt(c, Route{Host: "fake", Held: DoneFunc(func(o Outcome) { closed <- o })}); err != nil {
		t.Fatal(err)
	}
	if _, err := relaying.Write([]byte("still here")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(relaying, make([]byte, len("still here"))); err != nil {
		t.Fatal(err)
	}
	_ = relaying.Close()
	o := <-closed
	if o.Relay.ToHost < c.MovedToHost+int64(len("still here")) || o.Duration <= 0 || o.Relay.Err != nil {
		t.Errorf("%+v", o)
	}
	if err := next.Shutdown(context.Background()); err != nil {
		t.Error(err)
	}
	if err := next.Adopt(c, Route{Host: "fake", Held: DoneFunc(func(Outcome) {})}); err == nil {
		t.Error("a proxy that has ended took a connection over")
	}
	b.counts.mu.Lock()
	b.counts.closed = b.counts.opened
	b.counts.mu.Unlock()
}
