//go:build !unix

package handover

import (
	"errors"
	"os"
	"syscall"
)

// Inode is for systems on which open files can be handed over.
func Inode(syscall.Conn) (uint64, error) {
	return 0, errors.New("open files cannot be handed over on this system")
}

// ByInode is b's files by their Inode.
func (b *Bundle) ByInode() (map[uint64]*os.File, error) {
	if len(b.Files) > 0 {
		return nil, errors.New("open files cannot be taken over on this system")
	}
	return map[uint64]*os.File{}, nil
}
