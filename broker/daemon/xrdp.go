package daemon

import (
	"context"

	"go.uber.org/zap"

	"github.com/rdpbroker/rdpbroker/broker/config"
	"github.com/rdpbroker/rdpbroker/sessions/xrdp"
)

// newXRDP makes the driver of an xrdp host, over ssh or on this machine.
func newXRDP(x *config.XRDP, log *zap.Logger) (driver, error) {
	var runner xrdp.Runner = xrdp.Local{Prefix: x.CommandPrefix}
	if s := x.SSH; s != nil {
		ssh, err := xrdp.NewSSH(xrdp.SSHConfig{
			Addr:         s.Address,
			User:         s.User,
			KeyFile:      s.KeyFile,
			PasswordFile: s.Password.File,
			KnownHosts:   s.KnownHosts,
		}, log)
		if err != nil {
			return nil, err
		}
		runner = prefixed{ssh, x.CommandPrefix}
	}
	return xrdp.New(xrdp.Config{Runner: runner, Poll: x.Poll, Timeout: x.Timeout}, log)
}

// prefixed runs every command behind others, such as sudo -n.
type prefixed struct {
	*xrdp.SSH
	prefix []string
}

// Run implements xrdp.Runner.
func (p prefixed) Run(ctx context.Context, stdin string, argv ...string) ([]byte, error) {
	return p.SSH.Run(ctx, stdin, append(append([]string(nil), p.prefix...), argv...)...)
}
