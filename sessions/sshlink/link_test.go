package sshlink

import (
	"context"
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

	"go.uber.org/goleak"
	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"github.com/rdpbroker/rdpbroker/sessions/lockout"
	"github.com/rdpbroker/rdpbroker/sessions/sshlink/sshtest"
)

// echo answers with the command and what came in.
func echo(command string, ch ssh.Channel) uint32 {
	io.WriteString(ch, command+"|")
	io.Copy(ch, ch)
	return 0
}

func password(p string) func() (string, error) { return func() (string, error) { return p, nil } }

// newLink is a link to the server, which known_hosts knows by these keys.
func newLink(t *testing.T, addr string, change func(*Config), keys ...ssh.Signer) *Link {
	t.Helper()
	cfg := Config{Addr: addr, User: sshtest.User, Password: password(sshtest.Password), KnownHosts: sshtest.KnownHosts(t, addr, keys...)}
	if change != nil {
		change(&cfg)
	}
	l, err := New(cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// run runs a command on the kept connection.
func run(ctx context.Context, l *Link, command string) (string, error) {
	s, err := l.Session(ctx)
	if err != nil {
		return "", err
	}
	defer s.Close()
	out, err := s.Output(command)
	return string(out), err
}

func shortly(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func TestOneConnectionIsKept(t *testing.T) {
	leaks := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, leaks) })
	ctx, key := shortly(t), sshtest.NewKey(t)
	s := sshtest.Start(t, echo, key)
	l := newLink(t, s.Addr, nil, key)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if out, err := run(ctx, l, "x"); err != nil || out != "x|" {
				t.Errorf("%q, %v", out, err)
			}
		})
	}
	wg.Wait()
	if n := s.Drop(); n != 1 {
		t.Errorf("%d connections, want 1", n)
	}
	// And one more after it broke, without an error.
	if _, err := run(ctx, l, "x"); err != nil {
		t.Error(err)
	}
	if n := s.Drop(); n != 2 {
		t.Errorf("%d connections, want 2", n)
	}
}

func TestDroppedConnectionIsMadeAnew(t *testing.T) {
	ctx, key := shortly(t), sshtest.NewKey(t)
	s := sshtest.Start(t, echo, key)
	l := newLink(t, s.Addr, nil, key)
	sess, err := l.Session(ctx)
	if err != nil {
		t.Fatal(err)
	}
	sess.Drop()
	sess.Drop()
	if _, err := run(ctx, l, "x"); err != nil {
		t.Error(err)
	}
	if n := s.Drop(); n != 2 {
		t.Errorf("%d connections, want 2", n)
	}
}

func TestConnectionsOfOnesOwn(t *testing.T) {
	ctx, key := shortly(t), sshtest.NewKey(t)
	s := sshtest.Start(t, echo, key)
	l := newLink(t, s.Addr, nil, key)
	a, err := l.Connect(ctx)
	if err != nil {
		t.Fatal(err)
	}
	b, err := l.Connect(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	a.Close()
	a.Close()
	if a.Alive() || !b.Alive() {
		t.Errorf("alive: %v and %v", a.Alive(), b.Alive())
	}
	if sess, err := b.Session(ctx); err != nil {
		t.Error(err)
	} else if out, err := sess.Output("x"); err != nil || string(out) != "x|" {
		t.Errorf("%q, %v", out, err)
	}
}

// The server has two keys, known_hosts only the one that clients like less.
func TestTheKnownKeyIsAskedFor(t *testing.T) {
	ctx, other := shortly(t), sshtest.NewKey(t)
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	known, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	s := sshtest.Start(t, echo, other, known)
	if _, err := run(ctx, newLink(t, s.Addr, nil, known), "x"); err != nil {
		t.Error(err)
	}
}

func TestHostsThatAreNotTalkedTo(t *testing.T) {
	ctx, key := shortly(t), sshtest.NewKey(t)
	s := sshtest.Start(t, echo, key)
	for _, c := range []struct {
		name, want string
		keys       []ssh.Signer
	}{
		{"another key", "another key", []ssh.Signer{sshtest.NewKey(t)}},
		{"no key", "no key of the host", nil},
	} {
		_, err := run(ctx, newLink(t, s.Addr, nil, c.keys...), "x")
		var key *knownhosts.KeyError
		var auth *AuthError
		if !errors.As(err, &key) || errors.As(err, &auth) || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), s.Addr) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	if s.Refused.Load() != 0 {
		t.Error("the password was told to a host that is not the right one")
	}
}

// A wrong password goes over once, and then not again until it is another one,
// Refresh was called, or the time is over.
func TestRefusedPasswordIsKeptBack(t *testing.T) {
	ctx, key := shortly(t), sshtest.NewKey(t)
	s := sshtest.Start(t, echo, key)
	var mu sync.Mutex
	word := "guess"
	l := newLink(t, s.Addr, func(c *Config) {
		c.Password = func() (string, error) {
			mu.Lock()
			defer mu.Unlock()
			return word, nil
		}
	}, key)
	now := time.Now()
	l.gate.Gate = lockout.New[fingerprint](func() time.Time { return now })
	try := func(what string, tries int64) {
		t.Helper()
		_, err := l.Connect(ctx)
		var auth *AuthError
		if !errors.As(err, &auth) || auth.RetryAfter() <= 0 || auth.Addr != s.Addr || !strings.Contains(err.Error(), "user root was not let in") {
			t.Errorf("%s: %v", what, err)
		}
		if n := s.Refused.Load(); n != tries {
			t.Errorf("%s: %d passwords were refused, want %d", what, n, tries)
		}
	}
	try("the first time", 1)
	try("again", 1)
	l.Refresh()
	try("after Refresh", 2)
	l.Refresh()
	try("after one more Refresh, soon", 2)
	now = now.Add(lockout.Pause)
	try("later", 3)
	mu.Lock()
	word = sshtest.Password
	mu.Unlock()
	if _, err := run(ctx, l, "x"); err != nil {
		t.Errorf("with the right password: %v", err)
	}
}

// A host that has gone without a word is noticed by its missing answers.
func TestSilentHost(t *testing.T) {
	ctx, key := shortly(t), sshtest.NewKey(t)
	stopped := make(chan struct{})
	s := sshtest.Start(t, func(string, ssh.Channel) uint32 { <-stopped; return 0 }, key)
	defer close(stopped)
	wire := sshtest.StartWire(t, s.Addr)
	c, err := newLink(t, wire.Addr, func(c *Config) { c.KeepAlive = 100 * time.Millisecond }, key).Connect(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Err(); err != nil {
		t.Error(err)
	}
	wire.Freeze()
	select {
	case <-c.ended:
	case <-ctx.Done():
		t.Fatal("nobody has noticed")
	}
	if err := c.Err(); !errors.Is(err, ErrSilent) {
		t.Errorf("%v, want %v", err, ErrSilent)
	}
	if _, err := c.Session(ctx); err == nil {
		t.Error("a session on a connection that has ended")
	}
}

func TestEveryWaitEnds(t *testing.T) {
	key := sshtest.NewKey(t)
	ln, err := net.Listen("tcp", "127.0.0.1:0") // takes connections, says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	addr := ln.Addr().String()
	l := newLink(t, addr, func(c *Config) { c.DialTimeout = 100 * time.Millisecond }, key)
	if _, err := l.Connect(shortly(t)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v, want a deadline", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	if _, err := newLink(t, addr, nil, key).Session(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want %v", err, context.Canceled)
	}
}

func TestClosedLink(t *testing.T) {
	ctx, key := shortly(t), sshtest.NewKey(t)
	l := newLink(t, sshtest.Start(t, echo, key).Addr, nil, key)
	if _, err := run(ctx, l, "x"); err != nil {
		t.Fatal(err)
	}
	l.Close()
	l.Close()
	if _, err := run(ctx, l, "x"); !errors.Is(err, ErrClosed) {
		t.Errorf("%v, want %v", err, ErrClosed)
	}
}

func TestDialIsUsed(t *testing.T) {
	ctx, key := shortly(t), sshtest.NewKey(t)
	s := sshtest.Start(t, echo, key)
	const name = "ts1.contoso.example:22"
	l := newLink(t, name, func(c *Config) {
		c.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
			if addr != name {
				t.Errorf("dialled %s", addr)
			}
			var d net.Dialer
			return d.DialContext(ctx, network, s.Addr)
		}
	}, key)
	if _, err := run(ctx, l, "x"); err != nil {
		t.Error(err)
	}
}

func TestNewRefuses(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	const locked = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nAAAA\n-----END RSA PRIVATE KEY-----\n"
	known, word := file("known_hosts", ""), password("x")
	for _, tc := range []struct {
		name, want string
		cfg        Config
	}{
		{"no user", "no user", Config{Password: word, KnownHosts: known}},
		{"no known_hosts", "no known_hosts", Config{User: "u", Password: word}},
		{"missing known_hosts", "known_hosts: open", Config{User: "u", Password: word, KnownHosts: dir + "/none"}},
		{"broken known_hosts", "known_hosts", Config{User: "u", Password: word, KnownHosts: file("broken", "what is this\n")}},
		{"no credentials", "neither a key file", Config{User: "u", KnownHosts: known}},
		{"missing key", "key file", Config{User: "u", KnownHosts: known, KeyFile: dir + "/none"}},
		{"missing password", "not there", Config{User: "u", KnownHosts: known, Password: func() (string, error) { return "", errors.New("not there") }}},
		{"locked key", "passphrase", Config{User: "u", KnownHosts: known, KeyFile: file("locked", locked)}},
	} {
		tc.cfg.Addr = "127.0.0.1"
		if _, err := New(tc.cfg, nil); err == nil || !strings.Contains(err.Error(), tc.want) || !strings.Contains(err.Error(), "127.0.0.1:22") {
			t.Errorf("%s: %v, want an error with %q", tc.name, err, tc.want)
		}
	}
}
