package loadgen

import (
	"slices"
	"time"
)

// Result is what one measurement found.
type Result struct {
	// Done is how many connections or exchanges were completed.
	Done int
	// Failed is how many were not: refused, cut off, or answered with nonsense.
	Failed int
	// Bytes is how many came from the hosts.
	Bytes int64
	// For is how long it was measured.
	For time.Duration
	// P50 and P99 are of the time that one took.
	P50, P99 time.Duration
}

// Rate is how many were done in a second.
func (r Result) Rate() float64 { return float64(r.Done) / r.For.Seconds() }

// BytesPerSecond is the throughput.
func (r Result) BytesPerSecond() float64 { return float64(r.Bytes) / r.For.Seconds() }

// times are durations that were measured.
type times []time.Duration

// quantile is the least time that the share q of all did not exceed; 0 of none.
// It sorts ts.
func (ts times) quantile(q float64) time.Duration {
	if len(ts) == 0 {
		return 0
	}
	slices.Sort(ts)
	return ts[min(len(ts)-1, int(q*float64(len(ts))))]
}
