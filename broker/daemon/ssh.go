package daemon

import (
	"go.uber.org/zap"

	"github.com/rdpbroker/rdpbroker/broker/config"
	"github.com/rdpbroker/rdpbroker/sessions/sshlink"
	"github.com/rdpbroker/rdpbroker/sessions/winagent"
	"github.com/rdpbroker/rdpbroker/sessions/winssh"
	"github.com/rdpbroker/rdpbroker/sessions/xrdp"
)

// newWinSSH makes the driver of a Windows host with OpenSSH.
func newWinSSH(s *config.WindowsSSH, log *zap.Logger) (driver, error) {
	return winssh.New(winssh.Config{
		Link: link(&s.SSH), Timeout: s.Timeout,
		Agent: winagent.Config{Processes: everyOrNever(s.Processes)},
	}, log)
}

// newXRDP makes the driver of an xrdp host, over ssh or on this machine.
func newXRDP(x *config.XRDP, log *zap.Logger) (driver, error) {
	var runner xrdp.Runner = xrdp.Local{Prefix: x.CommandPrefix}
	if x.SSH != nil {
		ssh, err := xrdp.NewSSH(xrdp.SSHConfig{Link: link(x.SSH), Prefix: x.CommandPrefix}, log)
		if err != nil {
			return nil, err
		}
		runner = ssh
	}
	return xrdp.New(xrdp.Config{Runner: runner, Poll: x.Poll, Timeout: x.Timeout}, log)
}

// link is the way to a host over ssh.
func link(s *config.SSH) sshlink.Config {
	c := sshlink.Config{Addr: s.Address, User: s.User, KeyFile: s.KeyFile, KnownHosts: s.KnownHosts}
	if !s.Password.IsZero() {
		c.Password = s.Password.Read
	}
	return c
}
