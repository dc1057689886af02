package relay

import (
	"errors"
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// splice copies within the kernel. ok is false, and nothing was copied, if
// either side is no bare TCP connection. Without a free descriptor for a pipe
// the net package falls back to copying through a buffer.
func (d *direction) splice() (n int64, culprit string, err error, ok bool) {
	src, srcOK := d.src.(*net.TCPConn)
	dst, dstOK := d.dst.(*net.TCPConn)
	if !srcOK || !dstOK {
		return 0, "", nil, false
	}
	n, err = dst.ReadFrom(src)
	return n, d.blame(src, dst, err), err, true
}

// blame finds out which side broke a splice: its error does not tell reading
// from writing, but the state of the connections does.
func (d *direction) blame(src, dst *net.TCPConn, err error) string {
	if err == nil || errors.Is(err, net.ErrClosed) {
		return d.from
	}
	var op *net.OpError
	for e := err; errors.As(e, &op); e = op.Err { // set where the net package fell back to read and write
		switch op.Op {
		case "read":
			return d.from
		case "write":
			return d.to
		}
	}
	if errors.Is(err, syscall.EPIPE) || (gone(dst) && !gone(src)) {
		return d.to
	}
	return d.from
}

// gone reports whether the kernel has given the connection up: after a reset
// or too many unanswered probes.
func gone(c *net.TCPConn) bool {
	info := tcpInfo(c)
	return info != nil && info.State == unix.BPF_TCP_CLOSE
}

// kernelBytes is how many bytes the kernel has received from and delivered to
// the peer of c; 0 if c is no TCP connection.
func kernelBytes(c net.Conn) uint64 {
	if info := tcpInfo(c); info != nil {
		return info.Bytes_received + info.Bytes_acked
	}
	return 0
}

func tcpInfo(c net.Conn) *unix.TCPInfo {
	tcp, ok := c.(*net.TCPConn)
	if !ok {
		return nil
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return nil
	}
	var info *unix.TCPInfo
	_ = raw.Control(func(fd uintptr) {
		info, _ = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO) // nil on error
	})
	return info
}
