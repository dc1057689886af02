package rdpproxy

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"

	"github.com/pires/go-proxyproto"
)

// readProxyHeader reads a PROXY header, version 1 or 2, and no byte more from r.
// The addresses are not valid if the header says that the connection is the
// sender's own (LOCAL) or that it does not know (UNKNOWN, Unix sockets).
//
// A version 1 header must arrive in one piece, as the specification asks of its
// senders; a version 2 header may not be longer than about 4 KiB. The error is
// io.EOF if not one byte came: load balancers check for life that way.
func readProxyHeader(r *bufio.Reader) (client, local netip.AddrPort, err error) {
	if _, err := r.Peek(1); errors.Is(err, io.EOF) {
		return client, local, io.EOF
	}
	h, err := proxyproto.Read(r)
	if err != nil {
		return client, local, fmt.Errorf("reading the PROXY header: %w", err)
	}
	if h.Command.IsLocal() {
		return client, local, nil
	}
	if src, dst, ok := h.TCPAddrs(); ok {
		return addrPort(src), addrPort(dst), nil
	}
	return client, local, nil
}

// addrPort is the address of a TCP connection's end; IPv4 is never mapped into
// IPv6, so that one client has one address. Zero if a is something else.
func addrPort(a net.Addr) netip.AddrPort {
	tcp, ok := a.(*net.TCPAddr)
	if !ok || tcp == nil {
		return netip.AddrPort{}
	}
	ap := tcp.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

// trusted reports whether a is in one of the networks.
func trusted(a netip.Addr, networks []netip.Prefix) bool {
	for _, n := range networks {
		if n.Contains(a) {
			return true
		}
	}
	return false
}
