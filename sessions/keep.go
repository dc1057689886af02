package sessions

import (
	"strconv"
	"strings"
	"time"
)

// KeepAtMost bounds a marker that a user has set in their own session, so that one
// that was forgotten does not hold a slot for ever.
const KeepAtMost = 7 * 24 * time.Hour

// KeepUntil is what a user's marker asks for, as a time by the host's clock: its
// text is a number of hours, "8h", counted from markedAt, when the marker was
// written; one that is empty, or no such number, asks for KeepAtMost. It is for the
// session it was set in: one that is older than the session's logon asks for
// nothing, which is the zero time, nor does one without a time. One from the host's
// future counts from now.
func KeepUntil(text string, markedAt, logonAt, now time.Time) time.Time {
	if markedAt.IsZero() || markedAt.Before(logonAt) {
		return time.Time{}
	}
	if markedAt.After(now) {
		markedAt = now
	}
	return markedAt.Add(keepFor(text))
}

// keepFor reads a marker's text.
func keepFor(text string) time.Duration {
	digits, ok := strings.CutSuffix(strings.ToLower(strings.TrimSpace(text)), "h")
	hours, err := strconv.ParseUint(digits, 10, 16)
	if !ok || err != nil || hours > uint64(KeepAtMost/time.Hour) {
		return KeepAtMost
	}
	return time.Duration(hours) * time.Hour
}
