package wintext

import (
	"fmt"
	"strings"

	"github.com/rdpbroker/rdpbroker/sessions"
)

// Merge joins the rows of both tools by session ID, in qwinsta's order, for
// readings taken one right after the other, quser first. What both print comes
// from qwinsta, idle and logon time from quser. The idle time is dropped where
// the two do not agree on the state: it belongs to another state than the one
// reported, and an active session's idle time is not the time since its
// disconnect.
//
// A session that only qwinsta shows (nobody is logged on, or has been since
// quser ran) stays as it is. A session that only quser shows, one ID with two
// users, or an ID twice is an error: the listings are not of one moment.
func Merge(quser, qwinsta []Row) ([]Row, error) {
	users := make(map[int]Row, len(quser))
	for _, u := range quser {
		if _, twice := users[u.ID]; twice {
			return nil, fmt.Errorf("quser shows session %d twice", u.ID)
		}
		users[u.ID] = u
	}
	merged := make([]Row, 0, len(qwinsta))
	seen := make(map[int]bool, len(qwinsta))
	for _, r := range qwinsta {
		if seen[r.ID] {
			return nil, fmt.Errorf("qwinsta shows session %d twice", r.ID)
		}
		seen[r.ID] = true
		if u, ok := users[r.ID]; ok {
			if !sameUser(u.User, r.User) {
				return nil, fmt.Errorf("session %d belongs to %q by quser and to %q by qwinsta",
					r.ID, shorten(u.User), shorten(r.User))
			}
			delete(users, r.ID)
			r = join(u, r)
		}
		merged = append(merged, r)
	}
	for _, u := range quser { // in quser's order, so that the error is always the same
		if _, left := users[u.ID]; left {
			return nil, fmt.Errorf("quser shows session %d of %q, qwinsta does not", u.ID, shorten(u.User))
		}
	}
	return merged, nil
}

// join adds to qwinsta's row r what only quser's row u has.
func join(u, r Row) Row {
	r.Own = r.Own || u.Own
	r.LogonText = u.LogonText
	if sameState(u, r) {
		r.Idle, r.HasIdle, r.IdleText = u.Idle, u.HasIdle, u.IdleText
	}
	return r
}

func sameState(a, b Row) bool {
	if a.State == sessions.StateUnknown || b.State == sessions.StateUnknown {
		return a.StateText == b.StateText
	}
	return a.State == b.State
}

// sameUser compares logon names without regard to case, and to a domain that
// one of the tools may print. Both foldings are tried because quser folds by
// Windows' rules: it makes "i" of the Turkish "İ", which EqualFold does not.
func sameUser(a, b string) bool {
	a, b = bareUser(a), bareUser(b)
	return a != "" && (strings.EqualFold(a, b) || strings.ToLower(a) == strings.ToLower(b))
}

func bareUser(s string) string { return s[strings.LastIndexByte(s, '\\')+1:] }
