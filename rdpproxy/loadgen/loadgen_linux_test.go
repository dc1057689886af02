package loadgen

import (
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"
)

// hosts plays two hosts for the length of the test binary, and returns where.
func hosts(t *testing.T) []netip.AddrPort {
	t.Helper()
	var addrs []netip.AddrPort
	for range 2 {
		ln, err := net.Listen("tcp", "127.0.0.1:0") // a port that is free
		if err != nil {
			t.Fatal(err)
		}
		addrs = append(addrs, netip.MustParseAddrPort(ln.Addr().String()))
		ln.Close()
	}
	started, failed := make(chan struct{}), make(chan error, 1)
	go func() { failed <- ServeHosts(addrs, func() { close(started) }) }()
	select {
	case <-started:
	case err := <-failed:
		t.Fatal(err)
	}
	return addrs
}

// Every measurement finds something, and nothing fails, without a proxy between.
func TestDirect(t *testing.T) {
	c := &Client{To: hosts(t), From: []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("127.0.0.2")}, User: func(n int) string { return fmt.Sprintf("user%04d", n%10) }}
	const d = 200 * time.Millisecond
	check := func(what string, r Result, err error) {
		t.Helper()
		if err != nil || r.Failed > 0 || r.Done == 0 && r.Bytes == 0 {
			t.Errorf("%s: %+v, %v", what, r, err)
		}
	}
	r, err := c.Connect(8, d)
	check("connect", r, err)
	r, err = c.ConnectAt(200, d)
	check("connect at a pace", r, err)
	if r.Done != 40 {
		t.Errorf("%d connections in %s, not 200 a second", r.Done, d)
	}
	around := 0
	r, err = c.Bulk(3, d, func() { around++ })
	check("bulk", r, err)
	if around != 2 {
		t.Errorf("what is around was called %d times", around)
	}
	r, err = c.PingPong(3, 0, d)
	check("ping-pong", r, err)
	r, err = c.PingPong(3, 100, d)
	check("ping-pong at a pace", r, err)
	called := false
	if err := c.Idle(100, func() error { called = true; return nil }); err != nil || !called {
		t.Errorf("idle: %v, %v", called, err)
	}
}

// Whoever is not answered counts as failed, and the measurement ends.
func TestRefused(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			c.Close()
		}
	}()
	defer ln.Close()
	c := &Client{To: []netip.AddrPort{netip.MustParseAddrPort(ln.Addr().String())}, User: func(int) string { return "alice" }}
	if r, err := c.Connect(2, 100*time.Millisecond); err != nil || r.Done != 0 || r.Failed == 0 {
		t.Errorf("connect: %+v, %v", r, err)
	}
	if r, err := c.ConnectAt(100, 100*time.Millisecond); err != nil || r.Failed != 10 {
		t.Errorf("connect at a pace: %+v, %v", r, err)
	}
	if err := c.Idle(3, func() error { return nil }); err == nil {
		t.Error("idle connections that were cut off")
	}
}

func TestQuantiles(t *testing.T) {
	ts := times{5, 1, 3, 2, 4}
	if a, b := ts.quantile(0.5), ts.quantile(0.99); a != 3 || b != 5 {
		t.Errorf("%d and %d", a, b)
	}
	if d := (times{}).quantile(0.5); d != 0 {
		t.Errorf("of nothing %d", d)
	}
}
