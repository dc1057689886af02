//go:build linux

package abuse

import (
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rdpbroker/rdpbroker/sessions/simhost/nlatest"
)

var (
	connections = flag.Int("connections", 2000, "how many connections strangers make in TestStrangers, all ways together")
	workers     = flag.Int("workers", 128, "how many of them are open at a time")
)

// TestStrangers lets strangers connect to a farm that is full of sessions which may
// go, to a real broker that would log them off for whoever shows a password. By the
// word of the hosts, nobody is; by the clocks of those who come back to their own
// sessions meanwhile, little changes; and the broker's memory is what it was.
func TestStrangers(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIP: takes half a minute; make race and make abuse run it")
	}
	n := *connections
	f := newFarm(t, 4, 12)
	regulars := f.owners[:8]
	f.comeBack(t, regulars[0], time.Minute) // all hosts have been read
	quiet := f.measure(t, regulars, func() { time.Sleep(3 * time.Second) })
	before := f.broker.usage()

	var all []time.Duration
	ways := attacks()
	for i, a := range ways {
		for _, many := range []bool{false, true} {
			from := "one address"
			if many {
				from = "many addresses"
			}
			var what counts
			began := time.Now()
			share := n / len(ways) / 2
			delays := f.measure(t, regulars, func() { what = a.run(f, share, *workers, many, uint64(i)) })
			all = append(all, delays...)
			t.Logf("%d times %s from %s in %s: %s", share, a.name, from, time.Since(began).Round(time.Millisecond), what)
			t.Logf("    meanwhile %s", quantiles(delays))
			if gone := f.evicted(); len(gone) > 0 {
				t.Fatalf("%s from %s: %q were logged off", a.name, from, gone)
			}
		}
	}
	during := f.broker.usage()
	t.Logf("back to one's own session, until the host answers: %s; under attack %s: p99 %.1f times as long",
		quantiles(quiet), quantiles(all), float64(quantile(all, 0.99))/float64(quantile(quiet, 0.99)))
	if worst, calm := quantile(all, 0.99), quantile(quiet, 0.99); worst > 5*time.Second && worst > 200*calm {
		t.Errorf("users wait for %s under attack, %s without", worst, calm)
	}

	f.settles(t)
	after := f.broker.usage()
	t.Logf("the broker before: %s", before)
	t.Logf("at the end of the attack: %s", during)
	t.Logf("when all have left: %s", after)
	if grown := after.Heap - before.Heap; grown > 24<<20 {
		t.Errorf("%d MB of memory are not given back", grown>>20)
	}
	if grown := after.Goroutines - before.Goroutines; grown > 50 {
		t.Errorf("%d goroutines are left", grown)
	}
	if after.Peak > before.Peak+400<<20 {
		t.Errorf("the broker took %d MB more at its worst", (after.Peak-before.Peak)>>20)
	}

	// It was not for want of sessions that might go, nor of a broker that works.
	f.newcomer(t)
}

func (u usage) String() string {
	return fmt.Sprintf("%.1f MB heap, %d MB resident (%d at most), %d goroutines, %d reservations, %d waiting",
		float64(u.Heap)/(1<<20), u.Resident>>20, u.Peak>>20, u.Goroutines, u.Reserved, u.Waiting)
}

func (c counts) String() string {
	var parts []string
	for _, what := range slices.Sorted(maps.Keys(c)) {
		parts = append(parts, fmt.Sprintf("%d %s", c[what], what))
	}
	return strings.Join(parts, ", ")
}

func quantile(ds []time.Duration, q float64) time.Duration {
	slices.Sort(ds)
	return ds[min(len(ds)-1, int(q*float64(len(ds))))]
}

func quantiles(ds []time.Duration) string {
	return fmt.Sprintf("p50 %s, p99 %s, most %s (of %d)", quantile(ds, 0.5).Round(time.Microsecond*10), quantile(ds, 0.99).Round(time.Microsecond*10), quantile(ds, 1).Round(time.Microsecond*10), len(ds))
}

// comeBack connects as somebody who has a session, from their own address, and
// waits up to late for their host's answer.
func (f *farm) comeBack(t *testing.T, user string, late time.Duration) time.Duration {
	t.Helper()
	began := time.Now()
	c, err := dialFrom(netip.AddrFrom4([4]byte{127, 200, 0, byte(1 + slices.Index(f.owners, user))}), f.broker.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(began.Add(late))
	if confirm, err := (nlatest.Client{Cookie: user}).Request(c); err != nil || confirm.Failure {
		t.Errorf("%s does not get back to their session: %+v, %v", user, confirm, err)
	}
	return time.Since(began)
}

// measure lets users come back to their sessions, again and again, while something
// is going on, and tells how long each of them waited.
func (f *farm) measure(t *testing.T, users []string, meanwhile func()) []time.Duration {
	var mu sync.Mutex
	var all []time.Duration
	var over atomic.Bool
	var coming sync.WaitGroup
	for i := range 4 {
		rnd := rand.New(rand.NewPCG(1, uint64(i)))
		coming.Go(func() {
			for first := true; first || !over.Load(); first = false {
				took := f.comeBack(t, users[rnd.IntN(len(users))], time.Minute)
				mu.Lock()
				all = append(all, took)
				mu.Unlock()
				time.Sleep(10 * time.Millisecond)
			}
		})
	}
	meanwhile()
	over.Store(true)
	coming.Wait()
	return all
}

// settles waits until the broker has nothing left of the strangers but what it
// keeps for those who come back after a password prompt.
func (f *farm) settles(t *testing.T) {
	t.Helper()
	for late := time.Now().Add(3 * time.Minute); ; time.Sleep(time.Second) {
		if u := f.broker.usage(); u.Waiting == 0 && u.Reserved == 0 {
			return
		} else if time.Now().After(late) {
			t.Fatalf("left of the strangers: %s", u)
		}
	}
}

// newcomer logs on with the right password, for which one session goes.
func (f *farm) newcomer(t *testing.T) {
	t.Helper()
	c, err := dialFrom(netip.AddrFrom4([4]byte{127, 200, 1, 1}), f.broker.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	s, err := nlatest.Client{Cookie: "newcomer", User: "newcomer", Password: userPassword}.Logon(c)
	if err != nil {
		t.Fatal(err)
	}
	if gone := f.evicted(); len(gone) > 0 {
		t.Errorf("%q were logged off before there was anything to do", gone)
	}
	if _, err := s.Write(make([]byte, 400)); err != nil { // goes on
		t.Fatal(err)
	}
	for late := time.Now().Add(time.Minute); len(f.evicted()) == 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(late) {
			t.Fatal("nobody is logged off for whoever has shown a password")
		}
	}
	time.Sleep(time.Second)
	if gone, told := f.evicted(), f.broker.usage().Evictions; len(gone) != 1 || told != 1 {
		t.Errorf("%q were logged off, and the broker tells of %d", gone, told)
	}
}
