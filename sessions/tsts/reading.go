package tsts

import (
	"errors"
	"fmt"
	"time"

	"github.com/rdpbroker/rdpbroker/sessions"
)

// maxSessions is more than a host can hold; a longer listing is nonsense.
const maxSessions = 4096

// errUnprivileged: the listing holds nothing that only a privileged account sees.
var errUnprivileged = errors.New("the listing shows neither a listener nor session 0: " +
	"the account may not query the sessions of others, so those could be there unseen")

// reading is what a host said of its sessions.
type reading struct {
	begun    time.Time // our clock; what happened after it may be missing
	hostTime time.Time // the host's clock at begun
	noClock  error     // why hostTime is not known
	sessions []sessions.Session
}

// take fills the sessions of a listing with their details.
func (r *reading) take(list []sessions.Session, details func(id int) (sessions.Session, error)) error {
	if len(list) > maxSessions {
		return fmt.Errorf("a listing of %d sessions", len(list))
	}
	seen := map[int]bool{}
	privileged := false
	for _, s := range list {
		if s.ID < 0 || seen[s.ID] {
			return fmt.Errorf("a listing with session %d, or with it twice", s.ID)
		}
		seen[s.ID] = true
		if s.ID >= sessions.FirstListenerID || s.State == sessions.StateListen {
			s.State, privileged = sessions.StateListen, true
			r.sessions = append(r.sessions, s)
			continue
		}
		privileged = privileged || s.ID == 0
		full, err := details(s.ID)
		switch k, ok := answered(err); {
		case err == nil:
			if full.Name == "" {
				full.Name = s.Name
			}
			s = full
		case ok && k == kindGone:
			// On its way out, or in: it stands in the listing, so it is reported,
			// in the state that the listing gave.
		case ok && k == kindDenied:
			return fmt.Errorf("session %d may not be queried, others could be there unseen: %w", s.ID, err)
		default:
			return fmt.Errorf("session %d: %w", s.ID, err)
		}
		r.sessions = append(r.sessions, s)
	}
	if !privileged {
		return errUnprivileged
	}
	return nil
}

// setClock takes the host's time, a FILETIME that has come just now, back to when
// the reading began. The call may have taken a while, so the result is never late:
// nobody seems to have been away for longer than they were.
func (r *reading) setClock(filetime int64) error {
	now := timeOf(filetime)
	if now.IsZero() {
		return fmt.Errorf("the host's time is said to be %d", filetime)
	}
	r.hostTime = now.Add(-time.Since(r.begun))
	return nil
}

// report is the reading as it is published.
func (r *reading) report() sessions.Report {
	rep := sessions.Report{ReadAt: r.begun, HostTime: r.hostTime, Sessions: r.sessions, Source: "rpc"}
	if r.noClock != nil {
		// Times of an unknown clock must not pass for times of ours.
		rep.NoEvict = "the host's clock is not known: " + r.noClock.Error()
		rep.Sessions = make([]sessions.Session, len(r.sessions))
		for i, s := range r.sessions {
			s.DisconnectedAt, s.LastInputAt = time.Time{}, time.Time{}
			rep.Sessions[i] = s
		}
	}
	return rep
}
