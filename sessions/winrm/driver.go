package winrm

import (
	"context"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/rdpbroker/rdpbroker/sessions"
	"github.com/rdpbroker/rdpbroker/sessions/lockout"
	"github.com/rdpbroker/rdpbroker/sessions/winagent"
)

// Driver reads one Windows host and logs sessions off it. It holds no
// connection until it is used. Its methods may be called at the same time, but
// Watch only once.
type Driver struct {
	client  *client
	channel channel
	refresh chan struct{}
}

// channel is a way to learn about a host's sessions and to end them: liveChannel
// by an agent on the host, textChannel by asking again and again, autoChannel by
// what the host can do.
type channel interface {
	// watch publishes reports until ctx ends or the host is lost. A value on
	// refresh asks for a report now.
	watch(ctx context.Context, refresh <-chan struct{}, publish func(sessions.Report)) error
	// evict is Driver.Evict.
	evict(ctx context.Context, host string, victim sessions.Session) error
	// byAgent is the agent that sessions are read by, nil where they are by text.
	byAgent() *winagent.Agent
}

// New makes the driver of one host. It connects to nothing.
func New(cfg Config, log *zap.Logger) (*Driver, error) {
	if log == nil {
		log = zap.NewNop()
	}
	t, err := cfg.check()
	if err != nil {
		return nil, fmt.Errorf("winrm: %w", err)
	}
	c := newClient(t, lockout.New[string](time.Now), log)
	log = log.With(zap.String("endpoint", t.addr))
	d := &Driver{client: c, refresh: make(chan struct{}, 1)}
	text := &textChannel{run: c.run, poll: t.poll, allowEvict: t.allowEvict, settle: settleTime}
	live := newLiveChannel(c, winagent.Config{Processes: cfg.Processes}, log)
	switch cfg.Mode {
	case ModeAgent:
		d.channel = live
	case ModeAuto:
		d.channel = &autoChannel{live: live, text: text, log: log, textFor: textFor}
	default:
		d.channel = text
	}
	return d, nil
}

// Watch publishes a reading at once and then, from an agent, on every change and
// every 15 s; by text every Config.Poll or Refresh. It returns with the first
// error or with ctx's, after it has tried for up to three seconds to delete the
// remote shell that was in use. An *AuthError must not be answered
// with a new Watch soon: that returns the same error again, without asking the
// host, until the error's RetryAt.
func (d *Driver) Watch(ctx context.Context, h sessions.Host, publish func(sessions.Report)) error {
	if err := d.channel.watch(ctx, d.refresh, publish); err != nil {
		return fmt.Errorf("watch %s: %w", h.Name, err)
	}
	return nil
}

// Refresh asks Watch for a reading now. It does not block, and several requests
// may become one reading. After a refused logon it allows one more try before
// AuthError.RetryAt, but not within five minutes of the last one so allowed.
func (d *Driver) Refresh() {
	d.client.gate.Refresh()
	select {
	case d.refresh <- struct{}{}:
	default:
	}
}

// Evict logs the victim off if it is still exactly the session described: the
// host is read again, and ID, account, logon time and disconnect time must be
// the same and the session Disconnected. It returns nil when the session is gone.
//
// Errors: *sessions.RefusedError if nothing was done, *sessions.StuckError if the
// session was told to log off and is still there when ctx ends. After any other
// the outcome is not known.
func (d *Driver) Evict(ctx context.Context, h sessions.Host, victim sessions.Session) error {
	return d.channel.evict(ctx, h.Name, victim)
}

// whyNoAgent: what an agent does, and nothing else does safely.
const whyNoAgent = "sessions are read by quser and qwinsta on this host, without an agent there"

// Message shows a text to the user of s, if that is still the session described, in
// a window that stays until they close it. It does not wait for that. It needs an
// agent on the host.
//
// Errors: *sessions.RefusedError if nothing was done. After any other the outcome is
// not known.
func (d *Driver) Message(ctx context.Context, h sessions.Host, s sessions.Session, title, text string) error {
	a := d.channel.byAgent()
	if a == nil {
		return &sessions.RefusedError{Ref: sessions.RefOf(h.Name, s), Act: "sent a message", Why: whyNoAgent}
	}
	return a.Message(ctx, h.Name, s, title, text)
}

// Disconnect takes the client of s away and leaves the session as it is, if it is
// still exactly the session described and Active; if s.LastInputAt is set its user
// must have done nothing since. The host is the judge. It needs an agent there.
//
// Errors: *sessions.RefusedError if nothing was done. After any other the outcome is
// not known.
func (d *Driver) Disconnect(ctx context.Context, h sessions.Host, s sessions.Session) error {
	a := d.channel.byAgent()
	if a == nil {
		return &sessions.RefusedError{Ref: sessions.RefOf(h.Name, s), Act: "disconnected", Why: whyNoAgent}
	}
	return a.Disconnect(ctx, h.Name, s)
}

// Close drops the connections that are kept between requests. Calls under way are
// ended by their contexts.
func (d *Driver) Close() error {
	d.client.close()
	return nil
}
