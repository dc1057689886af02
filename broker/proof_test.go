package broker_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rdpbroker/rdpbroker/broker"
	"github.com/rdpbroker/rdpbroker/broker/audit"
	"github.com/rdpbroker/rdpbroker/broker/placement"
	"github.com/rdpbroker/rdpbroker/sessions"
)

// proving is a farm that gives up sessions after the host's acceptance only.
func proving() broker.Farm {
	farm := evicting()
	farm.Policy.Eviction.Proof = placement.Credentials
	return farm
}

// accepted starts to tell c's assignment of the acceptance.
func (c *caller) accepted() (done chan error, cancel context.CancelFunc) {
	c.w.t.Helper()
	if c.waiting() || c.err != nil {
		c.w.t.Fatalf("there is no connection: %s", c.host())
	}
	ctx, cancel := context.WithCancel(c.w.t.Context())
	c.w.t.Cleanup(cancel)
	done = make(chan error, 1)
	go func() { done <- c.a.Accepted(ctx) }()
	synctest.Wait()
	return done, cancel
}

func (w *world) slowEvictor(host string, d time.Duration) {
	w.setEvictor(host, func(_ context.Context, h sessions.Host, v sessions.Session) error {
		time.Sleep(d)
		return w.model.evict(h.Name, v)
	})
}

// The victim is named with the reservation, and goes with the acceptance.
func TestTheVictimWaitsForProof(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, proving(), newHost("ts1", 1).with("old", 9*time.Hour))
		w.slowEvictor("ts1", 5*time.Second)
		alice := w.connect(named("alice")).expect("ts1")
		if !alice.a.NeedsProof || w.count(audit.Evicting) != 0 || !w.has("ts1", "old") {
			t.Fatalf("%+v, events %q", alice.a, w.events())
		}
		w.connect(named("bob")).expect("waiting") // the victim is promised
		time.Sleep(time.Minute)                   // she types her password
		w.read()
		if !w.has("ts1", "old") {
			t.Fatal("nobody has shown proof")
		}
		done, _ := alice.accepted()
		again, _ := alice.accepted()
		second := w.connect(named("alice")).expect("waiting") // for the logoff
		time.Sleep(6 * time.Second)
		if err := errors.Join(<-done, <-again); err != nil {
			t.Fatal(err)
		}
		if second.expect("ts1"); second.a.NeedsProof || second.a.Reservation != alice.a.Reservation {
			t.Errorf("the second connection: %+v", second.a)
		}
		if err := second.a.Accepted(t.Context()); err != nil {
			t.Error(err)
		}
		if got, want := w.events()[:1], []string{"decided make-room"}; !slices.Equal(got, want) || w.count(audit.Evicting) != 1 || w.count(audit.Evicted) != 1 {
			t.Errorf("events %q", w.events())
		}
		w.mustLogon(t, "ts1", "alice")
		w.read()
	})
}

// Two connections of one logon: both wait for proof, one of them shows it.
func TestOneProofIsEnough(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, proving(), newHost("ts1", 1).with("old", 9*time.Hour))
		probe := w.connect(named("alice")).expect("ts1")
		logon := w.connect(named("alice")).expect("ts1")
		if !probe.a.NeedsProof || !logon.a.NeedsProof || probe.a.Reservation != logon.a.Reservation {
			t.Fatalf("%+v, %+v", probe.a, logon.a)
		}
		done, _ := logon.accepted()
		late, _ := probe.accepted()
		if err := errors.Join(<-done, <-late); err != nil {
			t.Error(err)
		}
		if w.count(audit.Evicting) != 1 {
			t.Errorf("events %q", w.events())
		}
	})
}

// Whoever leaves without proof has nobody logged off. Their promise outlives them,
// for their next connection, until somebody else needs it.
func TestNoProofNoEviction(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		farm := proving()
		farm.Wait = time.Hour
		w := newWorld(t, farm, newHost("ts1", 1).with("old", 9*time.Hour))
		first := w.connect(named("alice")).expect("ts1")
		bob := w.connect(named("bob")).expect("waiting")
		bob.cancel()
		first.close()
		again := w.connect(named("alice")).expect("ts1")
		if !again.a.NeedsProof || again.a.Reservation != first.a.Reservation {
			t.Errorf("another promise for the second connection: %+v", again.a)
		}
		again.close()
		w.connect(named("bob")).expect("ts1").close()
		waiting := w.connect(named("carol")).expect("ts1")
		late := w.connect(named("dave")).expect("waiting")
		waiting.close()
		if late.expect("ts1"); !late.a.NeedsProof {
			t.Errorf("%+v", late.a)
		}
		late.close()
		time.Sleep(16 * time.Second)
		w.read()
		time.Sleep(2 * time.Second)
		if n := len(w.b.Status().Reservations); n != 0 || w.count(audit.Evicting) != 0 || !w.has("ts1", "old") {
			t.Errorf("%d reservations, events %q", n, w.events())
		}
	})
}

// A client that gives up while room is made comes back and finds it.
func TestComingBackDuringTheEviction(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, proving(), newHost("ts1", 1).with("old", 9*time.Hour))
		w.slowEvictor("ts1", 40*time.Second)
		alice := w.connect(named("alice")).expect("ts1")
		done, cancel := alice.accepted()
		time.Sleep(9 * time.Second)
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		alice.close()
		time.Sleep(20 * time.Second)
		w.read()
		w.connect(named("bob")).expect("waiting").cancel()
		back := w.connect(named("alice")).expect("waiting")
		back.cancel()
		time.Sleep(20 * time.Second) // it is done meanwhile, and nobody is there
		w.read()
		w.connect(named("bob")).expect("waiting").cancel()
		back = w.connect(named("alice")).expect("ts1")
		if back.a.NeedsProof || back.a.Reservation != alice.a.Reservation || w.count(audit.Evicting) != 1 {
			t.Errorf("%+v, events %q", back.a, w.events())
		}
		w.mustLogon(t, "ts1", "alice")
	})
}

// What has changed between the decision and the proof counts.
func TestProofIsJudgedAnew(t *testing.T) {
	for _, c := range []struct {
		name    string
		change  func(w *world)
		want    string // error; "" for none
		evicted int
	}{
		{name: "nothing", change: func(*world) {}, evicted: 1},
		{name: "a slot has become free", change: func(w *world) { w.logoff("ts1", "old") }},
		{name: "the victim is back, and there is another one", change: func(w *world) { _ = w.logon("ts1", "old") }, evicted: 1},
		{name: "all are back", change: func(w *world) { _, _ = w.logon("ts1", "old"), w.logon("ts1", "older") }, want: "no room on ts1 any more"},
		{name: "eviction was switched off", change: func(w *world) { w.farm.Policy.Eviction.Mode = placement.Off }, want: "eviction is off"},
		{name: "only shadows", change: func(w *world) { w.farm.Policy.Eviction.Mode = placement.Shadow }, want: "shadow"},
		{name: "both are protected now", change: func(w *world) { w.farm.Policy.Eviction.Protect = []string{"old*"} }, want: "no room"},
		{name: "too late", change: func(*world) { time.Sleep(3 * time.Minute) }, want: "ended before"},
		{name: "too late, and somebody has looked", change: func(w *world) {
			time.Sleep(3 * time.Minute)
			w.connect(named("bob")).cancel()
		}, want: "ended before"},
		{name: "the host's own session is back for the caller", change: func(w *world) {
			w.logoff("ts1", "old")
			_ = w.logon("ts1", "alice")
			w.disconnect("ts1", "alice")
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, proving(), newHost("ts1", 2).with("old", 9*time.Hour).with("older", 10*time.Hour))
				alice := w.connect(named("alice")).expect("ts1")
				c.change(w)
				w.b.SetConfig(w.config())
				w.read()
				done, _ := alice.accepted()
				err := <-done
				if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
					t.Errorf("%v, want %q", err, c.want)
				}
				if n := w.count(audit.Evicted); n != c.evicted {
					t.Errorf("%d evictions: %q", n, w.events())
				}
				if err != nil {
					if again, _ := alice.accepted(); <-again == nil {
						t.Error("the second time there was room")
					}
				}
			})
		})
	}
}

// A logoff that fails is an error for the caller, and their next connection is
// decided anew.
func TestProofAndARefusedLogoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, proving(), newHost("ts1", 1).with("older", 10*time.Hour), newHost("ts2", 1).with("old", 9*time.Hour))
		w.setEvictor("ts1", func(_ context.Context, h sessions.Host, v sessions.Session) error {
			return &sessions.RefusedError{Ref: sessions.RefOf(h.Name, v), Why: "the user is connected again"}
		})
		alice := w.connect(named("alice")).expect("ts1")
		done, _ := alice.accepted()
		if err := <-done; err == nil {
			t.Error("there is no room")
		}
		alice.close()
		next := w.connect(named("alice")).expect("ts2")
		done, _ = next.accepted()
		if err := <-done; err != nil || w.has("ts2", "old") || !w.has("ts1", "older") {
			t.Errorf("%v, events %q", err, w.events())
		}
	})
}

// A host that asks for no password gives no proof to wait for.
func TestUnproven(t *testing.T) {
	for _, c := range []struct {
		name   string
		id     sessions.Identity
		refuse bool
		want   string
	}{
		{name: "a known user", id: named("alice"), want: "ts1"},
		{name: "a stranger", id: stranger(1), want: "refused"},
		{name: "a known user, refused", id: named("alice"), refuse: true, want: "refused"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				farm := proving()
				farm.Policy.Eviction.RefuseUnproven = c.refuse
				ts1 := newHost("ts1", 1).with("old", 9*time.Hour)
				ts1.sessions[0].ClientAddr = client
				w := newWorld(t, farm, ts1)
				first := w.connect(c.id).expect("ts1")
				first.close()
				var a *broker.Assignment
				var err error
				began := time.Now()
				a, err = w.b.AdmitUnproven(t.Context(), farmName, c.id, "ts1")
				var refused *broker.RefusedError
				switch {
				case c.want == "ts1" && (err != nil || a.NeedsProof || w.has("ts1", "old") || a.Reservation == first.a.Reservation):
					t.Errorf("%+v, %v, events %q", a, err, w.events())
				case c.want == "refused" && (!errors.As(err, &refused) || time.Since(began) != farm.Wait || !w.has("ts1", "old")):
					t.Errorf("after %s: %v, events %q", time.Since(began), err, w.events())
				}
				if err := first.a.Accepted(t.Context()); c.want != "ts1" && err == nil {
					t.Error("the first connection got room after all")
				}
			})
		})
	}
}

// Somebody else's connection in the same name does not take away what waits for proof.
func TestUnprovenBesideProof(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, proving(), newHost("ts1", 2).with("old", 9*time.Hour).with("older", 10*time.Hour))
		alice := w.connect(named("alice")).expect("ts1")
		a, err := w.b.AdmitUnproven(t.Context(), farmName, named("alice"), "ts1")
		if err != nil || a.Reservation == alice.a.Reservation {
			t.Fatalf("%+v, %v", a, err)
		}
		done, _ := alice.accepted()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if w.count(audit.Evicted) != 2 {
			t.Errorf("events %q", w.events())
		}
		// Each of the two says on what evidence.
		for _, r := range w.records {
			want := map[uint64]audit.Evidence{alice.a.Reservation: audit.Credentials, a.Reservation: audit.KnownUser}[r.Reservation]
			if r.Event == audit.Evicted && r.Evidence != want {
				t.Errorf("reservation %d is on evidence %q, not %q", r.Reservation, r.Evidence, want)
			}
		}
	})
}
