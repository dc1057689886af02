package rdpproxy

import (
	"net/netip"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rdpbroker/rdpbroker/rdpproxy/loop"
	"github.com/rdpbroker/rdpbroker/rdpproxy/relay"
)

// tune is relay.Tune for a bare socket. On a listening socket it is for the
// connections to come.
func tune(fd int32, k relay.KeepAlive) error {
	set := func(level, opt, value int) error {
		if errno := loop.SetInt(fd, level, opt, value); errno != 0 {
			return os.NewSyscallError("setsockopt", errno)
		}
		return nil
	}
	if err := set(unix.IPPROTO_TCP, unix.TCP_NODELAY, 1); err != nil {
		return err
	}
	if k.Idle < 0 {
		return set(unix.SOL_SOCKET, unix.SO_KEEPALIVE, 0)
	}
	k = k.WithDefaults()
	for _, o := range [...][3]int{
		{unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1},
		{unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, seconds(k.Idle)},
		{unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, seconds(k.Interval)},
		{unix.IPPROTO_TCP, unix.TCP_KEEPCNT, k.Count},
		{unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(k.Patience().Milliseconds())},
	} {
		if err := set(o[0], o[1], o[2]); err != nil {
			return err
		}
	}
	return nil
}

// expectRequests tells a listening socket that a client speaks first. What it says is
// acknowledged together with the answer: a segment less. With deferred, connections come
// when there is something to read. (When too many stay silent the system goes over to SYN
// cookies, and they come at once, to be counted by us. Without cookies they would keep
// others out, so that it is not done there.) Together these are worth a tenth of all that a
// short connection takes.
func expectRequests(ln int32, deferred bool) {
	_ = loop.SetInt(ln, unix.IPPROTO_TCP, unix.TCP_QUICKACK, 0)
	if !deferred {
		return
	}
	if b, err := os.ReadFile("/proc/sys/net/ipv4/tcp_syncookies"); err == nil && strings.TrimSpace(string(b)) != "0" {
		_ = loop.SetInt(ln, unix.IPPROTO_TCP, unix.TCP_DEFER_ACCEPT, 1)
	}
}

// seconds rounds up, as the net package does.
func seconds(d time.Duration) int { return int((d + time.Second - 1) / time.Second) }

// dialSocket begins to connect to addr. The socket can be written when it is connected.
// It has no keep-alive yet.
func dialSocket(addr netip.AddrPort) (fd int32, err error) {
	s, errno := loop.NewSocket(addr.Addr())
	if errno != 0 {
		return 0, os.NewSyscallError("socket", errno)
	}
	_ = loop.SetInt(s, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	// The acknowledgement of the host's SYN waits for the request, which follows at
	// once, and goes with it.
	_ = loop.SetInt(s, unix.IPPROTO_TCP, unix.TCP_QUICKACK, 0)
	if errno := loop.Connect(s, addr); errno != 0 && errno != unix.EINPROGRESS {
		closeSocket(s)
		return 0, os.NewSyscallError("connect", errno)
	}
	return s, nil
}

func closeSocket(fd int32) { _ = unix.Close(int(fd)) }

// sockaddr is the address of a TCP socket; IPv4 is never mapped into IPv6.
func sockaddr(sa unix.Sockaddr) netip.AddrPort {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr).Unmap(), uint16(sa.Port))
	}
	return netip.AddrPort{}
}
