package rdpproxy

import (
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rdpbroker/rdpbroker/rdpproxy/x224"
)

// TestDialsQueueInOrder: first come, first served, and who gives up does not
// keep the others waiting.
func TestDialsQueueInOrder(t *testing.T) {
	var d dials
	ctx := context.Background()
	first, err := d.acquire(ctx, "h", 1)
	if err != nil {
		t.Fatal(err)
	}
	const n = 10
	var mu sync.Mutex
	var order []int
	var wg sync.WaitGroup
	impatient, giveUp := context.WithCancelCause(ctx)
	left := errors.New("left")
	for i := range n {
		ctx := ctx
		if i%3 == 1 {
			ctx = impatient
		}
		wg.Go(func() {
			release, err := d.acquire(ctx, "h", 1)
			if i%3 == 1 {
				if !errors.Is(err, left) {
					t.Errorf("%d: %v", i, err)
				}
				return
			}
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			order = append(order, i)
			mu.Unlock()
			release()
			release() // harmless
		})
		for { // until it stands in the queue
			d.mu.Lock()
			waiting := len(d.gates["h"].waiting)
			d.mu.Unlock()
			if waiting == i+1 {
				break
			}
			time.Sleep(100 * time.Microsecond)
		}
	}
	if release, err := d.acquire(ctx, "other", 1); err != nil {
		t.Error("another host waits as well")
	} else {
		release()
	}
	giveUp(left)
	for {
		d.mu.Lock()
		waiting := len(d.gates["h"].waiting)
		d.mu.Unlock()
		if waiting == n-3 {
			break
		}
		time.Sleep(100 * time.Microsecond)
	}
	first()
	wg.Wait()
	if want := []int{0, 2, 3, 5, 6, 8, 9}; !slices.Equal(order, want) {
		t.Errorf("order %v, want %v", order, want)
	}
	if len(d.gates) != 0 {
		t.Errorf("%d gates are left", len(d.gates))
	}
}

// TestDialsUnderStress: the limit holds, and no place is lost, while waiters
// come and go at random.
func TestDialsUnderStress(t *testing.T) {
	var d dials
	var inFlight atomic.Int32
	var wg sync.WaitGroup
	for range 200 {
		wg.Go(func() {
			for i := range 20 {
				ctx, cancel := context.WithTimeout(context.Background(), time.Duration(i)*50*time.Microsecond)
				release, err := d.acquire(ctx, "h", 3)
				if err == nil {
					if n := inFlight.Add(1); n > 3 {
						t.Errorf("%d in flight", n)
					}
					time.Sleep(10 * time.Microsecond)
					inFlight.Add(-1)
					release()
				}
				cancel()
			}
		})
	}
	wg.Wait()
	if len(d.gates) != 0 {
		t.Errorf("%d gates are left", len(d.gates))
	}
}

// TestDialQueueTimeout: a dial that was never tried says so.
func TestDialQueueTimeout(t *testing.T) {
	host := startHost(t, nil)
	cfg := Config{DialsPerHost: 1, DialTimeout: 20 * time.Millisecond}.withDefaults()
	var d dials
	release, err := d.acquire(context.Background(), host.addr, 1)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := d.dial(context.Background(), host.route(), cfg); !errors.Is(err, ErrDialQueue) {
		t.Errorf("%v", err)
	}
	release()
	c, release, err := d.dial(context.Background(), host.route(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
	release()
}

// TestDialsAreInFlightUntilTheAnswer: a host that takes its time never sees
// more logons at once than it can stand.
func TestDialsAreInFlightUntilTheAnswer(t *testing.T) {
	var atOnce, most atomic.Int32
	host := startHost(t, func(c net.Conn) {
		if n := atOnce.Add(1); n > most.Load() {
			most.Store(n)
		}
		_, _ = x224.ReadTPKT(c, x224.MaxPacket)
		time.Sleep(5 * time.Millisecond)
		atOnce.Add(-1)
		_, _ = c.Write(confirm)
		_, _ = io.Copy(c, c)
	})
	b := newBench(t, Config{DialsPerHost: 2, AnswerWait: patience}, host.to())
	var wg sync.WaitGroup
	for range 20 {
		c := b.dial(t, "")
		wg.Go(func() {
			if err := exchange(c, cookie("alice")); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := most.Load(); n != 2 {
		t.Errorf("%d at once, want 2", n)
	}
}

// TestSilentHostDoesNotBlock: a host that does not answer keeps its slot only
// for AnswerWait, and its connection is relayed none the less.
func TestSilentHostDoesNotBlock(t *testing.T) {
	host := startHost(t, func(c net.Conn) {
		_, _ = x224.ReadTPKT(c, x224.MaxPacket)
		_, _ = io.Copy(c, c) // answers only what comes later
	})
	b := newBench(t, Config{DialsPerHost: 1, AnswerWait: time.Millisecond}, host.to())
	for range 3 {
		c := b.dial(t, "")
		if _, err := c.Write(cookie("alice")); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Write([]byte("hello")); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c, make([]byte, 5)); err != nil {
			t.Error(err)
		}
	}
}
