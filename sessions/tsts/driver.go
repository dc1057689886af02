package tsts

import (
	"context"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/rdpbroker/rdpbroker/sessions"
	"github.com/rdpbroker/rdpbroker/sessions/lockout"
)

// Driver reads one Windows host and logs sessions off it. It holds no connection
// but while Watch or Evict run. Its methods may be called at the same time, but
// Watch only once.
type Driver struct {
	dialer  *dialer
	log     *zap.Logger
	refresh chan struct{}
	settle  time.Duration // see settleTime
}

// New makes the driver of one host. It connects to nothing.
func New(cfg Config, log *zap.Logger) (*Driver, error) {
	if log == nil {
		log = zap.NewNop()
	}
	t, err := cfg.check()
	if err != nil {
		return nil, fmt.Errorf("tsts: %w", err)
	}
	return &Driver{
		dialer:  &dialer{t: t, gate: lockout.New[string](time.Now)},
		log:     log,
		refresh: make(chan struct{}, 1),
		settle:  settleTime,
	}, nil
}

func (d *Driver) link() *link { return &link{d: d.dialer, log: d.log} }

// errTimeout is the cause when Config.Timeout ended something.
var errTimeout = fmt.Errorf("no answer in time: %w", context.DeadlineExceeded)

// limit runs do for at most Config.Timeout.
func (d *Driver) limit(ctx context.Context, do func(context.Context) error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, d.dialer.t.Timeout, errTimeout)
	defer cancel()
	return do(ctx)
}

// Watch publishes a reading at once, then whenever the host reports a change or
// Refresh is called, and at the latest every Config.Poll. It returns with the
// first error or with ctx's. An *AuthError must not be answered with a new Watch
// soon: that returns the same error again, without asking the host, until the
// error's RetryAt.
func (d *Driver) Watch(ctx context.Context, h sessions.Host, publish func(sessions.Report)) error {
	err := d.watch(ctx, publish)
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	return fmt.Errorf("watch %s: %w", h.Name, err)
}

func (d *Driver) watch(ctx context.Context, publish func(sessions.Report)) error {
	l := d.link()
	defer l.close()
	ctx, cancel := context.WithCancel(ctx)
	var listening chan struct{} // closed when the listener has ended; nil: none yet
	defer func() {
		cancel()
		if listening != nil {
			<-listening
		}
	}()
	changed := make(chan struct{}, 1)
	for {
		var r *reading
		if err := d.limit(ctx, func(ctx context.Context) (err error) {
			r, err = l.read(ctx)
			return err
		}); err != nil {
			return err
		}
		publish(r.report())
		if listening == nil { // only now is it known that the password is right, and what the host speaks
			listening = make(chan struct{})
			go func(old bool) {
				defer close(listening)
				d.listen(ctx, old, changed)
			}(l.old)
		}
		if err := d.pause(ctx, changed); err != nil {
			return err
		}
	}
}

// eventPause is how long events are gathered before they cause a reading: a logon
// is reported in several steps, and a storm of them must not become one of readings.
const eventPause = 200 * time.Millisecond

// pause waits until a reading is due.
func (d *Driver) pause(ctx context.Context, changed <-chan struct{}) error {
	poll := time.NewTimer(d.dialer.t.Poll)
	defer poll.Stop()
	select {
	case <-poll.C:
	case <-d.refresh:
	case <-changed:
		if sleep(ctx, eventPause) {
			select { // what has come meanwhile is answered by the same reading
			case <-changed:
			default:
			}
		}
	case <-ctx.Done():
	}
	return ctx.Err()
}

// Refresh asks Watch for a reading now. It does not block, and several requests
// may become one reading. After a refused logon it allows one more try before
// AuthError.RetryAt, but not within five minutes of the last one so allowed.
func (d *Driver) Refresh() {
	d.dialer.gate.Refresh()
	select {
	case d.refresh <- struct{}{}:
	default:
	}
}

// Close does nothing: connections end with the Watch or Evict that made them.
func (d *Driver) Close() error { return nil }
