package xrdp

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/rdpbroker/rdpbroker/sessions"
	"github.com/rdpbroker/rdpbroker/sessions/sshlink"
	"github.com/rdpbroker/rdpbroker/sessions/sshlink/sshtest"
)

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

// sshRunner is an SSH for a server, and a key of that.
func sshRunner(t *testing.T, s *sshtest.Server, key ssh.Signer, change func(*SSHConfig)) *SSH {
	t.Helper()
	cfg := SSHConfig{Link: sshlink.Config{
		Addr: s.Addr, KnownHosts: sshtest.KnownHosts(t, s.Addr, key),
		Password: func() (string, error) { return sshtest.Password, nil },
	}}
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

func TestSSHArgumentsAreData(t *testing.T) {
	key := sshtest.NewKey(t)
	r := sshRunner(t, sshtest.Start(t, echo, key), key, nil)
	if out, err := r.Run(shortly(t), "in", "sh", "-s", "it's"); err != nil || string(out) != `'sh' '-s' 'it'\''s'|in` {
		t.Errorf("%q, %v", out, err)
	}
}

func TestSSHPrefix(t *testing.T) {
	key := sshtest.NewKey(t)
	r := sshRunner(t, sshtest.Start(t, echo, key), key, func(c *SSHConfig) { c.Prefix = []string{"sudo", "-n"} })
	if out, err := r.Run(shortly(t), "", "sh", "-s"); err != nil || string(out) != "'sudo' '-n' 'sh' '-s'|" {
		t.Errorf("%q, %v", out, err)
	}
}

func TestSSHFailures(t *testing.T) {
	ctx, key := shortly(t), sshtest.NewKey(t)
	release := make(chan struct{})
	s := sshtest.Start(t, func(command string, ch ssh.Channel) uint32 {
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
	r := sshRunner(t, s, key, nil)

	if out, err := r.Run(ctx, "", "fail"); err == nil || !strings.Contains(err.Error(), "oh dear") || string(out) != "some\n" {
		t.Errorf("a failing command: %q, %v", out, err)
	}
	if _, err := r.Run(ctx, "", "flood"); !errors.Is(err, errTooMuch) {
		t.Errorf("a command that floods: %v", err)
	}
	if _, err := r.Run(ctx, "", "fine"); err != nil {
		t.Errorf("the next command: %v", err)
	}
	if n := s.Drop(); n != 1 {
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

// A host that has gone without a word is noticed while a command waits.
func TestSSHSilentHost(t *testing.T) {
	key := sshtest.NewKey(t)
	began, stopped := make(chan struct{}), make(chan struct{})
	s := sshtest.Start(t, func(string, ssh.Channel) uint32 { close(began); <-stopped; return 0 }, key)
	defer close(stopped)
	wire := sshtest.StartWire(t, s.Addr)
	r := sshRunner(t, s, key, func(c *SSHConfig) {
		c.Link.Addr, c.Link.KnownHosts, c.Link.KeepAlive = wire.Addr, sshtest.KnownHosts(t, wire.Addr, key), 100*time.Millisecond
	})
	go func() { <-began; wire.Freeze() }()
	if _, err := r.Run(shortly(t), "", "x"); !errors.Is(err, errBroken) {
		t.Errorf("%v, want %v", err, errBroken)
	}
}

// The driver's Refresh reaches the way to the host: it allows a refused password
// to be tried once more.
func TestRefreshTriesRefusedPasswordsAgain(t *testing.T) {
	ctx, key := shortly(t), sshtest.NewKey(t)
	s := sshtest.Start(t, echo, key)
	d, err := New(Config{Runner: sshRunner(t, s, key, func(c *SSHConfig) {
		c.Link.Password = func() (string, error) { return "guess", nil }
	})}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []int64{1, 1} {
		var auth *sshlink.AuthError
		if err := d.Watch(ctx, sessions.Host{Name: "x1"}, nil); !errors.As(err, &auth) || s.Refused.Load() != want {
			t.Errorf("%v after %d refused passwords, want %d", err, s.Refused.Load(), want)
		}
	}
	d.Refresh()
	if err := d.Watch(ctx, sessions.Host{Name: "x1"}, nil); err == nil || s.Refused.Load() != 2 {
		t.Errorf("%v after %d refused passwords, want 2", err, s.Refused.Load())
	}
}
