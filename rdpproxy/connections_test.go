package rdpproxy

import (
	"net/netip"
	"testing"
	"time"
)

// TestConnections: who is there, since when, where to, and how much.
func TestConnections(t *testing.T) {
	host := startHost(t, nil)
	b := newBench(t, Config{Listener: "main"}, host.to())
	began := time.Now()
	first := b.dial(t, "127.0.0.7")
	if err := exchange(first, cookie("alice")); err != nil {
		t.Fatal(err)
	}
	silent := b.dial(t, "")
	b.counts.until(t, "both are accepted", func(c *counts) bool { return c.accepted == 2 })
	var all []Connection
	for len(all) < 2 {
		all = b.Connections()
	}
	a, s := all[0], all[1]
	if a.Client != netip.MustParseAddrPort(first.LocalAddr().String()) || a.Listener != "main" || a.Host != "fake" || a.Why != "test" ||
		a.Since.Before(began) || a.ID == 0 {
		t.Errorf("%+v", a)
	}
	if !ways[way].portable && (a.ToHost != int64(len(cookie("alice"))+len(said)) || a.ToClient != int64(len(confirm)+len(said))) {
		t.Errorf("%d and %d bytes", a.ToHost, a.ToClient)
	}
	if s.Client != netip.MustParseAddrPort(silent.LocalAddr().String()) || s.Host != "" || s.ID <= a.ID {
		t.Errorf("%+v", s)
	}
	_ = first.Close()
	b.counts.untilClosed(t, 1)
	for len(b.Connections()) > 1 {
		time.Sleep(time.Millisecond)
	}
}
