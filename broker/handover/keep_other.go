//go:build !unix

package handover

import (
	"errors"
	"os"
	"syscall"
)

// Kept is another descriptor of a socket. There is none on this system.
type Kept struct{}

// Keep fails.
func Keep(syscall.Conn) (*Kept, error) { return nil, errors.ErrUnsupported }

// File is nil.
func (*Kept) File() *os.File { return nil }

// Close does nothing.
func (*Kept) Close() error { return nil }
