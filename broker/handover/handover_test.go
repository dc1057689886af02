//go:build linux

package handover

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// pairs are n connections: near is what is handed over, far stays.
func pairs(t *testing.T, n int) (near, far []*os.File) {
	t.Helper()
	for range n {
		fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			t.Fatal(err)
		}
		a, b := os.NewFile(uintptr(fds[0]), "near"), os.NewFile(uintptr(fds[1]), "far")
		t.Cleanup(func() { a.Close(); b.Close() })
		near, far = append(near, a), append(far, b)
	}
	return near, far
}

// ends are the two ends of a Unix socket.
func ends(t *testing.T) (a, b *net.UnixConn) {
	t.Helper()
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(t.TempDir(), "s"), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	a, err = net.DialUnix("unix", nil, ln.Addr().(*net.UnixAddr))
	if err != nil {
		t.Fatal(err)
	}
	b, err = ln.AcceptUnix()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close(); b.Close() })
	return a, b
}

// alive finds out that every file of got is the other end of one of far.
func alive(t *testing.T, got, far []*os.File) {
	t.Helper()
	if len(got) != len(far) {
		t.Fatalf("%d files came, want %d", len(got), len(far))
	}
	for i, f := range far {
		if _, err := f.WriteString(strconv.Itoa(i) + "\n"); err != nil {
			t.Fatal(err)
		}
	}
	seen := map[string]bool{}
	for _, f := range got {
		b := make([]byte, 16)
		_ = f.SetDeadline(time.Now().Add(10 * time.Second))
		n, err := f.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		seen[string(b[:n])] = true
	}
	if len(seen) != len(far) {
		t.Errorf("of %d connections %d answered", len(far), len(seen))
	}
}

func TestSocket(t *testing.T) {
	for _, n := range []int{0, 1, perMessage, perMessage + 1, 1000} {
		a, b := ends(t)
		near, far := pairs(t, n)
		state := bytes.Repeat([]byte("state "), 300_000)
		var sent error
		var wg sync.WaitGroup
		wg.Go(func() { sent = Send(a, Bundle{State: state, Files: near}) })
		got, err := Receive(b)
		if err != nil {
			t.Fatal(err)
		}
		if err := Confirm(b); err != nil {
			t.Fatal(err)
		}
		wg.Wait()
		if sent != nil {
			t.Fatal(sent)
		}
		if !bytes.Equal(got.State, state) {
			t.Errorf("%d files: another state came", n)
		}
		by, err := got.ByInode()
		if err != nil || len(by) != n {
			t.Errorf("%d inodes of %d files, %v", len(by), n, err)
		}
		for _, f := range near {
			ino, err := Inode(f)
			if err != nil || by[ino] == nil {
				t.Fatalf("a file came under another inode: %v", err)
			}
			_ = f.Close()
		}
		alive(t, got.Files, far)
		got.Close()
	}
}

// Whoever does not confirm has taken nothing over, and the sender learns of it.
func TestSocketWithoutConfirmation(t *testing.T) {
	a, b := ends(t)
	near, _ := pairs(t, 3)
	var wg sync.WaitGroup
	wg.Go(func() {
		got, err := Receive(b)
		if err != nil {
			t.Error(err)
		}
		got.Close()
		b.Close()
	})
	if err := Send(a, Bundle{State: []byte("x"), Files: near}); err == nil || !strings.Contains(err.Error(), "did not confirm") {
		t.Errorf("the sender was told %v", err)
	}
	wg.Wait()
}

func TestSocketFromSomebodyElse(t *testing.T) {
	for name, text := range map[string]string{
		"http":        "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
		"too much":    string(magic[:]) + "\xff\xff\xff\xff\xff\xff\xff\xff",
		"no files":    string(magic[:]) + "\x00\x00\x00\x01\x00\x00\x00\x02s\x01",
		"nothing":     "",
		"state ended": string(magic[:]) + "\x00\x00\xff\x01\x00\x00\x00\x00half",
	} {
		a, b := ends(t)
		if _, err := io.WriteString(a, text); err != nil {
			t.Fatal(err)
		}
		a.Close()
		if got, err := Receive(b); err == nil || len(got.Files) > 0 {
			t.Errorf("%s: taken for a handover: %v, %v", name, got, err)
		}
	}
}

// store is systemd's part: it keeps what is stored, by name.
type store struct {
	conn *net.UnixConn
	mu   sync.Mutex
	said []string
	kept map[string][]*os.File
}

func newStore(t *testing.T) (*store, Manager) {
	t.Helper()
	name := filepath.Join(t.TempDir(), "notify")
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	s := &store{conn: c, kept: map[string][]*os.File{}}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			text := make([]byte, 4096)
			n, files, err := receiveFiles(c, text)
			if err != nil {
				return
			}
			s.take(string(text[:n]), files)
		}
	})
	t.Cleanup(func() { c.Close(); wg.Wait() })
	return s, ManagerOf(func(key string) string { return map[string]string{"NOTIFY_SOCKET": name}[key] })
}

func (s *store) take(text string, files []*os.File) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var name string
	for _, line := range strings.Split(text, "\n") {
		if v, ok := strings.CutPrefix(line, "FDNAME="); ok {
			name = v
		}
	}
	switch {
	case strings.Contains(text, "BARRIER=1"):
		files[0].Close()
	case strings.Contains(text, "FDSTOREREMOVE=1"):
		for _, f := range s.kept[name] {
			f.Close()
		}
		delete(s.kept, name)
	case strings.Contains(text, "FDSTORE=1"):
		s.kept[name] = append(files, s.kept[name]...) // in another order, as systemd does
	default:
		s.said = append(s.said, text)
	}
}

func TestTheManagerKeepsEverythingUntilItIsForgotten(t *testing.T) {
	s, m := newStore(t)
	near, far := pairs(t, 600)
	if err := m.Notify("READY=1"); err != nil {
		t.Fatal(err)
	}
	if err := m.Store(Bundle{State: []byte("what it is"), Files: near}); err != nil {
		t.Fatal(err)
	}
	for _, f := range near {
		f.Close()
	}
	s.mu.Lock()
	if len(s.said) != 1 || s.said[0] != "READY=1" {
		t.Errorf("it was told %q", s.said)
	}
	if len(s.kept[nameState]) != 1 {
		t.Fatalf("%d states", len(s.kept[nameState]))
	}
	state := make([]byte, 100)
	n, err := s.kept[nameState][0].ReadAt(state, 0)
	if !errors.Is(err, io.EOF) || string(state[:n]) != "what it is" {
		t.Errorf("the state is %q, %v", state[:n], err)
	}
	alive(t, s.kept[nameFiles], far)
	s.mu.Unlock()

	if err := m.Forget(); err != nil {
		t.Fatal(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.kept) != 0 {
		t.Errorf("it still keeps %d kinds of files", len(s.kept))
	}
	for _, f := range far { // nobody holds the other end any more
		_ = f.SetDeadline(time.Now().Add(10 * time.Second))
		if _, err := f.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Fatalf("a connection that nobody holds has not ended: %v", err)
		}
	}
}

func TestWithoutAManager(t *testing.T) {
	m := ManagerOf(func(string) string { return "" })
	if m.There() {
		t.Error("there is none")
	}
	if err := errors.Join(m.Notify("READY=1"), m.Forget()); err != nil {
		t.Error(err)
	}
	if err := m.Store(Bundle{}); err == nil {
		t.Error("nothing has kept it")
	}
	for _, env := range []map[string]string{
		{}, {"LISTEN_PID": "1", "LISTEN_FDS": "3"}, {"LISTEN_PID": "77", "LISTEN_FDS": "many"}, {"LISTEN_PID": "77", "LISTEN_FDS": "-1"},
	} {
		if _, ok, err := Stored(func(k string) string { return env[k] }, 77); ok || err != nil {
			t.Errorf("%v: %v, %v", env, ok, err)
		}
	}
}
