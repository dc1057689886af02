package xrdp

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"
)

// newKey is a fresh key pair.
func newKey(t *testing.T) ssh.Signer {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return signer
}

// echo answers with the command and what came in.
func echo(command string, ch ssh.Channel) uint32 {
	io.WriteString(ch, command+"|")
	io.Copy(ch, ch)
	return 0
}

func shortly(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func TestSSHOneConnectionForAll(t *testing.T) {
	ctx, key := shortly(t), newKey(t)
	s := startSSHServer(t, echo, key)
	r := s.runner(t, nil, key)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if out, err := r.Run(ctx, "in", "sh", "-s", "it's"); err != nil || string(out) != `'sh' '-s' 'it'\''s'|in` {
				t.Errorf("%q, %v", out, err)
			}
		})
	}
	wg.Wait()
	if n := s.drop(); n != 1 {
		t.Errorf("%d connections, want 1", n)
	}
	// And one more after it broke, without an error.
	if _, err := r.Run(ctx, "", "x"); err != nil {
		t.Error(err)
	}
	if n := s.drop(); n != 2 {
		t.Errorf("%d connections, want 2", n)
	}
}

func TestSSHSudo(t *testing.T) {
	ctx, key := shortly(t), newKey(t)
	r := startSSHServer(t, echo, key).runner(t, func(c *SSHConfig) { c.Sudo = true }, key)
	if out, err := r.Run(ctx, "", "sh", "-s"); err != nil || string(out) != "'sudo' '-n' '--' 'sh' '-s'|" {
		t.Errorf("%q, %v", out, err)
	}
}

// TestSSHTakesTheKnownKey: the server has two keys, known_hosts only the one
// that clients like less.
func TestSSHTakesTheKnownKey(t *testing.T) {
	ctx, other := shortly(t), newKey(t)
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	known, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	s := startSSHServer(t, echo, other, known)
	if _, err := s.runner(t, nil, known).Run(ctx, "", "x"); err != nil {
		t.Error(err)
	}
}

func TestSSHFailures(t *testing.T) {
	ctx, key := shortly(t), newKey(t)
	release := make(chan struct{})
	s := startSSHServer(t, func(command string, ch ssh.Channel) uint32 {
		switch command {
		case "'fail'":
			io.WriteString(ch, "some\n")
			io.WriteString(ch.Stderr(), "oh dear")
			return 3
		case "'flood'":
			for {
				if _, err := ch.Write(make([]byte, 32<<10)); err != nil {
					return 1
				}
			}
		case "'hang'":
			io.WriteString(ch, "early\n")
			<-release
		}
		return 0
	}, key)
	defer close(release)
	r := s.runner(t, nil, key)

	if out, err := r.Run(ctx, "", "fail"); err == nil || !strings.Contains(err.Error(), "oh dear") || string(out) != "some\n" {
		t.Errorf("a failing command: %q, %v", out, err)
	}
	if _, err := r.Run(ctx, "", "flood"); !errors.Is(err, errTooMuch) {
		t.Errorf("a command that floods: %v", err)
	}
	if _, err := r.Run(ctx, "", "fine"); err != nil {
		t.Errorf("the next command: %v", err)
	}
	if n := s.drop(); n != 1 {
		t.Errorf("%d connections; commands that fail must not cost one", n)
	}
	short, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
	defer cancel()
	if _, err := r.Run(short, "", "hang"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a command that hangs: %v", err)
	}
	if _, err := r.Run(ctx, "", "fine"); err != nil {
		t.Errorf("the command after it: %v", err)
	}
}

// TestSSHSilentHost: a host that has gone without a word is noticed by its
// missing answers, while a command waits.
func TestSSHSilentHost(t *testing.T) {
	ctx, key := shortly(t), newKey(t)
	stopped := make(chan struct{})
	s := startSSHServer(t, func(string, ssh.Channel) uint32 { <-stopped; return 0 }, key)
	defer close(stopped)
	proxy := startTap(t, s.addr)
	r := s.runner(t, func(c *SSHConfig) { c.Addr, c.KeepAlive = proxy.addr, 100*time.Millisecond }, key)
	b, err := os.ReadFile(r.cfg.KnownHosts)
	if err != nil {
		t.Fatal(err)
	}
	known := strings.ReplaceAll(string(b), knownhosts.Normalize(s.addr), knownhosts.Normalize(proxy.addr))
	if err := os.WriteFile(r.cfg.KnownHosts, []byte(known), 0o600); err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(300*time.Millisecond, proxy.freeze)
	if _, err := r.Run(ctx, "", "x"); !errors.Is(err, errBroken) {
		t.Errorf("%v, want %v", err, errBroken)
	}
}

func TestSSHClosed(t *testing.T) {
	ctx, key := shortly(t), newKey(t)
	r := startSSHServer(t, echo, key).runner(t, nil, key)
	if _, err := r.Run(ctx, "", "x"); err != nil {
		t.Fatal(err)
	}
	r.Close()
	r.Close()
	if _, err := r.Run(ctx, "", "x"); !errors.Is(err, ErrClosed) {
		t.Errorf("%v, want %v", err, ErrClosed)
	}
}

func TestSSHNobodyThere(t *testing.T) {
	ctx, key := shortly(t), newKey(t)
	ln, err := net.Listen("tcp", "127.0.0.1:0") // takes connections, says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	s := &sshServer{addr: ln.Addr().String()}
	r := s.runner(t, func(c *SSHConfig) { c.DialTimeout = 200 * time.Millisecond }, key)
	if _, err := r.Run(ctx, "", "x"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v, want a deadline", err)
	}
}

func TestNewSSHRefuses(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	const locked = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nAAAA\n-----END RSA PRIVATE KEY-----\n"
	known, password := file("known_hosts", ""), file("password", "x\n")
	for _, tc := range []struct {
		name, want string
		cfg        SSHConfig
	}{
		{"no known_hosts", "no known_hosts", SSHConfig{PasswordFile: password}},
		{"missing known_hosts", "known_hosts: open", SSHConfig{PasswordFile: password, KnownHosts: dir + "/none"}},
		{"broken known_hosts", "known_hosts", SSHConfig{PasswordFile: password, KnownHosts: file("broken", "what is this\n")}},
		{"no credentials", "neither a key file", SSHConfig{KnownHosts: known}},
		{"missing key", "key file", SSHConfig{KnownHosts: known, KeyFile: dir + "/none"}},
		{"missing password", "password file", SSHConfig{KnownHosts: known, PasswordFile: dir + "/none"}},
		{"locked key", "passphrase", SSHConfig{KnownHosts: known, KeyFile: file("locked", locked)}},
	} {
		tc.cfg.Addr = "127.0.0.1"
		if _, err := NewSSH(tc.cfg, nil); err == nil || !strings.Contains(err.Error(), tc.want) || !strings.Contains(err.Error(), "127.0.0.1:22") {
			t.Errorf("%s: %v, want an error with %q", tc.name, err, tc.want)
		}
	}
}
