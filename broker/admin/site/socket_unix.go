//go:build !windows

package site

import (
	"errors"
	"io/fs"
	"net"
	"os"
)

const socketMode = 0o660

// bind makes the socket. It gets its mode before it gets its name: under that
// name nobody else could ever have opened it.
func bind(path string) (*net.UnixListener, error) {
	hidden := path + ".new"
	if err := os.Remove(hidden); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: hidden, Net: "unix"})
	if err != nil {
		return nil, err
	}
	ln.SetUnlinkOnClose(false)
	err = os.Chmod(hidden, socketMode)
	if err == nil {
		err = os.Rename(hidden, path)
	}
	if err != nil {
		_ = ln.Close()
		_ = os.Remove(hidden)
		return nil, err
	}
	return ln, nil
}
