package soak

import (
	"flag"
	"math/rand/v2"
	"runtime/debug"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rdpbroker/rdpbroker/broker/identity"
	"github.com/rdpbroker/rdpbroker/broker/placement"
)

var (
	steps = flag.Int64("steps", 4000, "how many steps TestNobodyIsWronged takes, all offices together; -short takes a quarter")
	seed  = flag.Uint64("seed", 1, "what TestNobodyIsWronged begins with; 0: something else each time")
)

func offices() []setup {
	usual := setup{
		hosts: 6, people: 56, weather: 12 * time.Second, minDisconnected: time.Minute, wait: 2 * time.Minute,
		reservation: time.Minute, softLimit: 10 * time.Second, hardLimit: 40 * time.Second, perHost: 200,
		lag: 4 * time.Second, share: 30,
	}
	storm, active, text := usual, usual, usual
	usual.name = "usual"
	storm.name, storm.weather, storm.balance, storm.unseenHost, storm.perHost = "storm", 2*time.Second, placement.FillFirst, true, 40
	active.name, active.onlyActive, active.balance = "only active sessions count", true, placement.Weighted
	text.name, text.byText, text.lag = "read by text", true, 2*textPoll+4*time.Second
	text.minDisconnected, text.share = 3*time.Minute, 10 // it takes long
	return []setup{usual, storm, active, text}
}

// TestNobodyIsWronged lets several offices work: users who come, sit at the
// password prompt, disconnect, log off, lose their lines, say their name in
// part, wrongly or not at all, and go around the broker, on hosts that vanish,
// refuse, take long, restart and lie about the time. The broker, its inventory,
// its proxy and the drivers are the real ones; hosts are simulated down to
// WinRM. Everything is checked against what is true on the hosts, at every
// step, and at the very moment at which a session is told to go.
func TestNobodyIsWronged(t *testing.T) {
	begin := *seed
	if begin == 0 {
		begin = rand.Uint64N(1 << 32)
	}
	// There is little to keep and much to throw away: collect seldom.
	limit, percent := debug.SetMemoryLimit(768<<20), debug.SetGCPercent(-1)
	t.Cleanup(func() {
		debug.SetMemoryLimit(limit)
		debug.SetGCPercent(percent)
	})
	all, total := offices(), *steps
	if testing.Short() {
		total /= 4
	}
	t.Logf("seed %d, %d steps", begin, total)
	for i, s := range all {
		resolver := identity.NewResolver(directory(s.people), identity.Memory{})
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				o := newOffice(t, s, begin+uint64(i)<<32, resolver)
				o.run(total*s.share/100, begin+uint64(i)<<32)
			})
		})
	}
}
