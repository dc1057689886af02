package daemon

import (
	"context"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/rdpbroker/rdpbroker/broker/config"
	"github.com/rdpbroker/rdpbroker/sessions"
	"github.com/rdpbroker/rdpbroker/sessions/sshlink/sshtest"
	"github.com/rdpbroker/rdpbroker/sessions/winagent"
	"github.com/rdpbroker/rdpbroker/sessions/winagent/agenttest"
)

// overSSH is how a server is logged on to, with a password in the environment.
func overSSH(t *testing.T, s *sshtest.Server, key ssh.Signer) config.SSH {
	const name = "RDPBROKER_TEST_SSH_PASSWORD"
	t.Setenv(name, sshtest.Password)
	return config.SSH{Address: s.Addr, User: sshtest.User, Password: config.Secret{Env: name}, KnownHosts: sshtest.KnownHosts(t, s.Addr, key)}
}

func TestWindowsHostOverSSH(t *testing.T) {
	windows, key := agenttest.New(t), sshtest.NewKey(t)
	s := sshtest.Start(t, sshtest.Exec(func(command string) *exec.Cmd {
		if command != winagent.Command() {
			t.Errorf("command %q", command)
		}
		return windows.Command()
	}), key)
	windows.Set(func() { windows.Sessions[2] = agenttest.Row(0, "alice", 134_000_000_000_000_001, 0, "") })
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	h := config.Host{Host: sessions.Host{Name: "ts1", Farm: "office"}, SSH: &config.WindowsSSH{SSH: overSSH(t, s, key), Timeout: 10 * time.Second}}
	r, err := ReadHost(ctx, h, nil)
	if err != nil {
		t.Fatal(err)
	}
	if r.Source != "agent (ssh)" || !slices.ContainsFunc(r.Sessions, func(s sessions.Session) bool { return s.Account.User == "alice" }) {
		t.Errorf("report %+v", r)
	}
	if d := freshFor(h); d != time.Minute {
		t.Errorf("fresh for %s, want four heartbeats", d)
	}
}

func TestXRDPHostOverSSHWithPrefix(t *testing.T) {
	key := sshtest.NewKey(t)
	commands := make(chan string, 1)
	s := sshtest.Start(t, func(command string, ch ssh.Channel) uint32 {
		commands <- command
		io.Copy(io.Discard, ch)
		io.WriteString(ch, "a banner and no reading\n")
		return 0
	}, key)
	over := overSSH(t, s, key)
	h := config.Host{Host: sessions.Host{Name: "x1"}, XRDP: &config.XRDP{SSH: &over, CommandPrefix: []string{"sudo", "-n"}, Timeout: 10 * time.Second}}
	// The logon works, and what comes then is no reading.
	if _, err := ReadHost(t.Context(), h, nil); err == nil || !strings.Contains(err.Error(), "did not run the script") {
		t.Fatal(err)
	}
	if c := <-commands; !strings.HasPrefix(c, "'sudo' '-n' 'sh' '-s'") {
		t.Errorf("command %q", c)
	}
}
