package tsts

import (
	"strconv"
	"time"
	"unicode/utf16"

	"github.com/rdpbroker/rdpbroker/sessions"
)

// stateOf is the state of WINSTATIONSTATECLASS ([MS-TSTS] 2.2.1.9), whose values
// are those of WTS_CONNECTSTATE_CLASS.
func stateOf(class int32) sessions.State {
	if class < 0 || class > 9 {
		return sessions.StateUnknown
	}
	return sessions.StateActive + sessions.State(class)
}

// epoch is 1601-01-01 in Unix time, and second the FILETIME units in a second.
const (
	epoch  = -11644473600
	second = int64(time.Second / 100)
)

// timeOf reads a FILETIME. Zero and anything before 1970 or after 9999, as hosts
// are known to write for "never", is the zero time.
func timeOf(filetime int64) time.Time {
	unix := filetime/second + epoch
	if filetime <= 0 || unix < 0 || unix > 253402300799 {
		return time.Time{}
	}
	return time.Unix(unix, filetime%second*100).UTC()
}

// incarnationOf tells one holder of a session ID from the next: its logon time.
func incarnationOf(logon int64) string {
	if timeOf(logon).IsZero() {
		return ""
	}
	return strconv.FormatInt(logon, 10)
}

// text reads an array of UTF-16 characters up to its end or a NUL.
func text(chars []uint16) string {
	for i, c := range chars {
		if c == 0 {
			chars = chars[:i]
			break
		}
	}
	return string(utf16.Decode(chars))
}
