package doctor_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"github.com/rdpbroker/rdpbroker/broker/config"
	"github.com/rdpbroker/rdpbroker/broker/daemon"
	"github.com/rdpbroker/rdpbroker/broker/doctor"
	"github.com/rdpbroker/rdpbroker/broker/placement"
	"github.com/rdpbroker/rdpbroker/deploy/testlab"
	"github.com/rdpbroker/rdpbroker/rdpproxy/reach"
	"github.com/rdpbroker/rdpbroker/sessions"
)

// TestAnXRDPHost examines a real one, over a real OpenSSH server.
func TestAnXRDPHost(t *testing.T) {
	t.Parallel()
	host := testlab.StartXRDP(t, "x1", "", testlab.XRDPOptions{MaxSessions: 3})
	sshd := host.StartSSHD(t)

	check := func(t *testing.T, change func(*config.XRDP)) doctor.Report {
		x := &config.XRDP{Poll: time.Minute, Timeout: 10 * time.Second,
			SSH: &config.SSH{Address: sshd.Addr, User: sshd.User, KeyFile: sshd.KeyFile, KnownHosts: sshd.KnownHosts}}
		if change != nil {
			change(x)
		}
		h := config.Host{Host: sessions.Host{Name: "x1", Farm: "office", Addr: host.Addr, Slots: 4}, XRDP: x}
		return doctor.New(doctor.Config{}).Check(t.Context(), doctor.Host{
			Host: h.Host, Eviction: placement.Evict,
			Management: doctor.Management{Kind: doctor.XRDPOverSSH, Addr: x.SSH.Address, User: x.SSH.User, KnownHosts: x.SSH.KnownHosts},
			Reader:     doctor.ReaderFunc(func(ctx context.Context) (sessions.Report, error) { return daemon.ReadHost(ctx, h, nil) }),
		})
	}
	t.Run("in order", func(t *testing.T) {
		r := check(t, nil)
		failures(t, r, 0)
		want(t, r, doctor.CheckRDP, reach.LevelOK, "connected to")
		want(t, r, doctor.CheckManagement, reach.LevelOK, "ssh can be reached")
		want(t, r, doctor.CheckLogon, reach.LevelOK, "root is let in", "known_hosts")
		want(t, r, doctor.CheckSlots, reach.LevelWarning, "slots: 4", "takes only 3")
		want(t, r, doctor.CheckCounting, reach.LevelOK, "hold slots")
		want(t, r, doctor.CheckClock, reach.LevelOK, "agree")
		want(t, r, doctor.CheckEviction, reach.LevelOK)
	})
	public, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	other, err := ssh.NewPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	alice := func(t *testing.T, x *config.XRDP) { // who is not root
		x.SSH.User, x.SSH.KeyFile = "rbalice", ""
		x.SSH.Password.File = write(t, "password", host.Users["rbalice"])
	}
	tests := []struct {
		name   string
		change func(*testing.T, *config.XRDP)
		check  doctor.Check
		words  []string
	}{
		{"unknown key", func(t *testing.T, x *config.XRDP) { x.SSH.KnownHosts = write(t, "known_hosts", "") },
			doctor.CheckTrust, []string{"has no key of the host", "ssh-keyscan -p 2222 " + host.IP}},
		{"another key", func(t *testing.T, x *config.XRDP) {
			x.SSH.KnownHosts = write(t, "known_hosts", knownhosts.Line([]string{sshd.Addr}, other)+"\n")
		}, doctor.CheckTrust, []string{"another key", "somebody may be in between"}},
		{"wrong password", func(t *testing.T, x *config.XRDP) {
			x.SSH.KeyFile, x.SSH.Password.File = "", write(t, "password", "guess\n")
		}, doctor.CheckLogon, []string{"user root was not let in", "authorized_keys"}},
		{"not root", func(t *testing.T, x *config.XRDP) { alice(t, x) },
			doctor.CheckRights, []string{"must run as root", "command_prefix: [sudo, -n]"}},
		{"sudo that does not work", func(t *testing.T, x *config.XRDP) {
			alice(t, x)
			x.CommandPrefix = []string{"sudo", "-n"}
		}, doctor.CheckRights, []string{"sudo", "NOPASSWD"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := check(t, func(x *config.XRDP) { tt.change(t, x) })
			want(t, r, tt.check, reach.LevelFailure, tt.words...)
			failures(t, r, 1)
		})
	}
}
