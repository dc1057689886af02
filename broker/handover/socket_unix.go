//go:build unix

package handover

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"time"
)

// patience bounds each step of a handover: both processes are on this machine.
const patience = 10 * time.Second

// header stands before State: a magic word with the version of this form, then the
// length of State and the number of files, in network order.
type header struct {
	Magic        [8]byte
	State, Files uint32
}

var magic = [8]byte{'r', 'd', 'p', 'b', 'r', 'k', 'h', '1'}

// Send passes b to the process at the other end of c. The caller closes c, and b's
// files: they stay open here until the receiver has confirmed, which is when Send
// returns nil. After an error the receiver has not taken over.
func Send(c *net.UnixConn, b Bundle) error {
	if len(b.State) > MaxState || len(b.Files) > MaxFiles {
		return fmt.Errorf("too much to hand over: %d bytes, %d files", len(b.State), len(b.Files))
	}
	_ = c.SetDeadline(time.Now().Add(patience)) // on failure so do the writes
	h := header{magic, uint32(len(b.State)), uint32(len(b.Files))}
	if err := binary.Write(c, binary.BigEndian, h); err != nil {
		return fmt.Errorf("handing over: %w", err)
	}
	for rest := b.State; len(rest) > 0; {
		_ = c.SetDeadline(time.Now().Add(patience))
		piece := rest[:min(len(rest), 1<<20)]
		if _, err := c.Write(piece); err != nil {
			return fmt.Errorf("handing over the state: %w", err)
		}
		rest = rest[len(piece):]
	}
	for rest := b.Files; len(rest) > 0; {
		_ = c.SetDeadline(time.Now().Add(patience))
		some := rest[:min(len(rest), perMessage)]
		if err := sendFiles(c, []byte{byte(len(some))}, some); err != nil {
			return fmt.Errorf("handing over %d files: %w", len(b.Files), err)
		}
		rest = rest[len(some):]
	}
	_ = c.SetDeadline(time.Now().Add(patience))
	var yes [1]byte
	if _, err := io.ReadFull(c, yes[:]); err != nil {
		return fmt.Errorf("the other process did not confirm: %w", err)
	}
	return nil
}

// Receive takes what Send sends. The files are the caller's to close. Nothing is
// taken over before Confirm; if the caller closes c before, the sender goes on.
func Receive(c *net.UnixConn) (b Bundle, err error) {
	defer func() {
		if err != nil {
			b.Close()
		}
	}()
	_ = c.SetDeadline(time.Now().Add(patience))
	var h header
	if err := binary.Read(c, binary.BigEndian, &h); err != nil {
		return b, fmt.Errorf("taking over: %w", err)
	}
	if h.Magic != magic {
		return b, errors.New("taking over: the other process is no rdpbroker, or one of another form")
	}
	if h.State > MaxState || h.Files > MaxFiles {
		return b, fmt.Errorf("taking over: too much is offered: %d bytes, %d files", h.State, h.Files)
	}
	for have := uint32(0); have < h.State; have = uint32(len(b.State)) {
		_ = c.SetDeadline(time.Now().Add(patience))
		piece := make([]byte, min(h.State-have, 1<<20)) // nothing is allocated for what does not come
		if _, err := io.ReadFull(c, piece); err != nil {
			return b, fmt.Errorf("taking over the state: %w", err)
		}
		b.State = append(b.State, piece...)
	}
	for uint32(len(b.Files)) < h.Files {
		_ = c.SetDeadline(time.Now().Add(patience))
		var count [1]byte
		n, files, err := receiveFiles(c, count[:])
		b.Files = append(b.Files, files...)
		if err != nil {
			return b, fmt.Errorf("taking over files: %w", err)
		}
		if n == 0 || len(files) != int(count[0]) || len(files) == 0 {
			return b, fmt.Errorf("taking over files: %d came of %d (too few descriptors?)", len(b.Files), h.Files)
		}
	}
	if uint32(len(b.Files)) != h.Files {
		return b, fmt.Errorf("taking over files: %d came of %d", len(b.Files), h.Files)
	}
	return b, nil
}

// Confirm tells the sender that everything has been taken over.
func Confirm(c *net.UnixConn) error {
	_ = c.SetDeadline(time.Now().Add(patience))
	if _, err := c.Write([]byte{1}); err != nil {
		return fmt.Errorf("confirming: %w", err)
	}
	return nil
}

// TakeFrom asks the process that listens at path for everything it has, and returns
// when that process has ended: its files, its locks, its addresses are free then. ok
// is false if nobody listens there.
func TakeFrom(path string) (b Bundle, ok bool, err error) {
	c, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
		return b, false, nil
	}
	if err != nil {
		return b, false, fmt.Errorf("taking over: %w", err)
	}
	defer c.Close()
	if b, err = Receive(c); err != nil {
		return b, false, err
	}
	if err := Confirm(c); err != nil {
		b.Close()
		return b, false, err
	}
	// The other end closes with its process.
	_ = c.SetDeadline(time.Now().Add(patience))
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) {
		b.Close()
		return b, false, fmt.Errorf("taking over: the old process does not end: %w", err)
	}
	return b, true, nil
}
