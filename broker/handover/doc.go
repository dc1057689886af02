// Package handover passes open files from a process to the one that takes its
// place: listeners, and both ends of every connection, so that a restart or an
// upgrade of the program ends nothing.
//
// There are two ways. Under systemd the old process leaves its files in the
// service manager's store (sd_pid_notify_with_fds(3), FDSTORE=1) and ends; the next
// one is started with them. Elsewhere the new process asks the old one for them over
// a Unix socket (SCM_RIGHTS). In both, State says what the files are; this package
// does not look at it.
package handover

import "os"

// Bundle is what is passed on.
type Bundle struct {
	// State describes Files in the sender's terms, at most MaxState bytes. It refers to
	// them by Inode, because systemd does not keep their order.
	State []byte
	// Files are the open files. Whoever holds the Bundle closes them.
	Files []*os.File
}

// Bounds of what is taken from another process.
const (
	// MaxState is the most bytes of State.
	MaxState = 256 << 20
	// MaxFiles is the most files: more than the descriptors that a process may have
	// by the usual limits.
	MaxFiles = 1 << 20
)

// Close closes all files of b.
func (b *Bundle) Close() {
	for _, f := range b.Files {
		_ = f.Close()
	}
	b.Files = nil
}
