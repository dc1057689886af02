package relaytest

import (
	"io"
	"net"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/rdpbroker/rdpbroker/rdpproxy/relay"
)

// testVanish: a peer whose machine is switched off says nothing, not even that
// it is gone. The relay's connections are tuned to notice that in 3 s.
func testVanish(t *testing.T, run RunFunc) {
	type lost struct {
		*line
		first   string
		talking bool // bytes are under way to the peer that vanishes
		other   *net.TCPConn
	}
	var all []lost // side by side, because each takes seconds
	for _, first := range []string{relay.CloserClient, relay.CloserHost} {
		for _, talking := range []bool{false, true} {
			l := lost{line: start(t, run, relay.Options{}), first: first, talking: talking}
			var vanishes *net.TCPConn
			vanishes, l.other = l.side(first)
			vanish(t, vanishes)
			if talking {
				if _, err := l.other.Write([]byte("a clock ticks on the screen")); err != nil {
					t.Fatal(err)
				}
			}
			all = append(all, l)
		}
	}
	for _, l := range all {
		if b, err := io.ReadAll(l.other); err != nil || len(b) > 0 {
			t.Errorf("%s, bytes under way %t: %q, %v", l.first, l.talking, b, err)
		}
		_ = l.other.Close()
		if r := l.wait(t); r.Err == nil || r.Closer != l.first {
			t.Errorf("%+v, want an error and closer %s", r, l.first)
		}
	}
}

// vanish makes the system drop every packet that comes for c, before TCP sees
// it: a socket filter that accepts nothing.
func vanish(t *testing.T, c *net.TCPConn) {
	t.Helper()
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	drop := unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: 0}
	var failed error
	err = raw.Control(func(fd uintptr) {
		failed = unix.SetsockoptSockFprog(int(fd), unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: 1, Filter: &drop})
	})
	if err != nil || failed != nil {
		t.Fatal(err, failed)
	}
}
