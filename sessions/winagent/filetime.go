package winagent

import "time"

// A FILETIME counts 100 ns from 1601 in UTC.
const (
	ticksPerSecond = 10_000_000
	unixEpoch      = 116_444_736_000_000_000 // 1970 as a FILETIME
	// firstTime is the first FILETIME that is a time: everything in 1601 stands
	// for "never".
	firstTime = 366 * 24 * 3600 * ticksPerSecond
	// lastTime is the year 9999, the last that RFC 3339 can write.
	lastTime = 2_650_467_743_999_999_999
)

// fromFileTime is the zero time if ft stands for "never" or is no time.
func fromFileTime(ft int64) time.Time {
	if ft < firstTime || ft > lastTime {
		return time.Time{}
	}
	ft -= unixEpoch
	return time.Unix(ft/ticksPerSecond, ft%ticksPerSecond*100).UTC()
}

// toFileTime is the inverse of fromFileTime; the zero time becomes 0.
func toFileTime(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Unix()*ticksPerSecond + int64(t.Nanosecond())/100 + unixEpoch
}
