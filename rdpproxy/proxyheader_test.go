package rdpproxy

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"testing"

	"github.com/pires/go-proxyproto"
)

// header is a PROXY header of a version, made by the library that reads them.
func header(version byte, src, dst string) []byte {
	h := proxyproto.HeaderProxyFromAddrs(version,
		net.TCPAddrFromAddrPort(netip.MustParseAddrPort(src)), net.TCPAddrFromAddrPort(netip.MustParseAddrPort(dst)))
	b, err := h.Format()
	if err != nil {
		panic(err)
	}
	return b
}

func localHeader() []byte {
	b, err := (&proxyproto.Header{Version: 2, Command: proxyproto.LOCAL}).Format()
	if err != nil {
		panic(err)
	}
	return b
}

func TestReadProxyHeader(t *testing.T) {
	const src, dst = "192.0.2.9:50000", "198.51.100.1:3389"
	const src6, dst6 = "[2001:db8::9]:50000", "[2001:db8::1]:3389"
	for _, tt := range []struct {
		name        string
		b           []byte
		client, dst string // "" for none
		fails       bool
	}{
		{"v1", header(1, src, dst), src, dst, false},
		{"v1 IPv6", header(1, src6, dst6), src6, dst6, false},
		{"v1 unknown", []byte("PROXY UNKNOWN\r\n"), "", "", false},
		{"v1 by the book", []byte("PROXY TCP4 192.0.2.9 198.51.100.1 50000 3389\r\n"), src, dst, false},
		{"v2", header(2, src, dst), src, dst, false},
		{"v2 IPv6", header(2, src6, dst6), src6, dst6, false},
		{"v2 IPv4 in IPv6", header(2, "[::ffff:192.0.2.9]:50000", "[::ffff:198.51.100.1]:3389"), src, dst, false},
		{"v2 local", localHeader(), "", "", false},
		{"none", cookie("alice"), "", "", true},
		{"half", header(2, src, dst)[:10], "", "", true},
		{"v1 without end", []byte("PROXY TCP4 192.0.2.9"), "", "", true},
		{"v1 nonsense", []byte("PROXY TCP4 a b c d\r\n"), "", "", true},
	} {
		const rest = "what follows"
		r := bufio.NewReader(bytes.NewReader(append(tt.b[:len(tt.b):len(tt.b)], rest...)))
		client, local, err := readProxyHeader(r)
		if (err != nil) != tt.fails {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		if tt.fails {
			continue
		}
		if client.IsValid() != (tt.client != "") || tt.client != "" && (client.String() != tt.client || local.String() != tt.dst) {
			t.Errorf("%s: %s to %s", tt.name, client, local)
		}
		if b, _ := io.ReadAll(r); string(b) != rest {
			t.Errorf("%s: %q is left", tt.name, b)
		}
	}
	if _, _, err := readProxyHeader(bufio.NewReader(bytes.NewReader(nil))); err != io.EOF {
		t.Errorf("nothing at all: %v", err)
	}
}

// FuzzProxyHeader: no panic, nothing read beyond the header, addresses usable.
func FuzzProxyHeader(f *testing.F) {
	f.Add(header(1, "192.0.2.9:50000", "198.51.100.1:3389"))
	f.Add(header(2, "192.0.2.9:50000", "198.51.100.1:3389"))
	f.Add(header(2, "[2001:db8::9]:50000", "[2001:db8::1]:3389"))
	f.Add(localHeader())
	f.Add([]byte("PROXY UNKNOWN\r\n"))
	f.Add(cookie("alice"))
	f.Fuzz(func(t *testing.T, b []byte) {
		whole := bufio.NewReader(bytes.NewReader(b))
		client, local, err := readProxyHeader(whole)
		if err != nil {
			return
		}
		rest, _ := io.ReadAll(whole)
		used := len(b) - len(rest)
		if !bytes.Equal(rest, b[used:]) {
			t.Fatalf("of %x there is left %x", b, rest)
		}
		// The header alone must mean the same.
		c, l, err := readProxyHeader(bufio.NewReader(bytes.NewReader(b[:used])))
		if err != nil || c != client || l != local {
			t.Fatalf("%x: %s to %s; alone %s to %s, %v", b, client, local, c, l, err)
		}
		if client.IsValid() {
			_ = clientKey(client.Addr())
			if !local.IsValid() || client.Addr().Is4In6() {
				t.Fatalf("%x: %s to %s", b, client, local)
			}
		}
	})
}

// TestProxyProtocol goes through a listener that requires the header.
func TestProxyProtocol(t *testing.T) {
	const src = "192.0.2.9:50000"
	host := startHost(t, nil)
	got := make(chan Request, 1)
	router := routerFunc(func(_ context.Context, r Request) (Route, error) {
		got <- r
		return host.route(), nil
	})
	cfg := Config{ProxyProtocol: ProxyRequired, ProxyTrusted: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}, MaxPerClient: 1}

	t.Run("header and request", func(t *testing.T) {
		for _, v := range []byte{1, 2} {
			for name, cutAt := range map[string]int{"in one piece": 0, "in two": len(header(v, src, "198.51.100.1:3389"))} {
				b := newBench(t, cfg, router)
				c := b.dial(t, "127.0.0.1")
				sent := append(header(v, src, "198.51.100.1:3389"), cookie("alice")...)
				if _, err := c.Write(sent[:cutAt]); err != nil {
					t.Fatal(err)
				}
				if err := exchange(c, sent[cutAt:]); err != nil {
					t.Errorf("version %d, %s: %v", v, name, err)
				}
				if r := <-got; r.Client.String() != src || r.Local.String() != "198.51.100.1:3389" {
					t.Errorf("version %d, %s: %+v", v, name, r)
				}
				<-host.requests
				// The limit is the client's, not the load balancer's.
				same, other := b.dial(t, "127.0.0.1"), b.dial(t, "127.0.0.1")
				_, _ = same.Write(append(header(v, "192.0.2.9:50001", "198.51.100.1:3389"), cookie("alice")...))
				closedByPeer(t, same)
				b.counts.untilRefused(t, RefusedTooManyFromClient, 1)
				if err := exchange(other, append(header(v, "192.0.2.10:1", "198.51.100.1:3389"), cookie("bob")...)); err != nil {
					t.Error(err)
				}
				<-got
				<-host.requests
			}
		}
	})
	t.Run("early bytes behind the request", func(t *testing.T) {
		b := newBench(t, cfg, router)
		c := b.dial(t, "127.0.0.1")
		_, _ = c.Write(append(append(header(2, src, "198.51.100.1:3389"), cookie("alice")...), "early"...))
		heard := make([]byte, len(confirm)+len("early"))
		if _, err := io.ReadFull(c, heard); err != nil || string(heard[len(confirm):]) != "early" {
			t.Errorf("%q, %v", heard, err)
		}
		<-got
		<-host.requests
	})
	t.Run("health check by the load balancer", func(t *testing.T) {
		b := newBench(t, cfg, router)
		c := b.dial(t, "127.0.0.1")
		_, _ = c.Write(localHeader())
		_ = c.Close()
		b.counts.untilRefused(t, RefusedGone, 1)
	})
	t.Run("own connection of the load balancer", func(t *testing.T) {
		b := newBench(t, cfg, router)
		c := b.dial(t, "127.0.0.1")
		if err := exchange(c, append(localHeader(), cookie("alice")...)); err != nil {
			t.Error(err)
		}
		if r := <-got; r.Client.String() != c.LocalAddr().String() {
			t.Errorf("%+v", r)
		}
		<-host.requests
	})
	t.Run("no header", func(t *testing.T) {
		b := newBench(t, cfg, router)
		c := b.dial(t, "127.0.0.1")
		_, _ = c.Write(cookie("alice"))
		closedByPeer(t, c)
		b.counts.untilRefused(t, RefusedProxyHeader, 1)
	})
	t.Run("not trusted", func(t *testing.T) {
		b := newBench(t, cfg, router)
		closedByPeer(t, b.dial(t, "127.0.0.2"))
		b.counts.untilRefused(t, RefusedProxyUntrusted, 1)
	})
	t.Run("not expected", func(t *testing.T) {
		b := newBench(t, Config{}, router)
		c := b.dial(t, "127.0.0.1")
		_, _ = c.Write(header(1, src, "198.51.100.1:3389"))
		closedByPeer(t, c)
		b.counts.untilRefused(t, "proxy-header", 1)
	})
	if len(got) != 0 {
		t.Error(errors.New("somebody else was routed"))
	}
}
