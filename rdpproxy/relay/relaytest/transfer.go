package relaytest

import (
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rdpbroker/rdpbroker/rdpproxy/relay"
)

// testTransfer: no byte is lost, doubled or put out of order.
func testTransfer(t *testing.T, run RunFunc) {
	whole := func() int { return 64 << 10 }
	never := func() {}

	t.Run("nothing", func(t *testing.T) {
		start(t, run, relay.Options{}).exchange(t, 0, 0, whole, 1<<10, never)
	})
	t.Run("random sizes", func(t *testing.T) {
		random := func() int { return 1 + rand.IntN(1<<uint(1+rand.IntN(17))) }
		for range 3 {
			start(t, run, relay.Options{}).exchange(t, rand.Int64N(3<<20), rand.Int64N(3<<20), random, 16<<10, never)
		}
	})
	t.Run("one byte at a time", func(t *testing.T) {
		start(t, run, relay.Options{}).exchange(t, 3000, 3000, func() int { return 1 }, 1, never)
	})
	t.Run("64 MB each way", func(t *testing.T) {
		start(t, run, relay.Options{}).exchange(t, 64<<20, 64<<20, whole, 64<<10, never)
	})
	t.Run("1 GB", func(t *testing.T) {
		if testing.Short() {
			t.Skip("takes its time")
		}
		if strings.Contains(t.Name(), "/to_the_end/") {
			t.Skip("whoever looks at every 4 KB of it takes too long under the race detector; 64 MB have to do")
		}
		start(t, run, relay.Options{}).exchange(t, 1<<30, 1<<20, whole, 256<<10, never)
	})
	t.Run("now much, now little", func(t *testing.T) {
		// As a screen does: bulk that becomes key strokes and bulk again, in the middle
		// of whatever the relay does for either.
		pieces := 0
		uneven := func() int {
			pieces++
			if pieces/40%2 == 0 {
				return 128 << 10
			}
			time.Sleep(200 * time.Microsecond)
			return 1 + rand.IntN(3000)
		}
		start(t, run, relay.Options{}).exchange(t, 20<<20, 0, uneven, 256<<10, never)
	})
	t.Run("slow readers", func(t *testing.T) {
		// Slower than the writers, so that everything between them is full, and the
		// linger time is much shorter than the rest of the transfer takes.
		reads := time.NewTicker(3 * time.Millisecond)
		defer reads.Stop()
		start(t, run, relay.Options{Linger: 500 * time.Millisecond}).
			exchange(t, 16<<20, 16<<20, whole, 64<<10, func() { <-reads.C })
	})
	t.Run("a stall one way does not stop the other", func(t *testing.T) { testStall(t, run) })
}

func testStall(t *testing.T, run RunFunc) {
	const n = 64 << 20 // more than all buffers between the two hold
	l := start(t, run, relay.Options{})
	var up traffic
	sent := make(chan error, 1)
	go func() { sent <- send(l.client, &up, 1, n, func() int { return 64 << 10 }) }() // the host does not read

	ping := make([]byte, 100)
	for range 200 {
		if _, err := l.host.Write(ping); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(l.client, ping); err != nil {
			t.Fatalf("%v; the relay: %+v", err, l.wait(t))
		}
	}
	select {
	case err := <-sent:
		t.Fatalf("all of it was sent though nobody reads: %v", err)
	default:
	}

	var wg sync.WaitGroup
	wg.Go(func() { receive(l.host, &up, make([]byte, 64<<10), func() {}) })
	if err := <-sent; err != nil {
		t.Error(err)
	}
	wg.Wait()
	up.check(t, "to the host after the stall", n)
	_ = l.host.CloseWrite()
	if r := l.wait(t); r.Err != nil || r.Closer != relay.CloserClient {
		t.Errorf("%+v", r)
	}
}
