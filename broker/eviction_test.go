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

func TestAnEvictionMakesRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, evicting(), newHost("ts1", 2).with("old", 9*time.Hour).with("older", 10*time.Hour))
		w.setEvictor("ts1", func(ctx context.Context, h sessions.Host, v sessions.Session) error {
			time.Sleep(5 * time.Second)
			return w.model.evict(h.Name, v)
		})
		c := w.connect(named("alice")).expect("waiting") // for the logoff, not in the queue
		if st := w.b.Status(); len(st.Waiting) != 0 || len(st.Leaving) != 1 {
			t.Errorf("%+v", st)
		}
		time.Sleep(6 * time.Second)
		c.expect("ts1")
		if w.has("ts1", "older") || !w.has("ts1", "old") {
			t.Error("not the stalest was logged off")
		}
		if got, want := w.events(), []string{"decided make-room", "evicting older", "evicted older"}; !slices.Equal(got, want) {
			t.Errorf("events %q", got)
		}
		if !slices.Contains(w.asked, "ts1") {
			t.Error("no new reading was asked for")
		}
		if err := w.logon("ts1", "alice"); err != nil {
			t.Error(err)
		}
		w.read()
		if st := w.b.Status(); len(st.Leaving) != 0 || st.Reservations[0].Seen == nil {
			t.Errorf("after the reading: %+v", st)
		}
	})
}

// What becomes of the caller, the victim and its slot, by what the host answers.
func TestEvictionOutcomes(t *testing.T) {
	refuse := func(_ context.Context, h sessions.Host, v sessions.Session) error {
		return &sessions.RefusedError{Ref: sessions.RefOf(h.Name, v), Why: "the user is connected again"}
	}
	stick := func(ctx context.Context, h sessions.Host, v sessions.Session) error {
		<-ctx.Done()
		return &sessions.StuckError{Ref: sessions.RefOf(h.Name, v), State: sessions.StateDown}
	}
	lose := func(context.Context, sessions.Host, sessions.Session) error { return errors.New("connection reset") }
	for _, c := range []struct {
		name  string
		evict func(context.Context, sessions.Host, sessions.Session) error
		after time.Duration // when the next victim's turn comes
		event audit.Event
		again bool // after a new reading it may be chosen again
	}{
		{"refused", refuse, 0, audit.EvictionRefused, true},
		{"stuck", stick, 61 * time.Second, audit.EvictionStuck, false},
		{"outcome not known", lose, 0, audit.EvictionFailed, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				farm := evicting()
				farm.Wait = time.Hour
				w := newWorld(t, farm, newHost("ts1", 1).with("older", 10*time.Hour), newHost("ts2", 1).with("old", 9*time.Hour))
				w.setEvictor("ts1", c.evict)
				alice := w.connect(named("alice"))
				time.Sleep(c.after)
				alice.expect("ts2")
				if !w.has("ts1", "older") || w.has("ts2", "old") {
					t.Error("the wrong session is gone")
				}
				w.mustLogon(t, "ts2", "alice")
				w.readHost("ts2")
				bob := w.connect(named("bob")).expect("waiting") // its slot is not free, and it is not tried again
				time.Sleep(10 * time.Minute)
				bob.expect("waiting")
				if n := w.count(c.event); n != 1 {
					t.Errorf("%d times %s: %q", n, c.event, w.events())
				}

				tried := 0
				w.setEvictor("ts1", func(_ context.Context, h sessions.Host, v sessions.Session) error {
					tried++
					return w.model.evict(h.Name, v)
				})
				w.read()
				if c.again {
					bob.expect("ts1")
				} else {
					bob.expect("waiting")
					if tried > 0 {
						t.Error("a stuck session was chosen again")
					}
					w.logoff("ts1", "older") // somebody has mended it
					w.read()
					bob.expect("ts1")
				}
			})
		})
	}
}

// A logoff that takes long costs its caller the soft limit, and nobody gets its
// slot before it has come to an end and a reading shows it.
func TestASlowLogoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		farm := evicting()
		farm.Wait = time.Hour
		w := newWorld(t, farm, newHost("ts1", 1).with("older", 10*time.Hour), newHost("ts2", 1).with("old", 9*time.Hour))
		w.setEvictor("ts1", func(_ context.Context, h sessions.Host, v sessions.Session) error {
			time.Sleep(4 * time.Minute)
			return w.model.evict(h.Name, v)
		})
		alice := w.connect(named("alice"))
		second := w.connect(named("alice")) // her second connection shares her fate
		time.Sleep(59 * time.Second)
		alice.expect("waiting")
		time.Sleep(2 * time.Second)
		alice.expect("ts2")
		second.expect("ts2")
		if alice.a.Reservation != second.a.Reservation {
			t.Error("two slots for one logon")
		}
		w.mustLogon(t, "ts2", "alice")
		bob := w.connect(named("bob")).expect("waiting")
		w.read()
		bob.expect("waiting")
		time.Sleep(3 * time.Minute) // it is gone, no reading shows it yet
		bob.expect("waiting")
		w.read()
		bob.expect("ts1")
		if st := w.b.Status(); len(st.Leaving) != 0 {
			t.Errorf("still leaving: %+v", st.Leaving)
		}
	})
}

// The time that a logoff takes is not taken off the promise.
func TestAPromiseBeginsWhenTheVictimIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		farm := evicting()
		farm.Wait, farm.Reservation, farm.SoftLimit = time.Hour, 20*time.Second, time.Minute
		w := newWorld(t, farm, newHost("ts1", 1).with("old", 9*time.Hour))
		w.setEvictor("ts1", func(_ context.Context, h sessions.Host, v sessions.Session) error {
			time.Sleep(50 * time.Second)
			return w.model.evict(h.Name, v)
		})
		alice := w.connect(named("alice"))
		bob := w.connect(named("bob"))
		time.Sleep(51 * time.Second)
		alice.expect("ts1")
		w.read()
		time.Sleep(15 * time.Second)
		bob.expect("waiting")
		if err := w.logon("ts1", "alice"); err != nil {
			t.Error(err)
		}
		w.read()
		time.Sleep(time.Minute)
		bob.expect("waiting")
	})
}

// Whoever leaves while somebody is logged off for them leaves a slot behind: it
// goes to the next one.
func TestLeavingDuringAnEviction(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		farm := evicting()
		farm.Wait = time.Hour
		w := newWorld(t, farm, newHost("ts1", 1).with("old", 9*time.Hour))
		w.setEvictor("ts1", func(_ context.Context, h sessions.Host, v sessions.Session) error {
			time.Sleep(10 * time.Second)
			return w.model.evict(h.Name, v)
		})
		alice := w.connect(named("alice")).expect("waiting")
		bob := w.connect(named("bob")).expect("waiting")
		alice.cancel()
		alice.expect(context.Canceled.Error())
		if w.count(audit.Left) != 1 {
			t.Errorf("events %q", w.events())
		}
		time.Sleep(20 * time.Second)
		bob.expect("waiting")
		w.read()
		time.Sleep(2 * time.Second)
		bob.expect("ts1")
		if w.count(audit.Evicting) != 1 {
			t.Errorf("events %q", w.events())
		}
	})
}

// The user of a session that is being logged off is not sent to it, nor to a
// free slot on its host, where they would end up in it all the same.
func TestTheVictimsUserComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, evicting(), newHost("ts1", 2).with("old", 9*time.Hour).with("zoe", 0), newHost("ts2", 1).with("yan", 0))
		w.setEvictor("ts1", func(_ context.Context, h sessions.Host, v sessions.Session) error {
			time.Sleep(10 * time.Second)
			return w.model.evict(h.Name, v)
		})
		alice := w.connect(named("alice")).expect("waiting")
		w.logoff("ts1", "zoe") // a slot is free beside alice's
		w.read()
		old := w.connect(named("old")).expect("waiting")
		time.Sleep(15 * time.Second)
		alice.expect("ts1")
		old.expect("waiting")
		w.read() // it is gone
		old.expect("ts1")
	})
}

// A session that will not go does not lock its user out of a host for good.
func TestAStuckSessionsUserComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, evicting(), newHost("ts1", 2).with("old", 9*time.Hour).with("zoe", 0))
		w.setEvictor("ts1", func(ctx context.Context, h sessions.Host, v sessions.Session) error {
			<-ctx.Done()
			return &sessions.StuckError{Ref: sessions.RefOf(h.Name, v), State: sessions.StateDown}
		})
		w.connect(named("alice")).expect("waiting")
		time.Sleep(broker.DefaultHardLimit + time.Second)
		w.logoff("ts1", "zoe")
		w.read()
		w.connect(named("old")).expect("ts1")
	})
}

// SetConfig is the kill switch: what has begun is finished, nothing new begins.
func TestKillSwitch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, evicting(), newHost("ts1", 2).with("old", 9*time.Hour).with("older", 10*time.Hour))
		w.setEvictor("ts1", func(_ context.Context, h sessions.Host, v sessions.Session) error {
			time.Sleep(5 * time.Second)
			return w.model.evict(h.Name, v)
		})
		alice := w.connect(named("alice")).expect("waiting")
		for _, mode := range []placement.Mode{placement.Off, placement.Shadow} {
			w.farm.Policy.Eviction.Mode = mode
			w.b.SetConfig(w.config())
			w.connect(named("bob" + mode.String())).expect("waiting")
		}
		time.Sleep(10 * time.Second)
		alice.expect("ts1")
		if !w.has("ts1", "old") || w.count(audit.Evicting) != 1 {
			t.Errorf("events %q", w.events())
		}
	})
}

func TestShadowTouchesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		farm := evicting()
		farm.Policy.Eviction.Mode = placement.Shadow
		w := newWorld(t, farm, newHost("ts1", 1).with("old", 9*time.Hour))
		w.setEvictor("ts1", func(context.Context, sessions.Host, sessions.Session) error {
			t.Error("somebody was logged off")
			return nil
		})
		w.connect(named("alice")).expect("waiting")
		time.Sleep(10 * time.Second)
		w.mu.Lock()
		defer w.mu.Unlock()
		if r := w.records[0]; len(w.records) != 1 || r.Decision.Would == nil || r.Mode != "shadow" {
			t.Errorf("records %+v", w.records)
		}
	})
}

func TestCeilings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		farm := evicting()
		farm.Wait = 3 * time.Hour
		farm.Policy.Eviction.PerHostPerHour, farm.Policy.Eviction.PerClientPerHour = 2, 1
		ts1 := newHost("ts1", 4)
		for _, user := range []string{"a", "b", "c", "d"} {
			ts1.with("old-"+user, 9*time.Hour)
		}
		w := newWorld(t, farm, ts1, newHost("ts2", 1).with("old-e", 8*time.Hour))
		from := func(n int, name string) sessions.Identity {
			id := named(name)
			id.Client = stranger(n).Client
			return id
		}
		w.connect(from(1, "u1")).expect("ts1")
		u2 := w.connect(from(1, "u2")).expect("waiting") // the same client address
		w.connect(from(2, "u3")).expect("ts1")
		u4 := w.connect(from(3, "u4")).expect("ts2") // ts1 has had its two
		u5 := w.connect(from(4, "u5")).expect("waiting")
		if why := w.b.Status().Waiting; !strings.Contains(why[0].Reason, "already set off 1 evictions") {
			t.Errorf("u2 waits because %q", why[0].Reason)
		}
		// They have logged on, so their promises do not run out.
		for host, users := range map[string][]string{"ts1": {"u1", "u3"}, "ts2": {"u4"}} {
			for _, u := range users {
				if err := w.logon(host, u); err != nil {
					t.Fatal(err)
				}
			}
		}
		w.read()
		_ = u4
		time.Sleep(59 * time.Minute)
		u2.expect("waiting")
		u5.expect("waiting")
		time.Sleep(2 * time.Minute) // an hour later
		u2.expect("ts1")
		u5.expect("ts1")
	})
}

// A refused eviction touched nothing and is not counted, whoever else had one on
// the same host in the same moment.
func TestRefusalsDoNotCountForCeilings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		farm := evicting()
		farm.Policy.Eviction.PerClientPerHour = 1
		w := newWorld(t, farm, newHost("ts1", 2).with("first", 10*time.Hour).with("second", 9*time.Hour), newHost("ts2", 1).with("third", 8*time.Hour))
		w.setEvictor("ts1", func(_ context.Context, h sessions.Host, v sessions.Session) error {
			time.Sleep(time.Second)
			if v.Account.User == "second" {
				return &sessions.RefusedError{Ref: sessions.RefOf(h.Name, v), Why: "not this one"}
			}
			return w.model.evict(h.Name, v)
		})
		alice := w.connect(named("alice"))
		bob := w.connect(named("bob"))
		time.Sleep(2 * time.Second)
		alice.expect("ts1")
		bob.expect("ts2")
		// Alice's address has had its one, bob's has had its one.
		for _, name := range []string{"alice", "bob"} {
			id := named(name + "s-brother")
			id.Client = named(name).Client
			if d := w.b.Explain(farmName, id); !strings.Contains(d.Reason, "already set off 1 evictions") {
				t.Errorf("%s: %s", name, d.Reason)
			}
		}
	})
}

// A host that says no, or nothing that is understood, is not asked again after
// each of its readings while somebody waits.
func TestAHostThatSaysNoIsLeftAlone(t *testing.T) {
	for _, no := range []error{&sessions.RefusedError{Why: "access is denied"}, errors.New("connection reset")} {
		synctest.Test(t, func(t *testing.T) {
			farm := evicting()
			farm.Wait = time.Hour
			w := newWorld(t, farm, newHost("ts1", 1).with("old", 9*time.Hour))
			asked := 0
			w.setEvictor("ts1", func(context.Context, sessions.Host, sessions.Session) error {
				asked++
				return no
			})
			w.connect(named("alice")).expect("waiting")
			for range 60 {
				time.Sleep(time.Second)
				w.read()
			}
			if asked < 2 || asked > 5 {
				t.Errorf("%v: asked %d times in a minute", no, asked)
			}
		})
	}
}

func TestShutdown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, evicting(), newHost("ts1", 2).with("old", 9*time.Hour).with("zoe", 0), newHost("ts2", 1))
		var ended time.Time
		w.setEvictor("ts1", func(ctx context.Context, h sessions.Host, v sessions.Session) error {
			<-ctx.Done()
			time.Sleep(3 * time.Second) // a driver that has to tidy up
			ended = time.Now()
			return &sessions.StuckError{Ref: sessions.RefOf(h.Name, v), State: sessions.StateDisconnected}
		})
		placed := w.connect(named("dave")).expect("ts2")
		evicts := w.connect(named("alice")).expect("waiting")
		waits := w.connect(named("bob")).expect("waiting")
		lingers := w.connect(named("dave")).expect("ts2")
		lingers.close()

		began := time.Now()
		w.stop()
		if took := time.Since(began); ended.IsZero() || took != 3*time.Second {
			t.Errorf("Run returned after %s, before the driver", took)
		}
		evicts.expect(broker.ErrClosed.Error())
		waits.expect(broker.ErrClosed.Error())
		w.connect(named("carol")).expect(broker.ErrClosed.Error())
		placed.close()
		placed.close()
		w.read()
		w.b.SetConfig(w.config())
		if !errors.Is(waits.err, broker.ErrClosed) || !errors.Is(evicts.err, broker.ErrClosed) {
			t.Errorf("%v, %v", waits.err, evicts.err)
		}
	})
}
