package site

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/rdpbroker/rdpbroker/broker/admin"
)

const (
	folderMode = 0o750
	// probeTimeout bounds the look whether somebody answers at a socket.
	probeTimeout = time.Second
)

// ListenUnix listens on a Unix socket at path, which its owner and group may
// open. The folder is made if only that is missing. A socket that a broker left
// behind is replaced, but not one at which somebody answers, and nothing that
// is no socket. Closing the listener removes the socket.
func ListenUnix(path string) (net.Listener, error) {
	if err := os.Mkdir(filepath.Dir(path), folderMode); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("listening on %s: %w", path, err)
	}
	if err := vacant(path); err != nil {
		return nil, fmt.Errorf("listening on %s: %w", path, err)
	}
	ln, err := bind(path)
	if err != nil {
		return nil, fmt.Errorf("listening on %s: %w", path, err)
	}
	ln.SetUnlinkOnClose(false) // unixListener sees to that
	info, err := os.Lstat(path)
	if err != nil {
		_ = ln.Close()
		return nil, fmt.Errorf("listening on %s: %w", path, err)
	}
	return &unixListener{UnixListener: ln, path: path, info: info}, nil
}

// vacant reports, by a nil error, that path may become our socket.
func vacant(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode()&fs.ModeSocket == 0 {
		return errors.New("there is a file of this name that is no socket")
	}
	ctx, cancel := context.WithTimeout(context.Background(), probeTimeout)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", path)
	if err == nil {
		_ = conn.Close()
		return errors.New("another program answers there already")
	}
	if !errors.Is(err, admin.ErrRefused) && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("it cannot be told whether another program answers there: %w", err)
	}
	return nil
}

// unixListener removes its socket when it is closed, unless another one has
// taken the name.
type unixListener struct {
	*net.UnixListener
	path string
	info fs.FileInfo
	once sync.Once
}

func (l *unixListener) Addr() net.Addr { return &net.UnixAddr{Name: l.path, Net: "unix"} }

func (l *unixListener) Close() error {
	l.once.Do(func() {
		if now, err := os.Lstat(l.path); err == nil && os.SameFile(now, l.info) {
			_ = os.Remove(l.path) // if it cannot be, the next start does it
		}
	})
	return l.UnixListener.Close()
}
