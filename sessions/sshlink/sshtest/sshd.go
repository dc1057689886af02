package sshtest

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

// SSHD is a real OpenSSH server on this machine, for the user who runs the test.
type SSHD struct {
	// Addr is where it listens.
	Addr string
	// User is who may log on, KeyFile the private key to do so with.
	User, KeyFile string
	// KnownHosts is a known_hosts file with the server's first key.
	KnownHosts string

	dir, path string
	settings  string
	cmd       *exec.Cmd
	log       string
}

// StartSSHD starts an OpenSSH server, which ends with the test. settings are
// further lines of its sshd_config. Without sshd the test is skipped, but fails in
// continuous integration, where it must be there.
func StartSSHD(t testing.TB, settings string) *SSHD {
	t.Helper()
	path, err := exec.LookPath("sshd")
	if err != nil { // it is not in the PATH of everybody
		path, err = exec.LookPath("/usr/sbin/sshd")
	}
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("%v (deploy/install-test-peers.sh installs it)", err)
		}
		t.Skip(err)
	}
	who, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 { // sshd wants it, and its package makes it only at boot
		if err := os.MkdirAll("/run/sshd", 0o755); err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	s := &SSHD{
		Addr: freeAddr(t), User: who.Username, KeyFile: filepath.Join(dir, "id"),
		dir: dir, path: path, log: filepath.Join(dir, "log"),
	}
	mine := WriteKey(t, s.KeyFile)
	host, port, _ := net.SplitHostPort(s.Addr)
	s.settings = fmt.Sprintf("ListenAddress %s\nPort %s\nHostKey %s\nAuthorizedKeysFile %s\nPidFile none\nUsePAM no\nStrictModes no\n"+
		"PasswordAuthentication no\nPermitRootLogin yes\n%s\n",
		host, port, filepath.Join(dir, "host_key"), filepath.Join(dir, "authorized_keys"), settings)
	s.write(t, "authorized_keys", string(ssh.MarshalAuthorizedKey(mine.PublicKey())))
	s.KnownHosts = KnownHosts(t, s.Addr, WriteKey(t, filepath.Join(dir, "host_key")))
	s.start(t)
	t.Cleanup(func() { s.stop() })
	return s
}

// ChangeHostKey starts the server anew with another key. Connections that are open
// stay open.
func (s *SSHD) ChangeHostKey(t testing.TB) {
	t.Helper()
	s.stop()
	WriteKey(t, filepath.Join(s.dir, "host_key"))
	s.start(t)
}

// WriteKey makes a key pair and writes its private half to path.
func WriteKey(t testing.TB, path string) ssh.Signer {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(private, "sshtest")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return signer
}

func (s *SSHD) write(t testing.TB, name, text string) string {
	t.Helper()
	path := filepath.Join(s.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// start starts the server and waits until it answers as ssh.
func (s *SSHD) start(t testing.TB) {
	t.Helper()
	out, err := os.Create(s.log)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	s.cmd = exec.Command(s.path, "-D", "-e", "-f", s.write(t, "sshd_config", s.settings))
	s.cmd.Stdout, s.cmd.Stderr = out, out
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(20 * time.Second); !s.answers(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			said, _ := os.ReadFile(s.log)
			s.stop()
			t.Fatalf("sshd does not answer: %s", bytes.TrimSpace(said))
		}
	}
}

func (s *SSHD) answers() bool {
	c, err := net.DialTimeout("tcp", s.Addr, time.Second)
	if err != nil {
		return false
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(5 * time.Second))
	b := make([]byte, 4)
	n, _ := c.Read(b)
	return strings.HasPrefix(string(b[:n]), "SSH-")
}

// stop ends the listener. What serves a connection is a process of its own.
func (s *SSHD) stop() {
	s.cmd.Process.Kill()
	s.cmd.Wait()
}

// freeAddr is an address that nobody listens at.
func freeAddr(t testing.TB) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}
