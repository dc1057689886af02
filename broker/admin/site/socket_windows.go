package site

import (
	"errors"
	"io/fs"
	"net"
	"os"
)

// bind makes the socket. Who may open it is up to the folder's access list: mode
// bits mean nothing on Windows, and a socket in use cannot be renamed.
func bind(path string) (*net.UnixListener, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
}
