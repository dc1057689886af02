package rdpproxy

import (
	"fmt"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rdpbroker/rdpbroker/rdpproxy/x224"
)

// TestRefusals: each kind of wrong beginning, its count, and no byte in answer.
func TestRefusals(t *testing.T) {
	host := startHost(t, nil)
	b := newBench(t, Config{FirstPacketTimeout: 200 * time.Millisecond}, host.to())
	for _, tt := range []struct {
		kind string
		say  string
		end  bool // the client closes its side
	}{
		{kind: "tls", say: "\x16\x03\x01\x00\x2e\x01\x00\x00\x2a"},
		{kind: "http", say: "GET / HTTP/1.1\r\n\r\n"},
		{kind: "ssh", say: "SSH-2.0-Go\r\n"},
		{kind: "socks", say: "\x05\x01\x00"},
		{kind: "proxy-header", say: "PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n"},
		{kind: "not-tpkt", say: "\xff\xff\xff\xff"},
		{kind: "too-long", say: "\x03\x00\xff\xff\x06\xe0" + strings.Repeat("x", 2000)},
		{kind: "too-short", say: "\x03\x00\x00\x02\x06\xe0\x00\x00\x00\x00\x00"},
		{kind: "not-cr", say: "\x03\x00\x00\x07\x02\xf0\x80"},
		{kind: "bad-blob", say: "\x14\x00\x00\x00\x01\x00\x00\x00" + strings.Repeat("\x00", 12)},
		{kind: RefusedSlow},
		{kind: RefusedSlow, say: string(cookie("alice")[:30])},
		{kind: RefusedGone, end: true},
		{kind: RefusedGone, say: string(cookie("alice")[:30]), end: true},
	} {
		t.Run(fmt.Sprintf("%s %q", tt.kind, tt.say[:min(len(tt.say), 10)]), func(t *testing.T) {
			c := b.dial(t, "")
			_, _ = c.Write([]byte(tt.say))
			if tt.end {
				_ = c.(*net.TCPConn).CloseWrite()
			}
			closedByPeer(t, c)
			_ = c.Close()
		})
	}
	for kind, n := range map[string]int{
		"tls": 1, "http": 1, "ssh": 1, "socks": 1, "proxy-header": 1, "not-tpkt": 1, "too-long": 1, "too-short": 1,
		"not-cr": 1, "bad-blob": 1, RefusedSlow: 2, RefusedGone: 2,
	} {
		b.counts.untilRefused(t, kind, n)
	}
	if n := len(b.untilLogged(t, "connection refused", 14)); n != 14 || b.log.Len() != 14 {
		t.Errorf("%d lines, want one for each of 14", b.log.Len())
	}
}

// TestUnderAttack: thousands that say nothing, some that say it very slowly,
// some that say nonsense; and one user who wants to work.
func TestUnderAttack(t *testing.T) {
	const (
		addresses, perAddress = 20, 100 // idle connections: 2000
		loris                 = 20
	)
	firstPacket := 4 * time.Second
	if testing.Short() {
		firstPacket /= 2
	}
	host := startHost(t, nil)
	b := newBench(t, Config{
		FirstPacketTimeout: firstPacket, MaxPending: addresses*perAddress + 200, MaxPendingPerClient: perAddress,
	}, host.to())

	before := memory()
	begun := time.Now()
	for a := range addresses {
		for range perAddress {
			b.dial(t, fmt.Sprintf("127.1.0.%d", a+1))
		}
	}
	b.counts.until(t, "all idle connections are in", func(c *counts) bool { return c.accepted == addresses*perAddress })
	each := int(memory()-before) / (addresses * perAddress)
	t.Logf("%d bytes for each idle connection, both ends, in %s", each, time.Since(begun))
	if each > 12<<10 {
		t.Errorf("%d bytes for each idle connection", each)
	}

	for range 50 { // more from one address are turned away, at once
		closedByPeer(t, b.dial(t, "127.1.0.1"))
	}
	b.counts.untilRefused(t, RefusedTooManyPendingFromClient, 50)

	var wg sync.WaitGroup
	stop := make(chan struct{})
	for i := range loris {
		c := b.dial(t, fmt.Sprintf("127.1.1.%d", i+1))
		wg.Go(func() { // a request that would take a minute
			for _, x := range cookie(strings.Repeat("a", 200)) {
				if _, err := c.Write([]byte{x}); err != nil {
					return
				}
				select {
				case <-time.After(300 * time.Millisecond):
				case <-stop:
					return
				}
			}
		})
	}
	for i := range 100 {
		c := b.dial(t, "127.1.2.1")
		switch i % 4 {
		case 0:
			_, _ = c.Write([]byte("\x03\x00\xff\xff"))
		case 1:
			_, _ = c.Write([]byte("\x16\x03\x01\x02\x00"))
		case 2:
			_, _ = c.Write([]byte("GET / HTTP/1.0\r\n\r\n"))
		}
		_ = c.Close()
	}

	for range 5 {
		good := b.dial(t, "127.0.0.9")
		if err := exchange(good, cookie("alice")); err != nil {
			t.Errorf("the user: %v", err)
		}
		_ = good.Close()
	}
	b.counts.untilRefused(t, RefusedSlow, addresses*perAddress+loris)
	b.counts.untilRefused(t, string(x224.KindTooLong), 25)
	b.counts.untilRefused(t, string(x224.KindTLS), 25)
	b.counts.untilRefused(t, string(x224.KindHTTP), 25)
	b.counts.untilRefused(t, RefusedGone, 25)
	b.counts.untilClosed(t, 5)
	close(stop)
	wg.Wait()
	if waited := time.Since(begun); waited < firstPacket {
		t.Errorf("all were turned away after %s already", waited)
	}
}

func memory() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapInuse + m.StackInuse
}

// TestCrowd: silent connections from everywhere take all the places there are
// for newcomers. Users get in all the same, and the silent ones are turned away
// in the order in which they came.
func TestCrowd(t *testing.T) {
	const places = 50
	host := startHost(t, nil)
	b := newBench(t, Config{MaxPending: places}, host.to())
	var crowd []net.Conn
	for i := range 3 * places {
		crowd = append(crowd, b.dial(t, fmt.Sprintf("127.2.%d.1", i)))
		b.counts.until(t, "one more", func(c *counts) bool { return c.accepted == i+1 })
	}
	for _, c := range crowd[:2*places] {
		closedByPeer(t, c)
	}
	b.counts.untilRefused(t, RefusedTooManyPending, 2*places)
	for range 5 {
		if err := exchange(b.dial(t, "127.0.0.9"), cookie("alice")); err != nil {
			t.Error(err)
		}
	}
	closedByPeer(t, crowd[2*places])
	youngest := crowd[len(crowd)-1]
	if err := exchange(youngest, cookie("bob")); err != nil {
		t.Errorf("one that has not lost its place: %v", err)
	}
}

// TestPendingEndsWithTheRequest: who has a host is no longer pending.
func TestPendingEndsWithTheRequest(t *testing.T) {
	host := startHost(t, nil)
	b := newBench(t, Config{MaxPending: 1, MaxPendingPerClient: 1}, host.to())
	for range 3 {
		if err := exchange(b.dial(t, ""), cookie("alice")); err != nil {
			t.Error(err)
		}
	}
}

// TestDeferAccept: connections that come with their first byte are served like any, and
// those that stay silent or leave are seen all the same, a second late.
func TestDeferAccept(t *testing.T) {
	host := startHost(t, nil)
	b := newBench(t, Config{DeferAccept: true, FirstPacketTimeout: 50 * time.Millisecond}, host.to())
	for range 3 {
		c := b.dial(t, "")
		if err := exchange(c, cookie("alice")); err != nil {
			t.Error(err)
		}
		_ = c.Close()
	}
	b.counts.untilClosed(t, 3)
	silent, gone := b.dial(t, ""), b.dial(t, "")
	_ = gone.Close()
	b.counts.untilRefused(t, RefusedGone, 1)
	closedByPeer(t, silent)
	b.counts.untilRefused(t, RefusedSlow, 1)
}
