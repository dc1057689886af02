package broker_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rdpbroker/rdpbroker/broker"
	"github.com/rdpbroker/rdpbroker/broker/audit"
	"github.com/rdpbroker/rdpbroker/broker/ledger"
	"github.com/rdpbroker/rdpbroker/sessions"
)

func TestTwoConnectionsOfOneLogonShareASlot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, evicting(), newHost("ts1", 1), newHost("ts2", 1))
		first := w.connect(named("alice")).expect("ts1")
		elsewhere := named("alice")
		elsewhere.Client = client
		second := w.connect(elsewhere).expect("ts1")
		if first.a.Reservation != second.a.Reservation || first.a.Reservation == 0 {
			t.Errorf("reservations %d and %d", first.a.Reservation, second.a.Reservation)
		}
		if n := len(w.b.Status().Reservations); n != 1 {
			t.Errorf("%d reservations", n)
		}
		w.connect(named("bob")).expect("ts2")
		w.connect(named("carol")).expect("waiting")
	})
}

// Connections that give no name are one logon only if they follow one another:
// behind one address there may be many people.
func TestNamelessConnectionsShareOnlyOneAfterTheOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, evicting(), newHost("ts1", 3))
		probe := w.connect(stranger(0)).expect("ts1")
		probe.close()
		logon := w.connect(stranger(0)).expect("ts1")
		if logon.a.Reservation != probe.a.Reservation {
			t.Error("the second connection of one client got a second slot")
		}
		colleague := w.connect(stranger(0)).expect("ts1")
		if colleague.a.Reservation == logon.a.Reservation {
			t.Error("two people behind one address share a slot")
		}
		w.connect(stranger(0)).expect("ts1")
		w.connect(stranger(0)).expect("waiting")
	})
}

// So may those be whose cut cookies say the same, such as "CONTOSO\a".
func TestPeopleWhoseCutNamesAreAlikeShareNoSlot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, evicting(), newHost("ts1", 2))
		ambiguous := stranger(0)
		ambiguous.Confidence, ambiguous.Said = sessions.ConfidencePrefix, `CONTOSO\a`
		ambiguous.Accounts = []sessions.Account{sessions.ParseAccount(`CONTOSO\alice`), sessions.ParseAccount(`CONTOSO\anna`)}
		probe := w.connect(ambiguous).expect("ts1")
		probe.close()
		alice := w.connect(ambiguous).expect("ts1")
		anna := w.connect(ambiguous).expect("ts1")
		if alice.a.Reservation != probe.a.Reservation || anna.a.Reservation == alice.a.Reservation {
			t.Errorf("reservations %d, %d, %d", probe.a.Reservation, alice.a.Reservation, anna.a.Reservation)
		}
		w.connect(named("bob")).expect("waiting")
	})
}

func TestClosingTwiceIsHarmless(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, evicting(), newHost("ts1", 1))
		first := w.connect(named("alice")).expect("ts1")
		second := w.connect(named("alice")).expect("ts1")
		for range 3 {
			first.a.Close(nil)
			first.a.Close(errors.New("too late to say so"))
		}
		time.Sleep(20 * time.Second)
		w.read()
		w.connect(named("bob")).expect("waiting") // the second connection holds the slot
		second.close()
		time.Sleep(20 * time.Second)
		if n := len(w.b.Status().Reservations); n != 1 { // bob's
			t.Errorf("%d reservations", n)
		}
	})
}

func TestOwnSessionNeedsNoSlotAndNoQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, evicting(), newHost("ts1", 2).with("alice", time.Minute).with("zoe", 0))
		bob := w.connect(named("bob")).expect("waiting")
		w.connect(named("alice")).expect("ts1")
		w.logoff("ts1", "zoe")
		w.read()
		bob.expect("ts1") // alice's way back took nothing away
	})
}

func TestAFailedDialGivesTheSlotBackAndMarksTheHost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, evicting(), newHost("ts1", 1), newHost("ts2", 1))
		c := w.connect(named("alice")).expect("ts1")
		c.a.Close(errors.New("connection refused"))
		if n := len(w.b.Status().Reservations); n != 0 {
			t.Fatalf("%d reservations after the failed dial", n)
		}
		again := w.connect(named("alice")).expect("ts2") // asks once more
		bob := w.connect(named("bob")).expect("waiting") // ts1 is left alone for a while
		if why := w.b.Explain(farmName, named("bob")).Candidates[0].Why; !strings.Contains(why, "connection refused") {
			t.Errorf("ts1 is not used because %q", why)
		}
		time.Sleep(6 * time.Second)
		bob.expect("ts1")
		again.close()
	})
}

// But not if somebody may have logged on before, whom no reading shows yet.
func TestAFailedDialAfterALogonGivesNothingBack(t *testing.T) {
	for _, closed := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			farm := evicting()
			farm.Wait = time.Hour
			w := newWorld(t, farm, newHost("ts1", 1))
			first := w.connect(named("alice")).expect("ts1")
			w.mustLogon(t, "ts1", "alice")
			if closed {
				w.disconnect("ts1", "alice")
				first.close()
			}
			again := w.connect(named("alice")).expect("ts1")
			again.a.Close(errors.New("connection refused"))
			bob := w.connect(named("bob")).expect("waiting")
			time.Sleep(6 * time.Second) // the host is not left alone any more
			bob.expect("waiting")
			w.read()
			bob.expect("waiting")
			w.logoff("ts1", "alice")
			first.a.Close(nil)
			w.read()
			time.Sleep(16 * time.Second)
			bob.expect("ts1")
		})
	}
}

// The connections of a logon that goes on do not lead others to a host that has
// just been found dead.
func TestAMarkedHostIsNotShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, evicting(), newHost("ts1", 2), newHost("ts2", 2))
		w.connect(named("alice")).expect("ts1")
		w.connect(named("bob")).expect("ts2").close()
		dead := w.connect(named("carol")).expect("ts1")
		dead.a.Close(errors.New("no route to host"))
		w.connect(named("alice")).expect("ts2")
	})
}

func TestAPromiseExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		farm := evicting()
		farm.Wait = time.Hour
		w := newWorld(t, farm, newHost("ts1", 1))
		w.connect(named("alice")).expect("ts1") // and there she sits, at the password prompt
		bob := w.connect(named("bob"))
		time.Sleep(broker.DefaultReservation - time.Second)
		bob.expect("waiting")
		time.Sleep(2 * time.Second)
		w.read() // and she has not logged on at the last moment
		bob.expect("ts1")
	})
}

// A connection that ended may have left a session that no reading shows yet.
func TestASlotIsGivenBackAfterAReading(t *testing.T) {
	for _, c := range []struct {
		name  string
		logon bool
		read  bool
		after time.Duration
		want  string
	}{
		{"at once nothing is given back: clients open several connections", false, true, 10 * time.Second, "waiting"},
		{"nobody has logged on, and a reading says so", false, true, 16 * time.Second, "ts1"},
		{"nobody has logged on, but no reading says so", false, false, 60 * time.Second, "waiting"},
		{"no reading at all: not even when it expires", false, false, broker.DefaultReservation + 2*time.Second, "waiting"},
		{"somebody has logged on", true, true, 16 * time.Second, "waiting"},
		{"somebody has logged on, but no reading says so", true, false, 60 * time.Second, "waiting"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				farm := evicting()
				farm.Wait = time.Hour
				w := newWorld(t, farm, newHost("ts1", 1))
				alice := w.connect(named("alice")).expect("ts1")
				bob := w.connect(named("bob")).expect("waiting")
				time.Sleep(time.Second)
				if c.logon {
					if err := w.logon("ts1", "alice"); err != nil {
						t.Fatal(err)
					}
					w.disconnect("ts1", "alice")
				}
				alice.close()
				if c.read {
					w.read()
				}
				time.Sleep(c.after)
				bob.expect(c.want)
			})
		})
	}
}

func TestRefusals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		farm := evicting()
		farm.Wait = 0
		w := newWorld(t, farm, newHost("ts1", 1).with("zoe", 0))
		_, err := w.b.Admit(t.Context(), farmName, named("alice"))
		var refused *broker.RefusedError
		if !errors.As(err, &refused) || refused.Waited != 0 || err.Error() != refused.Decision.Reason {
			t.Errorf("without patience: %v", err)
		}
		if len(refused.Decision.Candidates) == 0 {
			t.Error("no host is accounted for")
		}
		if _, err := w.b.Admit(t.Context(), "nowhere", named("alice")); !errors.As(err, &refused) || !strings.Contains(err.Error(), `farm "nowhere" has no host`) {
			t.Errorf("a farm that does not exist: %v", err)
		}
		if n := len(w.b.Status().Waiting); n != 0 {
			t.Errorf("%d still wait", n)
		}

		w.farm.Wait = 30 * time.Second
		w.b.SetConfig(w.config())
		began := time.Now()
		c := w.connect(named("alice")).expect("waiting")
		<-c.done
		if waited := time.Since(began); waited != 30*time.Second {
			t.Errorf("waited %s", waited)
		}
		if !errors.As(c.err, &refused) || refused.Waited != 30*time.Second || !strings.HasPrefix(c.err.Error(), "waited 30s: ") {
			t.Errorf("with patience: %v", c.err)
		}
		if got := w.count(audit.Refused); got != 3 {
			t.Errorf("%d refusals are audited: %q", got, w.events())
		}
	})
}

func TestOneAddressDoesNotFillTheFarm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		farm := evicting()
		farm.PerClient = 3
		w := newWorld(t, farm, newHost("ts1", 20).with("own1", time.Minute).with("own2", time.Minute).with("busy", 0))
		at := func(id sessions.Identity) sessions.Identity { id.Client = client; return id }
		for i := range 3 {
			w.connect(at(named(fmt.Sprintf("user%d", i)))).expect("ts1")
		}
		fourth := w.connect(at(named("user3"))).expect("waiting")
		if why := w.b.Status().Waiting[0].Reason; !strings.Contains(why, "3 slots are reserved for this client address") {
			t.Errorf("waits because %q", why)
		}
		for name, id := range map[string]sessions.Identity{
			"another address":           stranger(1),
			"one who holds a slot":      at(named("user0")),
			"back to one's own session": at(named("own1")),
			"and another one":           at(named("own2")),
			"to one's active session":   at(named("busy")),
		} {
			if got := w.connect(id).host(); got != "ts1" {
				t.Errorf("%s: %s", name, got)
			}
		}
		fourth.expect("waiting")
		if err := w.logon("ts1", "user1"); err != nil {
			t.Fatal(err)
		}
		w.read()
		fourth.expect("ts1") // somebody there is known to have logged on
		for i := range 5 {
			id := named(fmt.Sprintf("thin%d", i))
			id.Client, id.Trusted = stranger(2).Client, true
			w.connect(id).expect("ts1")
		}
	})
}

func TestLeavingGivesUpThePlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, evicting(), newHost("ts1", 1).with("zoe", 0))
		first := w.connect(named("alice")).expect("waiting")
		second := w.connect(named("bob")).expect("waiting")
		first.cancel()
		first.expect(context.Canceled.Error())
		if w.count(audit.Left) != 1 {
			t.Errorf("events: %q", w.events())
		}
		w.logoff("ts1", "zoe")
		w.read()
		second.expect("ts1")
		if st := w.b.Status(); len(st.Waiting) != 0 || len(st.Reservations) != 1 {
			t.Errorf("left behind: %+v", st)
		}
	})
}

// brokenLedger fails or conflicts a number of times.
type brokenLedger struct {
	ledger.Memory
	list, reserve []error
}

func next(errs *[]error) (err error) {
	if len(*errs) > 0 {
		err, *errs = (*errs)[0], (*errs)[1:]
	}
	return err
}

func (l *brokenLedger) Changes(ctx context.Context, farm string, since uint64, now time.Time) (ledger.Changes, error) {
	if err := next(&l.list); err != nil {
		return ledger.Changes{}, err
	}
	return l.Memory.Changes(ctx, farm, since, now)
}

func (l *brokenLedger) Reserve(ctx context.Context, r ledger.Reservation, version uint64) (ledger.Reservation, error) {
	if err := next(&l.reserve); err != nil {
		return ledger.Reservation{}, err
	}
	return l.Memory.Reserve(ctx, r, version)
}

// Whoever loses a race decides again; whoever loses too many, or whose ledger is
// away, waits for better times.
func TestLedgerTroubles(t *testing.T) {
	c := ledger.ErrConflict
	down := errors.New("the store is away")
	for _, tc := range []struct {
		name   string
		ledger *brokenLedger
		reason string // "" if it goes through at once
	}{
		{"two races lost", &brokenLedger{reserve: []error{c, c}}, ""},
		{"three races lost", &brokenLedger{reserve: []error{c, c, c}}, "other brokers were faster each time"},
		{"cannot be read", &brokenLedger{list: []error{down}}, "reading the reservations: the store is away"},
		{"cannot be written", &brokenLedger{reserve: []error{down}}, "reserving on ts1: the store is away"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, evicting(), newHost("ts1", 1))
				w.patient = true
				b := broker.New(w.config(), broker.Deps{Ledger: tc.ledger})
				w.b.Observe(w.snapshot())
				b.Observe(w.snapshot())
				w.b = b
				c := w.connect(named("alice"))
				if tc.reason == "" {
					c.expect("ts1")
					return
				}
				c.expect("waiting")
				if got := b.Status().Waiting[0].Reason; got != tc.reason {
					t.Errorf("waits because %q", got)
				}
				time.Sleep(2 * time.Second)
				c.expect("ts1")
			})
		})
	}
}

func TestStatusAndExplain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, evicting(), newHost("ts1", 2).with("old", 9*time.Hour).with("older", 10*time.Hour))
		hold := make(chan struct{})
		w.setEvictor("ts1", func(ctx context.Context, h sessions.Host, v sessions.Session) error {
			<-hold
			return w.model.evict(h.Name, v)
		})
		if got := w.b.Explain(farmName, named("alice")); got.Victim == nil || got.Victim.Session.Account.User != "older" {
			t.Errorf("explained: %+v", got)
		}
		if n := len(w.b.Status().Reservations); n != 0 || len(w.events()) != 0 {
			t.Errorf("explaining reserved %d, events %q", n, w.events())
		}
		w.connect(named("alice"))
		time.Sleep(time.Second)
		w.connect(named("bob"))
		time.Sleep(time.Second)
		w.connect(named("carol"))
		time.Sleep(time.Second)
		w.connect(named("dave"))
		st := w.b.Status()
		if len(st.Reservations) != 2 || st.Reservations[0].Account.User != "alice" || st.Reservations[1].Account.User != "bob" {
			t.Errorf("reservations %+v", st.Reservations)
		}
		if len(st.Waiting) != 2 || st.Waiting[0].Identity.Said != "carol" || st.Waiting[1].Identity.Said != "dave" || st.Waiting[0].Reason == "" || st.Waiting[0].Farm != farmName {
			t.Errorf("waiting %+v", st.Waiting)
		}
		if len(st.Leaving) != 2 || st.Leaving[0].ID != 1 || st.Leaving[1].ID != 2 {
			t.Errorf("leaving %+v", st.Leaving)
		}
		close(hold)
	})
}
