package loop

import (
	"encoding/binary"
	"net/netip"
	"strconv"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The system calls of the hot path. A loop's descriptors never block, so a call
// takes a microsecond or two; these do not tell Go's scheduler about it, which
// takes about a tenth of that each time, and more when it takes the chance to give
// the loop's place to somebody else.

// recv reads into b. n is 0 at the end of the stream and after an error.
func recv(fd int32, b []byte) (n int, errno syscall.Errno) {
	for {
		r, _, e := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), 0, 0, 0)
		if e == 0 {
			return int(r), 0
		}
		if e != unix.EINTR {
			return 0, e
		}
	}
}

// discard reads up to a megabyte that nobody wants: the kernel need not even copy it.
func discard(fd int32) (n int, errno syscall.Errno) {
	for {
		r, _, e := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd), 0, 1<<20, unix.MSG_TRUNC, 0, 0)
		if e == 0 {
			return int(r), 0
		}
		if e != unix.EINTR {
			return 0, e
		}
	}
}

// send writes b or a part of it; a broken connection is an error and no signal.
func send(fd int32, b []byte) (n int, errno syscall.Errno) {
	for {
		r, _, e := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), unix.MSG_NOSIGNAL, 0, 0)
		if e == 0 {
			return int(r), 0
		}
		if e != unix.EINTR {
			return 0, e
		}
	}
}

// splice moves up to n bytes between a socket and a pipe without their leaving the kernel.
func splice(from, to int32, n int) (moved int, errno syscall.Errno) {
	for {
		r, _, e := unix.RawSyscall6(unix.SYS_SPLICE, uintptr(from), 0, uintptr(to), 0, uintptr(n), unix.SPLICE_F_NONBLOCK|unix.SPLICE_F_MOVE)
		if e == 0 {
			return int(r), 0
		}
		if e != unix.EINTR {
			return 0, e
		}
	}
}

// pollRaw is epoll_wait without the scheduler's knowledge, for msec milliseconds at most.
func pollRaw(ep int, events []unix.EpollEvent, msec int) int {
	n, _, e := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(ep), uintptr(unsafe.Pointer(unsafe.SliceData(events))), uintptr(len(events)), uintptr(msec), 0, 0)
	if e != 0 { // EINTR: somebody wants to stop the world
		return 0
	}
	return int(n)
}

// shut closes one half; it fails only for a connection that is gone.
func shut(fd int32) { _, _, _ = unix.RawSyscall(unix.SYS_SHUTDOWN, uintptr(fd), unix.SHUT_WR, 0) }

// resetOnClose has a connection end with a reset.
func resetOnClose(fd int32) {
	l := unix.Linger{Onoff: 1}
	_, _, _ = unix.RawSyscall6(unix.SYS_SETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_LINGER, uintptr(unsafe.Pointer(&l)), unsafe.Sizeof(l), 0)
}

// unsent is how many bytes a socket's peer has not acknowledged; not 0 if that cannot
// be told.
func unsent(fd int32) int32 {
	n := int32(-1)
	if _, _, e := unix.RawSyscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCOUTQ, uintptr(unsafe.Pointer(&n))); e != 0 {
		return -1
	}
	return n
}

func closeFD(fd int32) { _, _, _ = unix.RawSyscall(unix.SYS_CLOSE, uintptr(fd), 0, 0) }

// Recv reads from a socket into b without blocking. n is 0 at the end of the stream
// and after an error.
func Recv(fd int32, b []byte) (n int, errno syscall.Errno) { return recv(fd, b) }

// Send writes b or a part of it without blocking. EAGAIN is also what a socket says
// that is not connected yet.
func Send(fd int32, b []byte) (n int, errno syscall.Errno) { return send(fd, b) }

// SetInt sets an option of a socket.
func SetInt(fd int32, level, option, value int) syscall.Errno {
	v := int32(value)
	_, _, e := unix.RawSyscall6(unix.SYS_SETSOCKOPT, uintptr(fd), uintptr(level), uintptr(option), uintptr(unsafe.Pointer(&v)), unsafe.Sizeof(v), 0)
	return e
}

// Accept takes the next connection from a listening socket that does not block.
// IPv4 is never mapped into IPv6 in the peer's address. The error is a syscall.Errno.
func Accept(ln int32) (fd int32, peer netip.AddrPort, err error) {
	var sa unix.RawSockaddrInet6 // as large as either
	size := uint32(unsafe.Sizeof(sa))
	r, _, e := unix.RawSyscall6(unix.SYS_ACCEPT4, uintptr(ln), uintptr(unsafe.Pointer(&sa)), uintptr(unsafe.Pointer(&size)), unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0, 0)
	if e != 0 {
		return 0, netip.AddrPort{}, e
	}
	port := *(*[2]byte)(unsafe.Pointer(&sa.Port)) // as it goes over the wire
	addr := netip.AddrFrom16(sa.Addr).Unmap()
	if sa.Family == unix.AF_INET {
		addr = netip.AddrFrom4((*unix.RawSockaddrInet4)(unsafe.Pointer(&sa)).Addr)
	} else if addr.Is6() && sa.Scope_id != 0 {
		addr = addr.WithZone(strconv.Itoa(int(sa.Scope_id)))
	}
	return int32(r), netip.AddrPortFrom(addr, uint16(port[0])<<8|uint16(port[1])), nil
}

// NewSocket makes a TCP socket that does not block, to connect to an address such as ip.
func NewSocket(ip netip.Addr) (fd int32, errno syscall.Errno) {
	family := unix.AF_INET6
	if ip.Unmap().Is4() {
		family = unix.AF_INET
	}
	r, _, e := unix.RawSyscall(unix.SYS_SOCKET, uintptr(family), unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	return int32(r), e
}

// Connect begins to connect fd, made for it by NewSocket, to an address without a zone.
// Mostly the result is EINPROGRESS: the socket can be written when it is connected.
func Connect(fd int32, to netip.AddrPort) syscall.Errno {
	ip, port := to.Addr().Unmap(), [2]byte{byte(to.Port() >> 8), byte(to.Port())}
	wire := binary.NativeEndian.Uint16(port[:]) // as it goes over the wire
	if ip.Is4() {
		sa := unix.RawSockaddrInet4{Family: unix.AF_INET, Port: wire, Addr: ip.As4()}
		_, _, e := unix.RawSyscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&sa)), unsafe.Sizeof(sa))
		return e
	}
	sa := unix.RawSockaddrInet6{Family: unix.AF_INET6, Port: wire, Addr: ip.As16()}
	_, _, e := unix.RawSyscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&sa)), unsafe.Sizeof(sa))
	return e
}

// yield lets other threads have the processor, if any wants it.
func yield() { _, _, _ = unix.RawSyscall(unix.SYS_SCHED_YIELD, 0, 0, 0) }
