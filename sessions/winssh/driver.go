package winssh

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/rdpbroker/rdpbroker/sessions"
	"github.com/rdpbroker/rdpbroker/sessions/sshlink"
	"github.com/rdpbroker/rdpbroker/sessions/winagent"
)

// Config says how one Windows host is reached.
type Config struct {
	// Link is the way there.
	Link sshlink.Config
	// Agent is how the agent on the host is run.
	Agent winagent.Config
	// Timeout is how long the host may take to let us in, and then to start a
	// command; 0 means 20 s.
	Timeout time.Duration
}

// DefaultTimeout is Config.Timeout if that is 0.
const DefaultTimeout = 20 * time.Second

// source is sessions.Report.Source.
const source = "agent (ssh)"

// Driver reads one Windows host and logs sessions off it. It holds no connection
// but while Watch runs. Its methods may be called at the same time, but Watch only
// once.
type Driver struct {
	link  *sshlink.Link
	agent *winagent.Agent
}

// New makes the driver of one host. It connects to nothing. log may be nil.
func New(cfg Config, log *zap.Logger) (*Driver, error) {
	if log == nil {
		log = zap.NewNop()
	}
	if cfg.Timeout <= 0 {
		cfg.Timeout = DefaultTimeout
	}
	if cfg.Link.DialTimeout <= 0 {
		cfg.Link.DialTimeout = cfg.Timeout
	}
	link, err := sshlink.New(cfg.Link, log)
	if err != nil {
		return nil, err
	}
	log = log.With(zap.String("addr", link.Addr()))
	return &Driver{link: link, agent: winagent.New(cfg.Agent, &transport{link: link, timeout: cfg.Timeout}, log)}, nil
}

// Watch publishes a reading at once, on every change, and with each of the agent's
// signs of life. It returns with the first error or with ctx's, when its connection
// has been closed. An *sshlink.AuthError must not be answered with a new Watch soon:
// that returns the same error again, without asking the host, until its RetryAt. A
// *winagent.UnusableError is for good: over ssh there is no other way to read a host.
func (d *Driver) Watch(ctx context.Context, h sessions.Host, publish func(sessions.Report)) error {
	err := d.agent.Run(ctx, func(r sessions.Report) {
		r.Source = source
		publish(r)
	})
	var unusable *winagent.UnusableError
	if errors.As(err, &unusable) {
		return fmt.Errorf("watch %s: %w; over ssh a host can be read in no other way", h.Name, err)
	}
	return fmt.Errorf("watch %s: %w", h.Name, err)
}

// Refresh asks Watch for a reading now. It does not block, and several requests may
// become one reading. After a refused logon it allows one more try before
// sshlink.AuthError.RetryAt, but not within five minutes of the last one so allowed.
func (d *Driver) Refresh() {
	d.link.Refresh()
	d.agent.Refresh()
}

// Evict logs the victim off if it is still exactly the session described; the host
// is the judge. It returns nil when the session is gone.
//
// Errors: *sessions.RefusedError if nothing was done, also while Watch has no agent
// on the host; *sessions.StuckError if the session was told to log off and is still
// there at ctx's deadline. After any other the outcome is not known.
func (d *Driver) Evict(ctx context.Context, h sessions.Host, victim sessions.Session) error {
	return d.agent.Evict(ctx, h.Name, victim)
}

// Message shows a text to the user of s, if that is still the session described, in
// a window that stays until they close it. It does not wait for that.
//
// Errors: *sessions.RefusedError if nothing was done, also while Watch has no agent
// on the host. After any other the outcome is not known.
func (d *Driver) Message(ctx context.Context, h sessions.Host, s sessions.Session, title, text string) error {
	return d.agent.Message(ctx, h.Name, s, title, text)
}

// Disconnect takes the client of s away and leaves the session as it is, if it is
// still exactly the session described and Active; if s.LastInputAt is set its user
// must have done nothing since. The host is the judge.
//
// Errors: *sessions.RefusedError if nothing was done, also while Watch has no agent
// on the host. After any other the outcome is not known.
func (d *Driver) Disconnect(ctx context.Context, h sessions.Host, s sessions.Session) error {
	return d.agent.Disconnect(ctx, h.Name, s)
}

// Close makes the driver connect no more. Calls under way are ended by their
// contexts.
func (d *Driver) Close() error { return d.link.Close() }
