//go:build unix

package handover

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// Kept is another descriptor of a socket, kept to be passed on. Nothing waits for it:
// an *os.File of a listener is known to Go's poller, and a thread would be woken for each
// connection that comes.
type Kept struct{ fd int }

// Keep makes another descriptor of c, which the caller closes or turns into a File.
func Keep(c syscall.Conn) (*Kept, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, err
	}
	k := new(Kept)
	var dup error
	err = raw.Control(func(fd uintptr) { k.fd, dup = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0) })
	if err == nil {
		err = os.NewSyscallError("fcntl", dup)
	}
	if err != nil {
		return nil, err
	}
	return k, nil
}

// File is what was kept, now the caller's to close; k is of no use any more.
func (k *Kept) File() *os.File { return os.NewFile(uintptr(k.fd), "kept") }

// Close closes what was kept.
func (k *Kept) Close() error { return unix.Close(k.fd) }
