package broker_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/rdpbroker/rdpbroker/broker"
	"github.com/rdpbroker/rdpbroker/broker/audit"
	"github.com/rdpbroker/rdpbroker/broker/ledger"
	"github.com/rdpbroker/rdpbroker/broker/placement"
	"github.com/rdpbroker/rdpbroker/sessions"
)

// Sixty-four users at once, three free slots, four sessions that may go: seven
// are served, each by one slot of their own, and the rest one by one in the
// order in which they came.
func TestACrowd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		farm := evicting()
		farm.Wait = time.Hour
		farm.Policy.Eviction.Protect = []string{"svc-*"}
		stale := newHost("ts4", 1).with("unread", 99*time.Hour)
		stale.FreshFor = -1 // never fresh
		w := newWorld(t, farm,
			newHost("ts1", 5).with("old1", 9*time.Hour).with("old2", 8*time.Hour).with("busy1", 0).with("svc-backup", 99*time.Hour),
			newHost("ts2", 4).with("old3", 7*time.Hour).with("recent", 10*time.Minute).with("busy2", 0),
			newHost("ts3", 3).with("old4", 6*time.Hour).with("busy3", 0),
			stale,
		)
		var mu sync.Mutex
		victims := map[string]int{}
		for _, h := range w.model.hosts {
			name := h.Host.Name
			w.setEvictor(name, func(_ context.Context, h sessions.Host, v sessions.Session) error {
				time.Sleep(5 * time.Second)
				mu.Lock()
				victims[v.Account.User]++
				mu.Unlock()
				return w.model.evict(h.Name, v)
			})
		}

		var crowd []*caller
		for i := range 64 {
			crowd = append(crowd, w.arrive(named(fmt.Sprintf("user%02d", i))))
		}
		synctest.Wait()
		time.Sleep(6 * time.Second)

		mu.Lock()
		if want := map[string]int{"old1": 1, "old2": 1, "old3": 1, "old4": 1}; !maps.Equal(victims, want) {
			t.Errorf("logged off: %v", victims)
		}
		mu.Unlock()
		var served []*caller
		for _, c := range crowd {
			if !c.waiting() {
				served = append(served, c)
			}
		}
		if len(served) != 7 {
			t.Fatalf("%d of 64 are served, there were 3 free slots and 4 victims", len(served))
		}
		w.logAllOn(t, served)
		w.read()
		if st := w.b.Status(); len(st.Waiting) != 57 {
			t.Fatalf("%d wait", len(st.Waiting))
		}

		// One by one: somebody logs off, the one who has waited longest is next.
		for range 57 {
			next := w.b.Status().Waiting[0].Identity.Said
			gone := served[0]
			served = served[1:]
			gone.a.Close(nil)
			w.logoff(gone.a.Host.Name, gone.name)
			w.read()
			i := slices.IndexFunc(crowd, func(c *caller) bool { return c.name == next })
			if crowd[i].waiting() {
				t.Fatalf("a slot is free on %s and %s is next, but not served", gone.a.Host.Name, next)
			}
			if got := w.b.Status().Waiting; len(got) > 0 && got[0].Identity.Said == next {
				t.Fatalf("%s was served and still waits", next)
			}
			w.logAllOn(t, crowd[i:i+1])
			served = append(served, crowd[i])
			w.read()
		}
		if n := w.count(audit.Evicting); n != 4 {
			t.Errorf("%d evictions", n)
		}
	})
}

// slowLedger takes its time, and counts how often it is asked: once for each
// decision.
type slowLedger struct {
	ledger.Memory
	asked atomic.Int64
}

func (l *slowLedger) List(ctx context.Context, farm string, now time.Time) ([]ledger.Reservation, uint64, error) {
	l.asked.Add(1)
	time.Sleep(200 * time.Microsecond)
	return l.Memory.List(ctx, farm, now)
}

// Strangers who come and go while many wait do not have all of those looked at each
// time. This runs by the clock on the wall, because it is about what takes long.
func TestACrowdIsNotLookedAtForEverybodyWhoLeaves(t *testing.T) {
	const many = 40
	m := &model{hosts: []*modelHost{newHost("ts1", many+1).with("alice", time.Minute)}}
	farm := evicting()
	farm.Wait = time.Hour
	slow := &slowLedger{}
	b := broker.New(broker.Config{Farms: map[string]broker.Farm{"office": farm}}, broker.Deps{Ledger: slow})
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	defer running.Wait()
	defer stop()
	running.Go(func() { _ = b.Run(ctx) })
	b.Observe(m.snapshot())
	var in []*broker.Assignment
	for i := range many {
		a, err := b.Admit(ctx, "office", named(fmt.Sprintf("in%02d", i)))
		if err != nil {
			t.Fatal(err)
		}
		in = append(in, a)
	}
	for i := range many {
		running.Go(func() { _, _ = b.Admit(ctx, "office", named(fmt.Sprintf("out%02d", i))) })
	}
	for len(b.Status().Waiting) < many {
		time.Sleep(time.Millisecond)
	}
	before := slow.asked.Load()
	for _, a := range in { // nobody has logged on: their slots are kept for a while
		a.Close(nil)
	}
	if n := slow.asked.Load() - before; n > many*many/2 {
		t.Errorf("%d decisions for %d who have left, while as many wait", n, many)
	}
	a, err := b.Admit(ctx, "office", named("alice")) // who has a session waits for nobody
	if err != nil {
		t.Fatal(err)
	}
	a.Close(nil)
}

func (w *world) logAllOn(t *testing.T, cs []*caller) {
	t.Helper()
	for _, c := range cs {
		if c.err != nil {
			t.Fatalf("%s: %v", c.name, c.err)
		}
		w.mustLogon(t, c.a.Host.Name, c.name)
	}
}

// Two brokers on one ledger, with real goroutines: a slot is promised once, a
// victim chosen once, and whoever loses a race decides again.
func TestTwoBrokersOneLedger(t *testing.T) {
	defer goleak.VerifyNone(t)
	const hosts, slots, stale, callers = 4, 3, 2, 40
	var hs []sessions.HostState
	now := time.Now()
	for i := range hosts {
		r := &sessions.Report{ReadAt: now, Limit: slots + stale, CountsDisconnected: sessions.Yes}
		for j := range stale {
			r.Sessions = append(r.Sessions, sessions.Session{ID: j + 1, Account: sessions.Account{User: fmt.Sprintf("old%d-%d", i, j)}, State: sessions.StateDisconnected, DisconnectedAt: now.Add(-time.Duration(2+j) * time.Hour)})
		}
		hs = append(hs, sessions.HostState{Host: sessions.Host{Name: fmt.Sprintf("ts%d", i), Farm: farmName}, Report: r, FreshFor: time.Hour})
	}
	snap := sessions.NewSnapshot(hs)

	var mu sync.Mutex
	evicted := map[sessions.Ref]int{}
	races := 0
	store := new(ledger.Memory)
	var meet sync.WaitGroup // the brokers' first decisions are made on the same version
	meet.Add(2)
	farm := evicting()
	farm.Wait = 10 * time.Second
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	var brokers []*broker.Broker
	for range 2 {
		b := broker.New(broker.Config{Farms: map[string]broker.Farm{farmName: farm}}, broker.Deps{
			Ledger: &racing{Memory: store, meet: &meet, lost: func() { mu.Lock(); races++; mu.Unlock() }},
			Evictor: func(string) broker.Evictor {
				return evictor{func(_ context.Context, h sessions.Host, v sessions.Session) error {
					mu.Lock()
					defer mu.Unlock()
					evicted[sessions.RefOf(h.Name, v)]++
					return nil
				}}
			},
		})
		b.Observe(snap)
		brokers = append(brokers, b)
		running.Add(1)
		go func() {
			defer running.Done()
			if err := b.Run(ctx); err != nil {
				t.Error(err)
			}
		}()
	}

	var done sync.WaitGroup
	var promised []*broker.Assignment
	enough := make(chan struct{}) // closed when all slots are taken
	for i := range callers {
		done.Add(1)
		go func() {
			defer done.Done()
			a, err := brokers[i%2].Admit(ctx, farmName, named(fmt.Sprintf("user%d", i)))
			if err != nil {
				if !errors.Is(err, context.Canceled) && !errors.Is(err, broker.ErrClosed) {
					t.Errorf("user%d: %v", i, err)
				}
				return
			}
			mu.Lock()
			defer mu.Unlock()
			promised = append(promised, a)
			if len(promised) == hosts*(slots+stale) {
				close(enough)
			}
		}()
	}
	select {
	case <-enough:
	case <-time.After(8 * time.Second):
		t.Error("not all slots were given out")
	}
	time.Sleep(50 * time.Millisecond) // somebody might get too much
	rs, _, _ := store.List(ctx, farmName, time.Now())
	cancel()
	done.Wait()
	running.Wait()

	mu.Lock()
	defer mu.Unlock()
	perHost, ids := map[string]int{}, map[uint64]bool{}
	for _, a := range promised {
		perHost[a.Host.Name]++
		if ids[a.Reservation] {
			t.Errorf("reservation %d was given out twice", a.Reservation)
		}
		ids[a.Reservation] = true
	}
	for name, n := range perHost {
		if n > slots+stale {
			t.Errorf("%d promises on %s, which has %d slots", n, name, slots+stale)
		}
	}
	if len(rs) != hosts*(slots+stale) {
		t.Errorf("%d reservations for %d slots", len(rs), hosts*(slots+stale))
	}
	used := map[sessions.Ref]int{}
	for _, r := range rs {
		if r.Decision.Kind == placement.MakeRoom {
			used[r.Decision.Victim.Ref()]++
		}
	}
	if len(evicted) != hosts*stale || len(used) != hosts*stale {
		t.Errorf("%d victims for %d sessions", len(evicted), hosts*stale)
	}
	for ref, n := range evicted {
		if n != 1 || used[ref] != 1 {
			t.Errorf("%s was told to go %d times, for %d callers", ref, n, used[ref])
		}
	}
	if races == 0 {
		t.Error("no race was lost, so nothing was tried")
	}
}

// racing is one broker's view of a shared ledger: its first question waits until the
// other broker has read too, and every conflict is told of.
type racing struct {
	*ledger.Memory
	once sync.Once
	meet *sync.WaitGroup
	lost func()
}

func (r *racing) Changes(ctx context.Context, farm string, since uint64, now time.Time) (ledger.Changes, error) {
	c, err := r.Memory.Changes(ctx, farm, since, now)
	r.once.Do(func() {
		r.meet.Done()
		r.meet.Wait()
	})
	return c, err
}

func (r *racing) Reserve(ctx context.Context, res ledger.Reservation, version uint64) (ledger.Reservation, error) {
	res, err := r.Memory.Reserve(ctx, res, version)
	if errors.Is(err, ledger.ErrConflict) {
		r.lost()
	}
	return res, err
}
