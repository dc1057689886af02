package xrdp

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"encoding/pem"
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

// sshServer is an ssh server whose commands are run by a function. It tells of
// what sshd cannot be made to do.
type sshServer struct {
	addr string
	conf *ssh.ServerConfig
	run  func(command string, ch ssh.Channel) (status uint32)

	mu    sync.Mutex
	conns []net.Conn
	wg    sync.WaitGroup
}

func startSSHServer(t *testing.T, run func(string, ssh.Channel) uint32, keys ...ssh.Signer) *sshServer {
	t.Helper()
	s := &sshServer{run: run, conf: &ssh.ServerConfig{
		PasswordCallback: func(c ssh.ConnMetadata, password []byte) (*ssh.Permissions, error) {
			if c.User() == "root" && string(password) == "secret" {
				return nil, nil
			}
			return nil, errors.New("no")
		},
	}}
	for _, k := range keys {
		s.conf.AddHostKey(k)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.addr = ln.Addr().String()
	s.wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			s.mu.Lock()
			s.conns = append(s.conns, c)
			s.mu.Unlock()
			s.wg.Go(func() { s.serve(c) })
		}
	})
	t.Cleanup(func() {
		ln.Close()
		s.drop()
		s.wg.Wait()
	})
	return s
}

func (s *sshServer) serve(c net.Conn) {
	defer c.Close()
	_, chans, reqs, err := ssh.NewServerConn(c, s.conf)
	if err != nil {
		return
	}
	s.wg.Go(func() { ssh.DiscardRequests(reqs) })
	for nc := range chans {
		ch, reqs, err := nc.Accept()
		if err != nil {
			return
		}
		s.wg.Go(func() {
			for req := range reqs {
				var exec struct{ Command string }
				if req.Type != "exec" || ssh.Unmarshal(req.Payload, &exec) != nil {
					req.Reply(false, nil)
					continue
				}
				req.Reply(true, nil)
				s.wg.Go(func() {
					defer ch.Close()
					status := s.run(exec.Command, ch)
					ch.SendRequest("exit-status", false, ssh.Marshal(struct{ Status uint32 }{status}))
				})
			}
		})
	}
}

// drop closes all connections and returns how many there have been.
func (s *sshServer) drop() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.conns {
		c.Close()
	}
	return len(s.conns)
}

// runner is an SSH for the server, which known_hosts knows by these keys.
func (s *sshServer) runner(t *testing.T, change func(*SSHConfig), keys ...ssh.Signer) *SSH {
	t.Helper()
	dir := t.TempDir()
	cfg := SSHConfig{Addr: s.addr, PasswordFile: filepath.Join(dir, "password"), KnownHosts: filepath.Join(dir, "known_hosts")}
	var lines strings.Builder
	for _, k := range keys {
		lines.WriteString(knownhosts.Line([]string{s.addr}, k.PublicKey()) + "\n")
	}
	for path, text := range map[string]string{cfg.PasswordFile: "secret\n", cfg.KnownHosts: lines.String()} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if change != nil {
		change(&cfg)
	}
	r, err := NewSSH(cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
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

// tap passes bytes to a server until it is frozen; then it swallows them.
type tap struct {
	addr   string
	frozen chan struct{}
	once   sync.Once
}

func (p *tap) freeze() { p.once.Do(func() { close(p.frozen) }) }

func startTap(t *testing.T, to string) *tap {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &tap{addr: ln.Addr().String(), frozen: make(chan struct{})}
	var wg sync.WaitGroup
	wg.Go(func() {
		client, err := ln.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", to)
		if err != nil {
			client.Close()
			return
		}
		for from, to := range map[net.Conn]net.Conn{client: server, server: client} {
			wg.Go(func() {
				buf := make([]byte, 32<<10)
				for {
					n, err := from.Read(buf)
					select {
					case <-p.frozen:
						to = nopConn{to}
					default:
					}
					if err != nil {
						to.Close()
						return
					}
					to.Write(buf[:n])
				}
			})
		}
	})
	t.Cleanup(func() { ln.Close(); wg.Wait() })
	return p
}

// nopConn swallows what is written.
type nopConn struct{ net.Conn }

func (nopConn) Write(b []byte) (int, error) { return len(b), nil }

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
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKeyWithPassphrase(private, "", []byte("hidden"))
	if err != nil {
		t.Fatal(err)
	}
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
		{"locked key", "passphrase", SSHConfig{KnownHosts: known, KeyFile: file("locked", string(pem.EncodeToMemory(block)))}},
	} {
		tc.cfg.Addr = "127.0.0.1"
		if _, err := NewSSH(tc.cfg, nil); err == nil || !strings.Contains(err.Error(), tc.want) || !strings.Contains(err.Error(), "127.0.0.1:22") {
			t.Errorf("%s: %v, want an error with %q", tc.name, err, tc.want)
		}
	}
}
