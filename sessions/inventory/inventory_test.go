package inventory_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rdpbroker/rdpbroker/sessions"
	"github.com/rdpbroker/rdpbroker/sessions/inventory"
)

type watcher struct {
	watch   func(ctx context.Context, h sessions.Host, publish func(sessions.Report)) error
	refresh func()
}

func (w watcher) Watch(ctx context.Context, h sessions.Host, publish func(sessions.Report)) error {
	return w.watch(ctx, h, publish)
}

func (w watcher) Refresh() { w.refresh() }

func host(name string) sessions.Host { return sessions.Host{Name: name, Farm: "office"} }

// run starts inv and returns what stops it and waits for it.
func run(t *testing.T, inv *inventory.Inventory) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- inv.Run(ctx) }()
	return func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

func TestASnapshotHasEveryHostFromTheStart(t *testing.T) {
	inv := inventory.New([]inventory.Entry{{Host: host("b")}, {Host: host("a")}}, nil, nil)
	s := inv.Snapshot()
	if len(s.Hosts) != 2 || s.Hosts[0].Host.Name != "a" || s.Host("b").Fresh(time.Now()) {
		t.Errorf("got %+v", s.Hosts)
	}
}

func TestAFailingHostKeepsItsReadingAndIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var tries []time.Time
		w := watcher{watch: func(ctx context.Context, _ sessions.Host, publish func(sessions.Report)) error {
			tries = append(tries, time.Now())
			if len(tries) == 1 {
				publish(sessions.Report{ReadAt: time.Now(), Source: "test"})
			}
			return fmt.Errorf("try %d failed", len(tries))
		}}
		inv := inventory.New([]inventory.Entry{{Host: host("a"), Watcher: w, FreshFor: 10 * time.Second}}, nil, nil)
		stop := run(t, inv)
		time.Sleep(5 * time.Minute)
		stop()

		h := inv.Snapshot().Host("a")
		if h.Report == nil || h.Report.Source != "test" {
			t.Error("the reading of a host that failed later must be kept")
		}
		if h.Fresh(time.Now()) {
			t.Error("a reading of five minutes ago counts as fresh")
		}
		if h.Problem == "" {
			t.Error("the problem is not shown")
		}
		if n := len(tries); n < 9 || n > 25 {
			t.Errorf("%d tries in five minutes: the pause must grow to about 30 s and stay there", n)
		}
		for i := 1; i < len(tries); i++ {
			if gap := tries[i].Sub(tries[i-1]); gap < 250*time.Millisecond || gap > 45*time.Second {
				t.Errorf("pause %d was %s", i, gap)
			}
		}
	})
}

type lockedOut struct{}

func (lockedOut) Error() string             { return "401" }
func (lockedOut) RetryAfter() time.Duration { return time.Hour }

func TestARefusedPasswordIsNotTriedAgainSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var tries atomic.Int32
		w := watcher{watch: func(context.Context, sessions.Host, func(sessions.Report)) error {
			tries.Add(1)
			return fmt.Errorf("listing: %w", lockedOut{})
		}}
		inv := inventory.New([]inventory.Entry{{Host: host("a"), Watcher: w}}, nil, nil)
		stop := run(t, inv)
		defer stop()
		time.Sleep(30 * time.Minute)
		if n := tries.Load(); n != 1 {
			t.Errorf("%d tries within half an hour", n)
		}
		inv.Retry("a")
		synctest.Wait()
		if n := tries.Load(); n != 2 {
			t.Errorf("%d tries after Retry", n)
		}
	})
}

func TestApplyKeepsWhatIsTheSame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		started, ended := map[string]int{}, map[string]int{}
		entry := func(name string, same any, slots int) inventory.Entry {
			h := host(name)
			h.Slots = slots
			return inventory.Entry{Host: h, Same: same, Watcher: watcher{watch: func(ctx context.Context, _ sessions.Host, publish func(sessions.Report)) error {
				mu.Lock()
				started[name]++
				mu.Unlock()
				publish(sessions.Report{ReadAt: time.Now(), Source: fmt.Sprint(same)})
				<-ctx.Done()
				mu.Lock()
				ended[name]++
				mu.Unlock()
				return ctx.Err()
			}}}
		}
		inv := inventory.New([]inventory.Entry{entry("kept", 1, 2), entry("changed", 1, 2), entry("gone", 1, 2)}, nil, nil)
		stop := run(t, inv)
		synctest.Wait()

		inv.Apply([]inventory.Entry{entry("kept", 1, 5), entry("changed", 2, 2), entry("new", 1, 2)})
		synctest.Wait()
		s := inv.Snapshot()
		if s.Host("gone") != nil || s.Host("new").Report == nil || s.Host("changed").Report.Source != "2" {
			t.Errorf("got %+v", s.Hosts)
		}
		if k := s.Host("kept"); k.Report == nil || k.Limit() != 5 {
			t.Errorf("the kept host: %+v", k)
		}
		mu.Lock()
		if started["kept"] != 1 || started["changed"] != 2 || ended["gone"] != 1 || ended["kept"] != 0 {
			t.Errorf("started %v, ended %v", started, ended)
		}
		mu.Unlock()
		stop()
		mu.Lock()
		defer mu.Unlock()
		for name, n := range started {
			if ended[name] != n {
				t.Errorf("%s: started %d, ended %d", name, n, ended[name])
			}
		}
	})
}

func TestManyRequestsToRefreshBecomeFew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int32
		w := watcher{
			watch: func(ctx context.Context, _ sessions.Host, _ func(sessions.Report)) error {
				<-ctx.Done()
				return ctx.Err()
			},
			refresh: func() { asked.Add(1) },
		}
		inv := inventory.New([]inventory.Entry{{Host: host("a"), Watcher: w}}, nil, nil)
		stop := run(t, inv)
		defer stop()
		synctest.Wait()
		for range 1000 {
			inv.Refresh("a")
			time.Sleep(time.Millisecond)
		}
		time.Sleep(time.Second)
		if n := asked.Load(); n < 2 || n > 4 {
			t.Errorf("1000 requests within a second became %d readings", n)
		}
	})
}

// A crowd that never logs on is not worth a reading twice a second for ever; whoever
// does is seen soon.
func TestRequestsThatBringNoNewsBecomeFewer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int32
		var news atomic.Bool
		requests := make(chan struct{}, 1)
		w := watcher{
			watch: func(ctx context.Context, _ sessions.Host, publish func(sessions.Report)) error {
				for id := 1; ; {
					select {
					case <-requests:
					case <-ctx.Done():
						return ctx.Err()
					}
					if news.Load() {
						id++
					}
					publish(sessions.Report{ReadAt: time.Now(), Sessions: []sessions.Session{{ID: id}}})
				}
			},
			refresh: func() {
				asked.Add(1)
				requests <- struct{}{}
			},
		}
		inv := inventory.New([]inventory.Entry{{Host: host("a"), Watcher: w}}, nil, nil)
		stop := run(t, inv)
		defer stop()
		synctest.Wait()
		crowd := func(d time.Duration) (readings int32) {
			before := asked.Load()
			for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
				inv.Refresh("a")
			}
			return asked.Load() - before
		}
		if n := crowd(time.Minute); n < 12 || n > 24 {
			t.Errorf("%d readings in a minute without news", n)
		}
		news.Store(true)
		crowd(5 * time.Second)
		if n := crowd(10 * time.Second); n < 18 || n > 21 {
			t.Errorf("%d readings in ten seconds with news each time", n)
		}
		news.Store(false)
		crowd(20 * time.Second)
		time.Sleep(10 * time.Second)
		before := asked.Load()
		inv.Refresh("a")
		if asked.Load() == before {
			t.Error("after a pause it is not read at once")
		}
	})
}

func TestSnapshotsArriveInOrderAndRefreshReachesTheWatcher(t *testing.T) {
	asked := make(chan struct{}, 1)
	pub := make(chan func(sessions.Report), 1)
	w := watcher{
		watch: func(ctx context.Context, _ sessions.Host, publish func(sessions.Report)) error {
			pub <- publish
			<-ctx.Done()
			return errors.New("over")
		},
		refresh: func() { asked <- struct{}{} },
	}
	var seen []int
	inv := inventory.New([]inventory.Entry{{Host: host("a"), Watcher: w}}, func(s *sessions.Snapshot) {
		if r := s.Host("a").Report; r != nil {
			seen = append(seen, r.Limit)
		}
	}, nil)
	stop := run(t, inv)
	publish := <-pub
	for i := range 100 {
		publish(sessions.Report{Limit: i + 1})
	}
	inv.Refresh("a")
	<-asked
	inv.Refresh("nobody") // an unknown host is no error
	stop()
	for i, n := range seen {
		if i > 0 && n < seen[i-1] {
			t.Fatalf("out of order at %d: %v", i, seen)
		}
	}
	if len(seen) < 100 {
		t.Errorf("saw %d snapshots", len(seen))
	}
}

// Two readings of a session tell whether it works, and a reload forgets neither.
func TestReadingsAreCompared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		w := watcher{watch: func(ctx context.Context, _ sessions.Host, publish func(sessions.Report)) error {
			for ctx.Err() == nil {
				work := int64(time.Since(began) / 10 / sessions.CPUTick)
				publish(sessions.Report{ReadAt: time.Now(), Sessions: []sessions.Session{
					{ID: 1, Account: sessions.Account{User: "a"}, State: sessions.StateDisconnected, CPUTime: 1 + work},
				}})
				time.Sleep(15 * time.Second)
			}
			return ctx.Err()
		}}
		entry := inventory.Entry{Host: host("a"), Watcher: w, Same: 1}
		inv := inventory.New([]inventory.Entry{entry}, nil, nil)
		defer run(t, inv)()
		time.Sleep(50 * time.Second)
		if u := inv.Snapshot().Host("a").Usage; len(u) != 0 {
			t.Errorf("too early: %+v", u)
		}
		inv.Apply([]inventory.Entry{entry})
		time.Sleep(20 * time.Second)
		for range 2 {
			if u := inv.Snapshot().Host("a").Usage[1]; u.Over != time.Minute || u.CPU < 0.09 || u.CPU > 0.11 {
				t.Errorf("%+v", u)
			}
			inv.Apply([]inventory.Entry{entry})
		}
	})
}
