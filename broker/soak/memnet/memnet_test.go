package memnet_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/nettest"

	"github.com/rdpbroker/rdpbroker/broker/soak/memnet"
)

var (
	client = netip.MustParseAddr("192.0.2.1")
	server = netip.MustParseAddrPort("192.0.2.10:3389")
)

// connect is a connection and its listener.
func connect(t *testing.T, n *memnet.Network) (near, far net.Conn, l *memnet.Listener) {
	t.Helper()
	l, err := n.Listen(server)
	if err != nil {
		t.Fatal(err)
	}
	if near, err = n.Dialer(client)(t.Context(), "tcp", server.String()); err != nil {
		t.Fatal(err)
	}
	if far, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	return near, far, l
}

func TestConnsAreConns(t *testing.T) {
	nettest.TestConn(t, func() (c1, c2 net.Conn, stop func(), err error) {
		near, far, l := connect(t, new(memnet.Network))
		return near, far, func() { near.Close(); far.Close(); l.Close() }, nil
	})
}

func TestAddresses(t *testing.T) {
	near, far, _ := connect(t, new(memnet.Network))
	if far.LocalAddr().String() != server.String() || near.RemoteAddr().String() != server.String() {
		t.Errorf("the server is %s and %s", far.LocalAddr(), near.RemoteAddr())
	}
	from := far.RemoteAddr().(*net.TCPAddr).AddrPort()
	if from.Addr() != client || from.Port() == 0 || near.LocalAddr().String() != from.String() {
		t.Errorf("the client is %s and %s", from, near.LocalAddr())
	}
}

// The last bytes before an end arrive, and a half-close leaves the other half open.
func TestHalfClose(t *testing.T) {
	near, far, _ := connect(t, new(memnet.Network))
	if _, err := near.Write([]byte("goodbye")); err != nil {
		t.Fatal(err)
	}
	near.(*memnet.Conn).CloseWrite()
	if b, err := io.ReadAll(far); string(b) != "goodbye" || err != nil {
		t.Errorf("read %q, %v", b, err)
	}
	far.Write([]byte("farewell"))
	far.Close()
	if b, err := io.ReadAll(near); string(b) != "farewell" || err != nil {
		t.Errorf("read %q, %v", b, err)
	}
	if _, err := near.Write([]byte("?")); err == nil {
		t.Error("wrote after a half-close")
	}
}

func TestCutResetsBothEnds(t *testing.T) {
	near, far, l := connect(t, new(memnet.Network))
	near.Write([]byte("lost"))
	l.Cut()
	for _, c := range []net.Conn{near, far} {
		if _, err := c.Read(make([]byte, 9)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("read: %v", err)
		}
		if _, err := c.Write([]byte("x")); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("write: %v", err)
		}
	}
}

func TestNobodyListens(t *testing.T) {
	n := new(memnet.Network)
	if _, err := n.Dialer(client)(t.Context(), "tcp", server.String()); !errors.Is(err, memnet.ErrRefused) {
		t.Errorf("dial: %v", err)
	}
	_, _, l := connect(t, n)
	if _, err := n.Listen(server); err == nil {
		t.Error("two listeners at one address")
	}
	waiting, err := n.Dialer(client)(t.Context(), "tcp", server.String())
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	l.Close()
	if _, err := waiting.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("a connection that nobody accepted: %v", err)
	}
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("accept: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := n.Dialer(client)(ctx, "tcp", server.String()); !errors.Is(err, context.Canceled) {
		t.Errorf("dial without a context: %v", err)
	}
}

// In a bubble whoever waits for bytes lets time pass.
func TestTimePasses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far, _ := connect(t, new(memnet.Network))
		began := time.Now()
		go func() {
			time.Sleep(time.Hour)
			far.Write([]byte("late"))
		}()
		near.SetReadDeadline(began.Add(time.Minute))
		b := make([]byte, 9)
		if _, err := near.Read(b); err == nil || !err.(net.Error).Timeout() || time.Since(began) != time.Minute {
			t.Errorf("after %s: %v", time.Since(began), err)
		}
		near.SetReadDeadline(time.Time{})
		if n, err := near.Read(b); string(b[:n]) != "late" || err != nil || time.Since(began) != time.Hour {
			t.Errorf("after %s: %q, %v", time.Since(began), b[:n], err)
		}
	})
}
