package winrm

import (
	"context"
	"errors"
	"time"

	"github.com/rdpbroker/rdpbroker/sessions"
	"github.com/rdpbroker/rdpbroker/sessions/winagent"
)

// textChannel lists sessions with quser and qwinsta and ends them with logoff.
type textChannel struct {
	run        commandRunner
	poll       time.Duration
	allowEvict bool
	// settle is the pause between two looks at a session that is logging off.
	settle time.Duration
	track  tracker
}

// Why a reading may not be used to choose a victim, see sessions.Report.NoEvict.
const (
	whyNoTextEviction = "sessions are listed by quser and qwinsta; set text_eviction: true for this host to let them be logged off by that"
	whyGarbled        = "user names came damaged from the host (code page), so that it is not certain whose sessions these are"
)

func (t *textChannel) watch(ctx context.Context, refresh <-chan struct{}, publish func(sessions.Report)) error {
	pause := time.NewTimer(0)
	defer pause.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-refresh:
		case <-pause.C:
		}
		r, err := t.report(ctx)
		if err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return err
		}
		publish(r)
		pause.Reset(t.poll)
	}
}

// byAgent is channel.
func (t *textChannel) byAgent() *winagent.Agent { return nil }

// report reads the host once. What the text does not tell stays zero: the
// limit, and whether disconnected sessions count. HostTime is zero because all
// times are by our clock.
func (t *textChannel) report(ctx context.Context) (sessions.Report, error) {
	rd, err := read(ctx, t.run)
	if err != nil {
		return sessions.Report{}, err
	}
	r := sessions.Report{ReadAt: rd.begun, Sessions: t.track.take(rd), Source: "quser"}
	switch {
	case !t.allowEvict:
		r.NoEvict = whyNoTextEviction
	case garbled(r.Sessions):
		r.NoEvict = whyGarbled
	}
	r.Warnings = rd.unknownWords()
	return r, nil
}

// isAuthError reports whether err is a refused logon.
func isAuthError(err error) bool {
	var refused *AuthError
	return errors.As(err, &refused)
}
