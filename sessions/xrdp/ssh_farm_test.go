package xrdp

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh/knownhosts"

	"github.com/rdpbroker/rdpbroker/deploy/testlab"
	"github.com/rdpbroker/rdpbroker/sessions"
	"github.com/rdpbroker/rdpbroker/sessions/sshlink"
	"github.com/rdpbroker/rdpbroker/sessions/sshlink/sshtest"
)

// TestFarmSSH drives a host through a real OpenSSH server that runs on it.
func TestFarmSSH(t *testing.T) {
	t.Parallel()
	ctx := deadline(t)
	var sshd *testlab.SSHD
	f := startFarm(t, testlab.XRDPOptions{}, func(h *testlab.XRDPHost, cfg *Config) {
		sshd = h.StartSSHD(t)
		r, err := NewSSH(SSHConfig{Link: sshlink.Config{Addr: sshd.Addr, User: sshd.User, KeyFile: sshd.KeyFile, KnownHosts: sshd.KnownHosts}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		cfg.Runner = r
	})
	bob, desktop := f.disconnected(ctx, t, "rbbob")

	// The server drops its connections, as when it is restarted.
	if _, err := f.Exec("sh", "-c", `pkill -f '^sshd: root' && sleep 0.2`); err != nil {
		t.Fatal(err)
	}
	if again := f.await(ctx, t, "rbbob", sessions.StateDisconnected); !again.SameIncarnation(bob) {
		t.Errorf("after the connection broke %+v, before %+v", again, bob)
	}
	if err := f.driver.Evict(ctx, f.host, bob); err != nil {
		t.Fatal(err)
	}
	if f.Runs(desktop) {
		t.Error("the evicted desktop is still running")
	}

	t.Run("password", func(t *testing.T) {
		r, err := NewSSH(SSHConfig{Link: sshlink.Config{Addr: sshd.Addr, Password: passwordIn(sshd.PasswordFile), KnownHosts: sshd.KnownHosts}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		if out, err := r.Run(ctx, "", "echo", "a 'quoted' $HOME word"); string(out) != "a 'quoted' $HOME word\n" || err != nil {
			t.Errorf("%q, %v", out, err)
		}
	})
	t.Run("wrong host key", func(t *testing.T) {
		other := sshtest.KnownHosts(t, sshd.Addr, sshtest.NewKey(t))
		r, err := NewSSH(SSHConfig{Link: sshlink.Config{Addr: sshd.Addr, KeyFile: sshd.KeyFile, KnownHosts: other}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		_, err = r.Run(ctx, "", "true")
		var key *knownhosts.KeyError
		if !errors.As(err, &key) || !strings.Contains(err.Error(), "another key") {
			t.Errorf("error %v, want one that tells of another key", err)
		}
	})
	t.Run("unknown host", func(t *testing.T) {
		empty := filepath.Join(t.TempDir(), "known_hosts")
		if err := os.WriteFile(empty, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		r, err := NewSSH(SSHConfig{Link: sshlink.Config{Addr: sshd.Addr, KeyFile: sshd.KeyFile, KnownHosts: empty}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		if _, err := r.Run(ctx, "", "true"); err == nil || !strings.Contains(err.Error(), "no key of the host") {
			t.Errorf("error %v, want one that tells that the host is not known", err)
		}
	})
	t.Run("wrong password", func(t *testing.T) {
		guess := func() (string, error) { return "guess", nil }
		r, err := NewSSH(SSHConfig{Link: sshlink.Config{Addr: sshd.Addr, Password: guess, KnownHosts: sshd.KnownHosts}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		_, err = r.Run(ctx, "", "true")
		var auth *sshlink.AuthError
		if !errors.As(err, &auth) || auth.RetryAfter() < time.Minute {
			t.Errorf("error %v, want an AuthError that asks for patience", err)
		}
	})
	t.Run("not root", func(t *testing.T) {
		_, err := runScript(ctx, Local{Prefix: append(f.Prefix(), "setpriv", "--reuid", "1", "--clear-groups")}, readScript, "/a", "/b", "/c")
		if err == nil || !strings.Contains(err.Error(), "rights are missing") {
			t.Errorf("error %v, want one that tells of missing rights", err)
		}
	})
}

// passwordIn reads the password that a file holds.
func passwordIn(file string) func() (string, error) {
	return func() (string, error) {
		b, err := os.ReadFile(file)
		return strings.TrimSpace(string(b)), err
	}
}
