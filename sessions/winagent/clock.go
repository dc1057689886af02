package winagent

import "time"

// agentClock translates milliseconds of the agent's life to our clock. They come
// from a counter that nobody sets, unlike the host's time of day.
//
// Its zero point is never too late: a ping that we sent at T was answered after
// T, so the agent was started no earlier than T less its life at the answer. A
// reading is therefore never said to be newer than it is.
type agentClock struct{ start time.Time }

// pong takes in the answer to a ping. Only the newest counts, since the two
// clocks drift.
func (c *agentClock) pong(sent time.Time, up int64) { c.start = sent.Add(-millis(up)) }

// at is when the agent was up milliseconds old, not after now.
func (c *agentClock) at(up int64, now time.Time) time.Time {
	t := c.start.Add(millis(up))
	if t.After(now) {
		return now
	}
	return t
}

// millis saturates: what the agent says may be any number.
func millis(n int64) time.Duration {
	const most = int64(10 * 365 * 24 * time.Hour / time.Millisecond)
	return time.Duration(min(max(n, 0), most)) * time.Millisecond
}
