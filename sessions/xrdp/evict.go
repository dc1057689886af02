package xrdp

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"go.uber.org/zap"

	"github.com/rdpbroker/rdpbroker/sessions"
)

// waitRound is how long one wait.sh looks for the end of a session, in seconds.
const waitRound = 5

// Evict ends the session of victim, if it is still exactly that session, is
// still disconnected and was not used since victim was read. It returns nil when
// the session has gone with all its processes. The error is a
// *sessions.RefusedError if nothing was done, a *sessions.StuckError if the
// session was told to end and was still there when ctx ended; with any other
// the outcome is not known.
func (d *Driver) Evict(ctx context.Context, h sessions.Host, victim sessions.Session) error {
	ref := sessions.RefOf(h.Name, victim)
	refused := func(why string) error { return &sessions.RefusedError{Ref: ref, Why: why} }
	_, views, err := d.read(ctx, h)
	if err != nil {
		return fmt.Errorf("evict session %s: %w", ref, err)
	}
	v, why := find(views, victim)
	if why != "" {
		return refused(why)
	}

	// The host is the judge: it compares everything once more, in the same
	// script that sends the signal.
	cmdCtx, cancel := context.WithTimeout(ctx, d.cfg.Timeout)
	defer cancel()
	lines, err := runScript(cmdCtx, d.cfg.Runner, evictScript,
		v.boot, strconv.Itoa(v.process.pid), strconv.FormatUint(v.process.ticks, 10),
		strconv.Itoa(v.wm.pid), strconv.FormatUint(v.wm.ticks, 10),
		strconv.Itoa(v.uid), v.user, strconv.Itoa(v.display), v.socket, d.cfg.SocketDir, v.login, d.cfg.SesmanLog)
	verdict := ""
	if len(lines) > 0 {
		verdict = lines[0]
	}
	switch why, isRefused := refusal(verdict); {
	case isRefused:
		return refused(why)
	case verdict == "asked": // whatever went wrong after that
	case err != nil:
		return fmt.Errorf("evict session %s: %w", ref, err)
	default:
		return fmt.Errorf("evict session %s: the host answered %q", ref, cut(verdict, 64))
	}
	d.log.Info("session told to end", zap.Stringer("session", ref), zap.Stringer("account", v.session.Account))
	defer d.Refresh()
	return d.awaitGone(ctx, ref, v)
}

// find is victim's view in a fresh reading, or why it must not be evicted.
func find(views []view, victim sessions.Session) (v view, why string) {
	for _, v = range views {
		s := v.session
		if s.ID != victim.ID {
			continue
		}
		switch {
		case s.Incarnation != victim.Incarnation:
			return view{}, "the ID belongs to another session now"
		case s.Account.IsZero() || s.Account.Folded() != victim.Account.Folded():
			return view{}, "it belongs to another account"
		case s.State == sessions.StateActive:
			return view{}, "the user is connected again"
		case s.State != sessions.StateDisconnected:
			return view{}, fmt.Sprintf("it is not disconnected but %s", s.State)
		case !s.DisconnectedAt.Equal(victim.DisconnectedAt):
			return view{}, "it was used in the meantime"
		}
		return v, ""
	}
	return view{}, "it has gone by itself"
}

// refusal translates the verdict of evict.sh.
func refusal(verdict string) (why string, ok bool) {
	switch verdict {
	case "refused gone":
		return "it has gone by itself", true
	case "refused other":
		return "the ID belongs to another session now", true
	case "refused rebooted":
		return "the host was restarted", true
	case "refused user":
		return "it belongs to another account", true
	case "refused used":
		return "it was used in the meantime", true
	case "refused connected":
		return "the user is connected again", true
	case "refused ending":
		return "it is ending already", true
	case "refused busy":
		return "another eviction is going on at the host", true
	}
	return "", false
}

// awaitGone waits until the processes of a session have ended.
func (d *Driver) awaitGone(ctx context.Context, ref sessions.Ref, v view) error {
	for {
		gone, err := d.waitOnce(ctx, v)
		if gone {
			return nil
		}
		if err != nil && ctx.Err() == nil {
			// It was told to end; only that we cannot look is new. Look again.
			d.log.Warn("cannot see whether a session has ended", zap.Stringer("session", ref), zap.Error(err))
			select {
			case <-ctx.Done():
			case <-time.After(time.Second):
			}
		}
		if ctx.Err() != nil {
			return &sessions.StuckError{Ref: ref, State: sessions.StateDown}
		}
	}
}

func (d *Driver) waitOnce(ctx context.Context, v view) (gone bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, d.cfg.Timeout+waitRound*time.Second)
	defer cancel()
	lines, err := runScript(ctx, d.cfg.Runner, waitScript, strconv.Itoa(waitRound),
		strconv.Itoa(v.process.pid), strconv.FormatUint(v.process.ticks, 10),
		strconv.Itoa(v.x.pid), strconv.FormatUint(v.x.ticks, 10))
	if err != nil {
		return false, err
	}
	if len(lines) != 1 || lines[0] != "gone" && lines[0] != "still" {
		return false, fmt.Errorf("the host answered %q", lines)
	}
	return lines[0] == "gone", nil
}
