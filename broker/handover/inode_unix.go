//go:build unix

package handover

import (
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// Inode is the number by which State refers to an open socket: every socket of the
// machine has another one for as long as it is open, in whatever process.
func Inode(c syscall.Conn) (ino uint64, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, err
	}
	var st unix.Stat_t
	var statErr error
	if err := raw.Control(func(fd uintptr) { statErr = unix.Fstat(int(fd), &st) }); err != nil {
		return 0, err
	}
	if statErr != nil {
		return 0, fmt.Errorf("fstat: %w", statErr)
	}
	return st.Ino, nil
}

// ByInode is b's files by their Inode.
func (b *Bundle) ByInode() (map[uint64]*os.File, error) {
	files := make(map[uint64]*os.File, len(b.Files))
	for _, f := range b.Files {
		ino, err := Inode(f)
		if err != nil {
			return nil, err
		}
		files[ino] = f
	}
	return files, nil
}
