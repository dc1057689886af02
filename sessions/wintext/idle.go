package wintext

import (
	"regexp"
	"strconv"
	"time"
)

// idlePattern is what quser prints for an idle time: "." and "*" for none,
// minutes, hours:minutes, or days+hours:minutes.
var idlePattern = regexp.MustCompile(`^(?:[.*]|(?:(?:(\d{1,6})\+)?(\d{1,2}):)?(\d{1,2}))$`)

// bogusDays: old tools print 24692+13:29 for a session that is in use right
// now. No host runs for ten years, so more than that means "no idle time".
const bogusDays = 3650

// parseIdle reads the idle column. ok is false if the text is none of the known
// forms, or a number in it is out of its range.
func parseIdle(text string) (idle time.Duration, ok bool) {
	if isNone(text) {
		return 0, true
	}
	m := idlePattern.FindStringSubmatch(text)
	if m == nil {
		return 0, false
	}
	days, hours, minutes := number(m[1]), number(m[2]), number(m[3])
	switch {
	case hours > 23 || minutes > 59:
		return 0, false
	case days > bogusDays:
		return 0, true
	}
	return time.Duration(days)*24*time.Hour + time.Duration(hours)*time.Hour + time.Duration(minutes)*time.Minute, true
}

// number is a string of at most a few digits, 0 if empty.
func number(digits string) int {
	n, _ := strconv.Atoi(digits) // the pattern let only digits through
	return n
}
