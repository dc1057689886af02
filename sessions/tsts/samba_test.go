package tsts

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	osuser "os/user"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rdpbroker/rdpbroker/sessions"
)

// samba runs an smbd of its own whose pipes lead to the fake host, and returns
// the address of its SMB port. The account of smbHost may log on to it.
func samba(t *testing.T, f *fakeHost, pipes ...string) string {
	t.Helper()
	for _, tool := range []string{"smbd", "smbpasswd"} {
		if _, err := exec.LookPath(tool); err != nil {
			if os.Getenv("CI") == "true" {
				t.Fatal(err)
			}
			t.Skipf("the pipes are not tested over SMB: %v", err)
		}
	}
	if os.Geteuid() != 0 {
		t.Skip("smbd must be started by root")
	}
	dir, err := os.MkdirTemp("", "smb") // t.TempDir is too long for a socket's name
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	port := freePort(t)
	var conf strings.Builder
	fmt.Fprintf(&conf, "[global]\nworkgroup = CONTOSO\nnetbios name = HOST\nserver role = standalone\nsmb ports = %d\n", port)
	fmt.Fprintf(&conf, "interfaces = 127.0.0.1\nbind interfaces only = yes\nserver signing = mandatory\ndisable spoolss = yes\nload printers = no\n")
	fmt.Fprintf(&conf, "rpc start on demand helpers = no\npassdb backend = smbpasswd:%s/passwd\nlog file = %s/log\nlog level = 2\n", dir, dir)
	for key, sub := range map[string]string{"private dir": "private", "lock directory": "lock", "state directory": "state",
		"cache directory": "cache", "pid directory": "pid", "ncalrpc dir": "rpc"} {
		fmt.Fprintf(&conf, "%s = %s\n", key, filepath.Join(dir, sub))
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(dir, "smb.conf")
	if err := os.WriteFile(file, []byte(conf.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	add := exec.Command("smbpasswd", "-c", file, "-s", "-a", smbUser())
	add.Stdin = strings.NewReader(password + "\n" + password + "\n")
	if out, err := add.CombinedOutput(); err != nil {
		t.Fatalf("smbpasswd: %v: %s", err, out)
	}
	np := filepath.Join(dir, "rpc", "np")
	if err := os.MkdirAll(np, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range pipes {
		bridge(t, filepath.Join(np, strings.ToLower(name)), f.addr)
	}
	smbd := exec.Command("smbd", "-F", "--no-process-group", "-s", file)
	if err := smbd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		smbd.Process.Signal(os.Interrupt)
		stop := time.AfterFunc(5*time.Second, func() { smbd.Process.Kill() })
		smbd.Wait()
		stop.Stop()
		if log, err := os.ReadFile(filepath.Join(dir, "log")); err == nil && t.Failed() {
			t.Logf("smbd: %s", log)
		}
	})
	addr := fmt.Sprintf("127.0.0.1:%d", port)
	waitFor(t, func() bool { return listens(addr) })
	return addr
}

func listens(addr string) bool {
	c, err := net.Dial("tcp", addr)
	if err == nil {
		c.Close()
	}
	return err == nil
}

// smbUser is who smbd lets in: it wants its users to be the system's.
func smbUser() string {
	me, err := osuser.Current()
	if err != nil {
		return ""
	}
	return me.Username
}

// smbHost lets the same account call as may log on to smbd.
func smbHost(f *fakeHost) { f.User = `CONTOSO\` + smbUser() }

func freePort(t *testing.T) int {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().(*net.TCPAddr).Port
}

// bridge listens where smbd looks for the server of a pipe and passes the pipe's
// messages on to addr. smbd says first who the client is, in a structure of its
// own (named_pipe_auth_req of Samba's named_pipe_auth.idl), and then puts the
// length before each message.
func bridge(t *testing.T, path, addr string) {
	t.Helper()
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background())
	all.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer c.Close()
				defer context.AfterFunc(ctx, func() { c.Close() })()
				if err := bridgeOne(c, addr); err != nil && !errors.Is(err, io.EOF) && ctx.Err() == nil {
					t.Logf("bridge of %s: %v", filepath.Base(path), err)
				}
			})
		}
	})
	t.Cleanup(func() { cancel(); ln.Close(); all.Wait() })
}

func bridgeOne(c net.Conn, addr string) error {
	var size [4]byte
	if _, err := io.ReadFull(c, size[:]); err != nil {
		return err
	}
	req := make([]byte, binary.BigEndian.Uint32(size[:]))
	if _, err := io.ReadFull(c, req); err != nil {
		return err
	}
	if len(req) < 8 || string(req[:4]) != "NPAM" {
		return fmt.Errorf("not the request of a pipe: %q", req[:min(8, len(req))])
	}
	le := binary.LittleEndian
	level := le.Uint32(req[4:])
	rep := append([]byte{0, 0, 0, 32}, "NPAM"...)
	rep = le.AppendUint32(rep, level)
	rep = le.AppendUint32(rep, level)
	rep = append(rep, 2, 0, 0xff, 0x05, 0, 0, 0, 0) // a message mode pipe
	rep = le.AppendUint64(rep, 4096)
	rep = le.AppendUint32(rep, 0) // STATUS_SUCCESS
	if _, err := c.Write(rep); err != nil {
		return err
	}
	up, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	var back sync.WaitGroup
	defer back.Wait()
	defer up.Close()
	back.Go(func() { // each packet is a message
		defer c.Close()
		for {
			head := make([]byte, 16)
			if _, err := io.ReadFull(up, head); err != nil {
				return
			}
			pkt := append(head, make([]byte, int(le.Uint16(head[8:]))-16)...)
			if _, err := io.ReadFull(up, pkt[16:]); err != nil {
				return
			}
			if _, err := c.Write(append(le.AppendUint16(nil, uint16(len(pkt))), pkt...)); err != nil {
				return
			}
		}
	})
	for {
		var n [2]byte
		if _, err := io.ReadFull(c, n[:]); err != nil {
			return err
		}
		if _, err := io.CopyN(up, c, int64(le.Uint16(n[:]))); err != nil {
			return err
		}
	}
}

// overSMB is a driver that reaches the fake host through a real SMB server.
func overSMB(t *testing.T, f *fakeHost, pipes []string, edit ...func(*Config)) *Driver {
	addr := samba(t, f, pipes...)
	return f.driver(t, append([]func(*Config){func(c *Config) { c.Addr, c.User = addr, f.User }}, edit...)...)
}

func TestOverSMB(t *testing.T) {
	f := newHost(t, smbHost)
	d := overSMB(t, f, []string{pipeLSM, pipeLegacy}, func(c *Config) { c.Poll = time.Hour })
	w := watch(t, d)
	r := w.next(t)
	if len(r.Sessions) != 5 || r.NoEvict != "" {
		t.Fatalf("got %+v", r)
	}
	waitFor(t, func() bool { return f.count("Wait") > 0 })
	f.notify() // the waiting read on the pipe wakes up
	w.next(t)
	if err := d.Evict(within(t), host, victim()); err != nil {
		t.Fatal(err)
	}
	d.Refresh()
	w.until(t, func(r sessions.Report) bool { return len(r.Sessions) == 4 })
	w.cancel()
	if err := <-w.err; !errors.Is(err, context.Canceled) {
		t.Errorf("Watch ended with %v", err)
	}
	waitFor(t, func() bool { return f.Connections() == 0 })
}

// A host without the pipe of the session manager is spoken to by the other.
func TestOverSMBLegacy(t *testing.T) {
	f := newHost(t, smbHost)
	d := overSMB(t, f, []string{pipeLegacy})
	if r := watch(t, d).next(t); len(r.Sessions) != 5 || r.NoEvict != "" {
		t.Errorf("got %+v", r)
	}
	if f.count("OpenEnum") != 0 || f.count("Enumerate") == 0 {
		t.Errorf("calls: %v", f.calls)
	}
}

func TestOverSMBWrongPassword(t *testing.T) {
	f := newHost(t, smbHost)
	d := overSMB(t, f, []string{pipeLSM}, func(c *Config) { c.Password = func() (string, error) { return "wrong", nil } })
	var auth *AuthError
	if err := watch(t, d).ended(t); !errors.As(err, &auth) || !strings.Contains(auth.Reason, "wrong password") {
		t.Errorf("got %v", err)
	}
	if binds, _, _ := f.Counts(); binds != 0 {
		t.Error("it went on to the pipe")
	}
}

// A pipe that hangs ends with its time, and leaves nothing behind.
func TestOverSMBBlackHole(t *testing.T) {
	f := newHost(t, smbHost, func(f *fakeHost) { f.hang["GetEnumResult"] = true })
	d := overSMB(t, f, []string{pipeLSM}, func(c *Config) { c.Timeout = time.Second })
	if err := watch(t, d).ended(t); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}
