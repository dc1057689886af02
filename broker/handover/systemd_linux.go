package handover

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Names of what lies in the store (FDNAME=). Letters and dashes only: systemd takes
// no colon.
const (
	nameFiles = "rdpbroker-files"
	nameState = "rdpbroker-state"
)

// Manager is systemd, as the environment of a service tells how to reach it. Its zero
// value is no manager: nothing can be stored, and telling it something does nothing.
type Manager struct {
	notify string // NOTIFY_SOCKET
}

// ManagerOf is the manager that env, a function such as os.Getenv, tells of.
func ManagerOf(env func(string) string) Manager { return Manager{notify: env("NOTIFY_SOCKET")} }

// There reports whether there is a manager.
func (m Manager) There() bool { return m.notify != "" }

// Notify tells the manager something, such as "READY=1" (sd_notify(3)).
func (m Manager) Notify(what string) error {
	if !m.There() {
		return nil
	}
	return m.send(what, nil)
}

func (m Manager) send(text string, files []*os.File) error {
	name := m.notify
	if strings.HasPrefix(name, "@") { // an abstract one
		name = "\x00" + name[1:]
	}
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		return fmt.Errorf("telling the service manager: %w", err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	if err := sendFiles(c, []byte(text), files); err != nil {
		return fmt.Errorf("telling the service manager: %w", err)
	}
	return nil
}

// Store leaves b with the manager, for the next start of this service. The files
// stay open there even when this process ends; b is still the caller's to close. The
// manager keeps as many as FileDescriptorStoreMax= says and drops the rest without a
// word, so the unit has to allow enough.
func (m Manager) Store(b Bundle) error {
	if !m.There() {
		return errors.New("there is no service manager")
	}
	state, err := memoryFile(b.State)
	if err != nil {
		return err
	}
	defer state.Close()
	// FDPOLL=0: a connection whose end has come while nobody looks is not to vanish
	// from the store; its last bytes may still have to be passed on.
	for rest := b.Files; len(rest) > 0; {
		some := rest[:min(len(rest), perMessage)]
		if err := m.send("FDSTORE=1\nFDPOLL=0\nFDNAME="+nameFiles, some); err != nil {
			return err
		}
		rest = rest[len(some):]
	}
	if err := m.send("FDSTORE=1\nFDPOLL=0\nFDNAME="+nameState, []*os.File{state}); err != nil {
		return err
	}
	return m.barrier()
}

// barrier waits until the manager has read everything that was sent before
// (sd_notify_barrier(3)): what this process sends and then ends may be lost otherwise.
func (m Manager) barrier() error {
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	err = m.send("BARRIER=1", []*os.File{w})
	_ = w.Close() // the manager has the other one, and closes it in its turn
	if err != nil {
		return err
	}
	_ = r.SetReadDeadline(time.Now().Add(patience))
	if _, err := r.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		return fmt.Errorf("the service manager does not answer: %w", err)
	}
	return nil
}

// firstPassed is the first descriptor that a manager passes (SD_LISTEN_FDS_START).
const firstPassed = 3

// Stored is what an earlier process has left with Store; ok is false if nothing is
// there. env and pid are os.Getenv and os.Getpid; the caller unsets LISTEN_PID,
// LISTEN_FDS and LISTEN_FDNAMES, so that children do not take it for theirs. It may be
// called once: the descriptors become the Bundle's.
func Stored(env func(string) string, pid int) (b Bundle, ok bool, err error) {
	if env("LISTEN_PID") != strconv.Itoa(pid) {
		return b, false, nil
	}
	n, err := strconv.Atoi(env("LISTEN_FDS"))
	if err != nil || n < 1 || n > MaxFiles {
		return b, false, nil
	}
	names := strings.Split(env("LISTEN_FDNAMES"), ":")
	var state *os.File
	for i := range n {
		unix.CloseOnExec(firstPassed + i)
		f := os.NewFile(uintptr(firstPassed+i), "handed over")
		switch {
		case i < len(names) && names[i] == nameState && state == nil:
			state = f
		case i < len(names) && names[i] == nameFiles:
			b.Files = append(b.Files, f)
		default:
			_ = f.Close() // not ours: a socket unit, or something left of an older state
		}
	}
	if state == nil {
		b.Close()
		return b, false, nil
	}
	defer state.Close()
	if _, err := state.Seek(0, io.SeekStart); err != nil {
		b.Close()
		return b, false, fmt.Errorf("what the last process has left: %w", err)
	}
	b.State, err = io.ReadAll(io.LimitReader(state, MaxState+1))
	if err == nil && len(b.State) > MaxState {
		err = errors.New("too large")
	}
	if err != nil {
		b.Close()
		return b, false, fmt.Errorf("what the last process has left: %w", err)
	}
	return b, true, nil
}

// Forget removes everything from the store. As long as the manager holds a socket
// too, closing ours does not end the connection, so this is done as soon as the
// files have been taken over.
func (m Manager) Forget() error {
	if !m.There() {
		return nil
	}
	return errors.Join(m.send("FDSTOREREMOVE=1\nFDNAME="+nameFiles, nil), m.send("FDSTOREREMOVE=1\nFDNAME="+nameState, nil), m.barrier())
}

// memoryFile is an open file with b in it that no file system shows.
func memoryFile(b []byte) (*os.File, error) {
	fd, err := unix.MemfdCreate(nameState, unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("memfd_create: %w", err)
	}
	f := os.NewFile(uintptr(fd), nameState)
	if _, err := f.Write(b); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("writing the state: %w", err)
	}
	return f, nil
}
