package broker_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rdpbroker/rdpbroker/broker/audit"
	"github.com/rdpbroker/rdpbroker/broker/placement"
	"github.com/rdpbroker/rdpbroker/sessions"
)

func TestTheQueueIsServedInTheOrderOfArrival(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		farm := evicting()
		farm.Wait = time.Hour
		ts1 := newHost("ts1", 4)
		for i := range 4 {
			ts1.with(fmt.Sprintf("busy%d", i), 0)
		}
		w := newWorld(t, farm, ts1)
		var queue []*caller
		for i := range 4 {
			time.Sleep(time.Second)
			queue = append(queue, w.connect(named(fmt.Sprintf("user%d", i))).expect("waiting"))
		}
		for i := range 4 {
			w.logoff("ts1", fmt.Sprintf("busy%d", i))
			w.read()
			for j, c := range queue {
				if got, want := !c.waiting(), j <= i; got != want {
					t.Fatalf("after %d logoffs user%d is served: %v", i+1, j, got)
				}
			}
		}
	})
}

// A slot that time alone makes free, between two looks at the queue, does not go
// to whoever happens to come by.
func TestNobodyOvertakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		farm := evicting()
		farm.Wait = time.Hour
		w := newWorld(t, farm, newHost("ts1", 1))
		w.connect(named("alice")).expect("ts1").a.Close(errors.New("connection refused"))
		time.Sleep(500 * time.Millisecond) // so that looks at the queue fall between
		bob := w.connect(named("bob")).expect("waiting")
		time.Sleep(4*time.Second + 600*time.Millisecond) // the host is not left alone any more
		carol := w.connect(named("carol"))
		carol.expect("waiting")
		bob.expect("ts1")
	})
}

func TestWhatIsOnesOwnComesOutOfTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, evicting(), newHost("ts1", 2).with("zoe", 0).with("yan", 0))
		first := w.connect(named("alice")).expect("waiting")
		second := w.connect(named("bob")).expect("waiting")
		w.logoff("ts1", "yan")
		if err := w.logon("ts1", "bob"); err != nil { // past the broker
			t.Fatal(err)
		}
		w.disconnect("ts1", "bob")
		w.read()
		second.expect("ts1")
		first.expect("waiting")
	})
}

// Two connections of one logon wait in one place.
func TestWaitingTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, evicting(), newHost("ts1", 2).with("zoe", 0).with("yan", 0))
		one := w.connect(named("alice")).expect("waiting")
		bob := w.connect(named("bob")).expect("waiting")
		two := w.connect(named("alice")).expect("waiting")
		w.logoff("ts1", "zoe")
		w.read()
		one.expect("ts1")
		two.expect("ts1")
		bob.expect("waiting")
		if one.a.Reservation != two.a.Reservation {
			t.Error("they hold two slots")
		}
	})
}

// Time alone can make a session old enough; the queue is looked at without an event.
func TestTimeServesTheQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		farm := evicting()
		farm.Wait = time.Hour
		w := newWorld(t, farm, newHost("ts1", 1).with("old", 30*time.Minute))
		c := w.connect(named("alice"))
		time.Sleep(29*time.Minute + 30*time.Second)
		c.expect("waiting")
		time.Sleep(32 * time.Second)
		c.expect("ts1")
		if w.has("ts1", "old") {
			t.Error("nobody was logged off")
		}
	})
}

func TestANewConfigurationServesTheQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		farm := evicting()
		farm.Policy.Eviction.Mode = placement.Off
		w := newWorld(t, farm, newHost("ts1", 1).with("old", 9*time.Hour))
		c := w.connect(named("alice")).expect("waiting")
		w.farm.Policy.Eviction.Mode = placement.Evict
		w.b.SetConfig(w.config())
		c.expect("ts1")
	})
}

// Whoever comes back because their victim would not go is older than those who
// came while it was tried.
func TestAFailedEvictionDoesNotCostThePlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		farm := evicting()
		farm.Wait = time.Hour
		farm.Policy.Eviction.PerHostPerHour = 1 // alice's is the only one
		w := newWorld(t, farm, newHost("ts1", 2).with("old", 9*time.Hour).with("zoe", 0))
		w.setEvictor("ts1", func(ctx context.Context, h sessions.Host, v sessions.Session) error {
			<-ctx.Done()
			return &sessions.StuckError{Ref: sessions.RefOf(h.Name, v), State: sessions.StateDown}
		})
		alice := w.connect(named("alice")).expect("waiting")
		time.Sleep(time.Second)
		bob := w.connect(named("bob")).expect("waiting")
		time.Sleep(2 * time.Minute) // alice has been told that it takes too long
		w.logoff("ts1", "zoe")
		w.read()
		alice.expect("ts1")
		bob.expect("waiting")
	})
}

// Patience that runs out in the moment in which somebody is served is not
// refused then, but has no more time either if that comes to nothing. Which of
// the two comes first is a matter of luck, so it is tried several times.
func TestPatienceRunsOutOnce(t *testing.T) {
	for range 30 {
		synctest.Test(t, func(t *testing.T) {
			farm := evicting()
			farm.Wait = time.Minute
			farm.Policy.Eviction.MinDisconnected = farm.Wait
			w := newWorld(t, farm, newHost("ts1", 1).with("old", time.Nanosecond))
			w.setEvictor("ts1", func(ctx context.Context, h sessions.Host, v sessions.Session) error {
				time.Sleep(10 * time.Second)
				return &sessions.RefusedError{Ref: sessions.RefOf(h.Name, v), Why: "not today"}
			})
			c := w.connect(named("alice")).expect("waiting")
			time.Sleep(farm.Wait + time.Minute)
			if c.waiting() {
				t.Fatalf("still waiting; events: %q", w.events())
			}
		})
	}
}

// A host on which nothing can log anybody off is passed over, also when the
// queue is served.
func TestTheQueueSurvivesAHostWithoutAnEvictor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		farm := evicting()
		farm.Wait = 2 * time.Hour
		w := newWorld(t, farm, newHost("ts1", 1).with("older", 30*time.Minute+time.Millisecond), newHost("ts2", 1).with("old", 30*time.Minute))
		w.setEvictor("ts1", nil)
		alice := w.connect(named("alice")).expect("waiting")
		bob := w.connect(named("bob")).expect("waiting")
		time.Sleep(31 * time.Minute) // both have become old enough at once
		alice.expect("ts2")
		bob.expect("waiting")
		if !w.has("ts1", "older") || w.count(audit.Evicting) != 1 {
			t.Errorf("events: %q", w.events())
		}
	})
}
