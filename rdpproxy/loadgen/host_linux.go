package loadgen

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/rdpbroker/rdpbroker/rdpproxy/x224"
)

// After the X.224 exchange a client says in an order what it wants of the host:
// a byte for the kind, and a number.
const (
	orderSize = 9
	orderBulk = 'B' // send so many bytes, 0: without end
	orderPing = 'P' // answer each pingUp bytes with pingDown
)

// What a client of an interactive session sends and gets at a time, in bytes.
const (
	pingUp   = 100
	pingDown = 1200
)

// confirm is the answer of a host with NLA.
var confirm = (&x224.Confirm{Negotiated: true, Value: uint32(x224.ProtocolHybrid)}).Append(nil)

// host plays hosts.
type host struct {
	*loop
	pong []byte
}

// The stages of a connection to a host.
const (
	hostRequest = iota
	hostOrder
	hostBulk
	hostPing
)

// ServeHosts plays an RDP host at each of addrs, as far as loadgen's clients go,
// until the process ends. started, if not nil, is called when all listen.
func ServeHosts(addrs []netip.AddrPort, started func()) error {
	l, err := newLoop()
	if err != nil {
		return err
	}
	defer l.close()
	h := &host{loop: l, pong: make([]byte, pingDown)}
	for _, a := range addrs {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("socket: %w", err)
		}
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
		if err := errors.Join(unix.Bind(fd, &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}), unix.Listen(fd, 65535)); err != nil {
			return fmt.Errorf("listen on %s: %w", a, err)
		}
		if _, err := l.add(fd, unix.EPOLLIN, h.accept); err != nil {
			return err
		}
	}
	if started != nil {
		started()
	}
	return l.run(noEnd, nil)
}

func (h *host) accept(c *conn, _ uint32) {
	for range 64 {
		fd, _, err := unix.Accept4(c.fd, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		if err != nil {
			return
		}
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
		_, _ = h.add(fd, unix.EPOLLIN, h.talk)
	}
}

func (h *host) talk(c *conn, _ uint32) {
	if c.stage == hostBulk {
		h.send(c)
		return
	}
	n, err := unix.Read(c.fd, h.buf)
	if errors.Is(err, unix.EAGAIN) {
		return
	}
	if err != nil || n == 0 {
		h.end(c)
		return
	}
	data := h.buf[:n]
	switch c.stage {
	case hostRequest: // it comes in one piece, as from any client
		c.stage = hostOrder
		_, err = unix.Write(c.fd, confirm)
	case hostOrder:
		if n < orderSize {
			h.end(c)
			return
		}
		switch data[0] {
		case orderBulk:
			c.stage, c.left = hostBulk, int64(binary.BigEndian.Uint64(data[1:orderSize]))
			h.wait(c, unix.EPOLLOUT)
		case orderPing:
			c.stage = hostPing
			err = h.answer(c, n-orderSize)
		}
	case hostPing:
		err = h.answer(c, n)
	}
	if err != nil {
		h.end(c)
	}
}

// answer takes n bytes more from a client, and answers what is complete.
func (h *host) answer(c *conn, n int) error {
	for c.got += n; c.got >= pingUp; c.got -= pingUp {
		if _, err := unix.Write(c.fd, h.pong); err != nil {
			return err
		}
	}
	return nil
}

func (h *host) send(c *conn) {
	size := len(h.buf)
	if c.left > 0 {
		size = int(min(c.left, int64(size)))
	}
	n, err := unix.Write(c.fd, h.buf[:size])
	if errors.Is(err, unix.EAGAIN) {
		return
	}
	if err == nil && c.left > 0 {
		if c.left -= int64(n); c.left == 0 {
			c.stage = hostPing // which means: wait for the end
			h.wait(c, unix.EPOLLIN)
		}
	}
	if err != nil {
		h.end(c)
	}
}
