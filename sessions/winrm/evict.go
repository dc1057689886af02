package winrm

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/rdpbroker/rdpbroker/sessions"
	"github.com/rdpbroker/rdpbroker/sessions/wintext"
)

// settleTime is the pause between two looks at a session that is logging off.
const settleTime = 2 * time.Second

// evict is Driver.Evict by text. Between the look and the logoff lies one shell:
// some hundred milliseconds in which the user may connect again. The caller
// closes that gap by holding this user's connections to the host back.
func (t *textChannel) evict(ctx context.Context, host string, victim sessions.Session) error {
	refuse := func(why string) error {
		return &sessions.RefusedError{Ref: sessions.RefOf(host, victim), Why: why}
	}
	if why := t.untouchable(victim); why != "" {
		return refuse(why)
	}
	known := t.track.knows(victim)
	rd, err := read(ctx, t.run)
	if err != nil {
		return fmt.Errorf("look at session %d of %s before its logoff: %w", victim.ID, host, err)
	}
	if why := changed(victim, rd, t.track.take(rd), known); why != "" {
		return refuse(why)
	}
	// Never without the ID: logoff.exe would end our own session.
	out, err := t.run(ctx, fmt.Sprintf("logoff.exe %d /V", victim.ID))
	var started startedError
	switch {
	case errors.As(err, &started) && errors.Is(err, errTimeout):
		// It waits for the logoff, which takes what it takes.
	case err != nil:
		return fmt.Errorf("log session %d off %s: %w", victim.ID, host, err)
	default:
		if why := logoffRefused(out); why != "" {
			return refuse(why)
		}
	}
	return t.awaitGone(ctx, host, victim)
}

// untouchable says why victim is not evicted whatever the host shows, or "".
func (t *textChannel) untouchable(victim sessions.Session) string {
	switch {
	case !t.allowEvict:
		return whyNoTextEviction
	case victim.ID < 1 || victim.ID >= sessions.FirstListenerID:
		return fmt.Sprintf("ID %d is the services session or a listener", victim.ID)
	case victim.Account.IsZero() || victim.Incarnation == "":
		return "it is not described well enough to be told from another session"
	case victim.State != sessions.StateDisconnected || victim.DisconnectedAt.IsZero():
		return "it is not known since when it is disconnected"
	}
	return ""
}

// changed says how the session differs now from its description, or "".
func changed(victim sessions.Session, rd *reading, now []sessions.Session, known bool) string {
	for i, s := range now {
		if s.ID != victim.ID {
			continue
		}
		switch {
		case rd.rows[i].Own:
			return "it is the broker's own session"
		case s.Account.Folded() != victim.Account.Folded():
			return "another user has this session ID now"
		case s.Incarnation != victim.Incarnation:
			return "its user has logged on anew since"
		case s.State == sessions.StateActive:
			return "the user is connected again"
		case s.State != sessions.StateDisconnected:
			return fmt.Sprintf("it is not disconnected but %s (%q)", s.State, excerpt(rd.rows[i].StateText))
		case garbled(now[i : i+1]):
			return whyGarbled
		case s.DisconnectedAt.IsZero():
			return "its idle time cannot be read"
		// The tracker gives the same time again only if the idle time has grown
		// since the last reading. A session that it has not seen before must have
		// been idle for as long as described, within what text can tell.
		case known && !s.DisconnectedAt.Equal(victim.DisconnectedAt),
			s.DisconnectedAt.After(victim.DisconnectedAt.Add(resolution)):
			return "the user was connected in between"
		}
		return ""
	}
	return "it is not there any more"
}

// logoffRefused says why logoff.exe did nothing, or "". That the session does
// not exist is for awaitGone to judge.
func logoffRefused(out *output) string {
	code, failed := wintext.ParseError(out.stderr)
	switch {
	case out.exitCode == 0 && !failed, failed && (code == 2 || code == 7022):
		return ""
	case failed:
		return "logoff.exe: " + winError(code)
	case out.exitCode == exitNotFound:
		return "the host has no logoff.exe"
	}
	return fmt.Sprintf("logoff.exe: exit code %d: %q", out.exitCode, excerpt(out.stdout+" "+out.stderr))
}

// awaitGone looks until the session is gone or its ID belongs to another one.
// A look that fails is no answer; the next may be.
func (t *textChannel) awaitGone(ctx context.Context, host string, victim sessions.Session) error {
	stuck := &sessions.StuckError{Ref: sessions.RefOf(host, victim), State: victim.State}
	var unread error
	for {
		rd, err := read(ctx, t.run)
		switch {
		case err == nil:
			state, there := stillThere(victim, t.track.take(rd))
			if !there {
				return nil
			}
			stuck.State, unread = state, nil
		case isAuthError(err):
			return fmt.Errorf("session %d of %s was told to log off, what became of it is not known: %w", victim.ID, host, err)
		case ctx.Err() == nil:
			unread = err
		}
		if sleep(ctx, t.settle) == nil {
			continue
		}
		if unread != nil {
			return fmt.Errorf("session %d of %s was told to log off, what became of it is not known: %w", victim.ID, host, unread)
		}
		return stuck
	}
}

// stillThere finds the victim. A session that has lost its user or its logon
// time on the way down is still there.
func stillThere(victim sessions.Session, now []sessions.Session) (sessions.State, bool) {
	for _, s := range now {
		if s.ID == victim.ID {
			return s.State, s.Incarnation == "" || s.Incarnation == victim.Incarnation
		}
	}
	return 0, false
}
