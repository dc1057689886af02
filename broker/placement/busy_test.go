package placement_test

import (
	"strings"
	"testing"
	"time"

	"github.com/rdpbroker/rdpbroker/broker/placement"
	"github.com/rdpbroker/rdpbroker/sessions"
)

// A session that works although nobody is there is spared; one of which nothing
// tells whether it does, where that must be known.
func TestBusySessions(t *testing.T) {
	usage := func(cpu, io float64) *sessions.Usage {
		return &sessions.Usage{At: now.Add(-time.Minute), Over: time.Minute, CPU: cpu, IO: io}
	}
	old := usage(.5, 1e6)
	old.At = now.Add(-11 * time.Minute)
	both := placement.Eviction{BusyCPU: .02, BusyIO: 100000}
	sure := placement.Eviction{BusyCPU: .02, BusyIO: 100000, CPUMustBeKnown: true, IOMustBeKnown: true}
	for _, c := range []struct {
		name string
		u    *sessions.Usage
		e    placement.Eviction
		want string
	}{
		{"does nothing", usage(0, 0), both, ""},
		{"just as little as it may", usage(.02, 100000), both, ""},
		{"computes", usage(.35, 0), both, "busy: it has used 35% of a core over 1m0s"},
		{"reads and writes", usage(0, 250000), both, "busy: it has read and written 250 kB/s over 1m0s"},
		{"works, and nobody asks", usage(.9, 1e9), placement.Eviction{}, ""},
		{"computes, and only I/O is asked for", usage(.9, 0), placement.Eviction{BusyIO: 1}, ""},
		{"not measured", nil, both, ""},
		{"not measured, and it must be known", nil, sure, "not known how much CPU"},
		{"measured long ago", old, both, ""},
		{"measured long ago, and it must be known", old, sure, "not known how much CPU"},
		{"only CPU is told", usage(0, -1), both, ""},
		{"only CPU is told, and I/O must be known", usage(0, -1), sure, "not known how much it reads"},
		{"must be known, but is not asked for", nil, placement.Eviction{CPUMustBeKnown: true, IOMustBeKnown: true}, ""},
		{"known to do nothing", usage(0, 0), sure, ""},
	} {
		h := host("a", 1, disc(4, "old", 9*hour))
		if c.u != nil {
			h.Usage = map[int]sessions.Usage{4: *c.u}
		}
		c.e.Mode, c.e.MinDisconnected = placement.Evict, hour
		d := placement.Decide(view(h), named("alice"), placement.Policy{Eviction: c.e})
		if c.want == "" {
			if d.Victim == nil {
				t.Errorf("%s: it is spared because %q", c.name, why(d, "victim", "a", 4))
			}
			continue
		}
		if got := why(d, "victim", "a", 4); d.Victim != nil || !strings.Contains(got, c.want) {
			t.Errorf("%s: %s because %q, want %q", c.name, summary(d), got, c.want)
		}
	}
}
