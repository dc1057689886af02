//go:build unix

package handover

import (
	"errors"
	"net"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// perMessage is how many descriptors go with one message: Linux takes 253
// (SCM_MAX_FD in net/scm.h).
const perMessage = 250

// sendFiles sends text with files as one message.
func sendFiles(c *net.UnixConn, text []byte, files []*os.File) error {
	fds := make([]int, len(files))
	for i, f := range files {
		// Fd would set the description to blocking mode, for the other process too.
		raw, err := f.SyscallConn()
		if err != nil {
			return err
		}
		if err := raw.Control(func(fd uintptr) { fds[i] = int(fd) }); err != nil {
			return err
		}
	}
	var rights []byte
	if len(fds) > 0 {
		rights = unix.UnixRights(fds...)
	}
	// Not WriteMsgUnix, which refuses connected datagram sockets.
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var sent error
	err = raw.Write(func(fd uintptr) (done bool) {
		sent = unix.Sendmsg(int(fd), text, rights, nil, 0)
		return !errors.Is(sent, unix.EAGAIN)
	})
	runtime.KeepAlive(files)
	return errors.Join(err, sent)
}

// receiveFiles reads into text one message, and returns the files that came with it.
func receiveFiles(c *net.UnixConn, text []byte) (n int, files []*os.File, err error) {
	control := make([]byte, unix.CmsgSpace(perMessage*4))
	n, cn, _, _, err := c.ReadMsgUnix(text, control)
	if err != nil {
		return n, nil, err
	}
	messages, err := unix.ParseSocketControlMessage(control[:cn])
	if err != nil {
		return n, nil, err
	}
	for _, m := range messages {
		fds, err := unix.ParseUnixRights(&m)
		if err != nil {
			continue // something else that the system tells
		}
		for _, fd := range fds {
			unix.CloseOnExec(fd)
			files = append(files, os.NewFile(uintptr(fd), "handed over"))
		}
	}
	return n, files, nil
}
