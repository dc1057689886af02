package doctor_test

import (
	"context"
	"os/exec"
	"testing"
	"time"

	"github.com/rdpbroker/rdpbroker/broker/config"
	"github.com/rdpbroker/rdpbroker/broker/daemon"
	"github.com/rdpbroker/rdpbroker/broker/doctor"
	"github.com/rdpbroker/rdpbroker/broker/placement"
	"github.com/rdpbroker/rdpbroker/rdpproxy/reach"
	"github.com/rdpbroker/rdpbroker/sessions"
	"github.com/rdpbroker/rdpbroker/sessions/sshlink/sshtest"
	"github.com/rdpbroker/rdpbroker/sessions/winagent/agenttest"
)

// TestAWindowsHostOverSSH examines one with the real agent on it.
func TestAWindowsHostOverSSH(t *testing.T) {
	t.Parallel()
	agent, key := agenttest.New(t), sshtest.NewKey(t)
	type patient struct {
		conf    *config.WindowsSSH
		program []string // in place of PowerShell
	}
	check := func(t *testing.T, change func(*patient)) doctor.Report {
		p := &patient{conf: &config.WindowsSSH{SSH: config.SSH{User: sshtest.User}, Timeout: 10 * time.Second}}
		s := sshtest.Start(t, sshtest.Exec(func(string) *exec.Cmd {
			if p.program != nil {
				return exec.Command(p.program[0], p.program[1:]...)
			}
			return agent.Command()
		}), key)
		p.conf.Address, p.conf.KnownHosts = s.Addr, sshtest.KnownHosts(t, s.Addr, key)
		p.conf.Password.File = write(t, "password", sshtest.Password+"\n")
		if change != nil {
			change(p)
		}
		h := config.Host{Host: sessions.Host{Name: "ts1", Farm: "office", Addr: "127.0.0.1:3389", Slots: 2}, SSH: p.conf}
		cfg := fake()
		cfg.Now = nil // the agent's clock is the real one
		return doctor.New(cfg).Check(t.Context(), doctor.Host{
			Host: h.Host, Eviction: placement.Evict,
			Management: doctor.Management{Kind: doctor.WindowsSSH, Addr: s.Addr, User: p.conf.User, Credential: "x", KnownHosts: p.conf.KnownHosts},
			Reader:     doctor.ReaderFunc(func(ctx context.Context) (sessions.Report, error) { return daemon.ReadHost(ctx, h, nil) }),
		})
	}
	t.Run("in order", func(t *testing.T) {
		t.Parallel()
		r := check(t, nil)
		failures(t, r, 0)
		want(t, r, doctor.CheckManagement, reach.LevelOK, "ssh can be reached")
		want(t, r, doctor.CheckLogon, reach.LevelOK, "root is let in", "known_hosts")
	})
	for _, tt := range []struct {
		name   string
		change func(*testing.T, *patient)
		check  doctor.Check
		words  []string
	}{
		{"another key", func(t *testing.T, p *patient) {
			p.conf.KnownHosts = sshtest.KnownHosts(t, p.conf.Address, sshtest.NewKey(t))
		}, doctor.CheckTrust, []string{"another key", "somebody may be in between"}},
		{"wrong password", func(t *testing.T, p *patient) { p.conf.Password.File = write(t, "password", "guess\n") },
			doctor.CheckLogon, []string{"root is not let in", "administrators_authorized_keys"}},
		{"constrained", func(_ *testing.T, p *patient) {
			p.program = []string{"echo", `{"t":"cannot","why":"mode","detail":"ConstrainedLanguage"}`}
		}, doctor.CheckTools, []string{"constrained language mode", "in place of ssh:", "winrm: with mode: auto"}},
		{"not Windows", func(_ *testing.T, p *patient) { p.program = []string{"sh", "-c", "powershell.exe"} },
			doctor.CheckTools, []string{"exit code 127", "xrdp: is the right key"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := check(t, func(p *patient) { tt.change(t, p) })
			want(t, r, tt.check, reach.LevelFailure, tt.words...)
			failures(t, r, 1)
		})
	}
}
