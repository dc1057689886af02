package broker_test

import (
	"context"
	"encoding/json"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rdpbroker/rdpbroker/broker"
	"github.com/rdpbroker/rdpbroker/sessions"
)

// succeed passes everything from w's broker to a new one on the same hosts, as JSON.
func succeed(t *testing.T, w *world) *world {
	t.Helper()
	text, err := json.Marshal(w.b.HandOver())
	if err != nil {
		t.Fatal(err)
	}
	var carried []broker.CarriedLogon
	if err := json.Unmarshal(text, &carried); err != nil {
		t.Fatal(err)
	}
	next := newWorld(t, w.farm, w.hosts...)
	if err := next.b.TakeOver(carried); err != nil {
		t.Error(err)
	}
	return next
}

// Whoever was promised a slot by the old process has it in the new one: nobody else
// gets it, and the caller's next connection leads to the same host.
func TestASlotOutlivesItsBroker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, evicting(), newHost("ts1", 1))
		old := w.connect(named("alice")).expect("ts1")
		id := old.a.Reservation

		next := succeed(t, w)
		next.connect(named("bob")).expect("waiting")
		a := next.b.Resume(id, sessions.Host{Name: "ts1"})
		time.Sleep(time.Minute) // longer than a reservation outlives its last connection
		next.connect(named("alice")).expect("ts1")
		if st := next.b.Status(); len(st.Reservations) != 1 {
			t.Errorf("%+v", st.Reservations)
		}
		next.mustLogon(t, "ts1", "alice")
		next.read()
		next.expectSeen(t, 1, 0)
		a.Close(nil)
		a.Close(nil)
	})
}

// A slot that no connection comes back for is given to somebody else soon.
func TestASlotThatNobodyResumesIsGivenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, evicting(), newHost("ts1", 1))
		w.connect(named("alice")).expect("ts1")
		next := succeed(t, w)
		bob := next.connect(named("bob")).expect("waiting")
		time.Sleep(16 * time.Second)
		next.read()
		time.Sleep(2 * time.Second)
		bob.expect("ts1")
	})
}

// A connection whose reservation is gone goes on without one.
func TestResumeWithoutAReservation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, evicting(), newHost("ts1", 1))
		a := w.b.Resume(4711, sessions.Host{Name: "ts1"})
		if a.Host.Name != "ts1" || a.NeedsProof {
			t.Errorf("%+v", a)
		}
		a.Close(nil)
		w.connect(named("bob")).expect("ts1")
	})
}

// Nothing that still waits for a logoff is handed over: it is decided anew.
func TestWhoWaitsForALogoffIsNotHandedOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, evicting(), newHost("ts1", 1).with("old", 9*time.Hour))
		w.setEvictor("ts1", func(ctx context.Context, _ sessions.Host, _ sessions.Session) error { <-ctx.Done(); return ctx.Err() })
		w.connect(named("alice")).expect("waiting")
		if got := w.b.HandOver(); len(got) != 0 {
			t.Errorf("handed over: %+v", got)
		}
	})
}
