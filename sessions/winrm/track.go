package winrm

import (
	"strings"
	"sync"
	"time"

	"github.com/rdpbroker/rdpbroker/sessions"
	"github.com/rdpbroker/rdpbroker/sessions/wintext"
)

// resolution is how far two estimates of one disconnect time may lie apart: the
// minute that quser rounds to, and what a reading takes.
const resolution = time.Minute + 10*time.Second

// tracker translates readings into sessions and remembers, from one reading to
// the next, since when each is disconnected.
//
// quser prints for how many whole minutes a session had no input. The estimate
// that follows, "now less idle", wanders by up to a minute from reading to
// reading, so the first one of a disconnection is kept as long as the idle time
// grows as it must. It is never before the disconnect as far as can be told: it
// is rounded towards now, taken after quser had ended, and not before a reading
// that still saw the session connected.
type tracker struct {
	mu    sync.Mutex
	begun time.Time // of the newest reading
	seen  map[int]sighting
}

// sighting is a session in the newest reading.
type sighting struct {
	incarnation  string
	disconnected bool
	idle         time.Duration
	since        time.Time // DisconnectedAt, zero if not known
}

// take translates a reading and remembers it, unless a newer one came first.
func (t *tracker) take(r *reading) []sessions.Session {
	t.mu.Lock()
	defer t.mu.Unlock()
	list := make([]sessions.Session, 0, len(r.rows))
	seen := make(map[int]sighting, len(r.rows))
	for _, row := range r.rows {
		s := translate(row)
		now := sighting{incarnation: s.Incarnation, disconnected: s.State == sessions.StateDisconnected, idle: row.Idle}
		if row.HasIdle && now.disconnected {
			now.since = t.since(s, r, row.Idle)
		}
		if row.HasIdle && s.State == sessions.StateActive {
			s.LastInputAt = estimate(r, row.Idle)
		}
		s.DisconnectedAt = now.since
		seen[s.ID] = now
		list = append(list, s)
	}
	if !r.begun.Before(t.begun) {
		t.begun, t.seen = r.begun, seen
	}
	return list
}

// since is when s was disconnected, by the reading r and the one before it.
func (t *tracker) since(s sessions.Session, r *reading, idle time.Duration) time.Time {
	now := estimate(r, idle)
	last, ok := t.seen[s.ID]
	if !ok || s.Incarnation == "" || last.incarnation != s.Incarnation {
		return now
	}
	if last.disconnected && !last.since.IsZero() && idle >= last.idle {
		if now.After(last.since.Add(resolution)) {
			return now // the clocks have drifted apart: ours counts
		}
		return last.since
	}
	// It was connected in the reading before, or has been since.
	if t.begun.After(now) && !t.begun.After(r.begun) {
		return t.begun
	}
	return now
}

// knows reports whether the newest reading had this session.
func (t *tracker) knows(s sessions.Session) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	last, ok := t.seen[s.ID]
	return ok && last.incarnation == s.Incarnation
}

// estimate is when the last input was, not before it and not after the reading
// began, which is the report's "now".
func estimate(r *reading, idle time.Duration) time.Time {
	at := r.idleAt.Add(-idle)
	if at.After(r.begun) {
		return r.begun
	}
	return at
}

// translate is the session of a row, without times. LogonAt stays zero: the
// text does not tell the zone and the order of day and month.
func translate(row wintext.Row) sessions.Session {
	s := sessions.Session{ID: row.ID, Name: row.SessionName, State: row.State}
	if row.User != "" {
		s.Account = sessions.ParseAccount(strings.ToValidUTF8(row.User, "\uFFFD"))
	}
	// The logon time in the host's words tells one holder of an ID from the
	// next. It changes when the host's clock goes over to summer time; all
	// sessions are then new ones, and evictions under way are refused.
	if row.LogonText != "" {
		s.Incarnation = row.LogonText + " " + strings.ToLower(row.User)
	}
	return s
}

// garbled reports whether a user name of the reading was damaged on its way
// through a code page. Windows allows no "?" in names, and puts it where a
// character is missing.
func garbled(list []sessions.Session) bool {
	for _, s := range list {
		if strings.ContainsAny(s.Account.User, "?\uFFFD") {
			return true
		}
	}
	return false
}
