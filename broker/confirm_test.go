package broker_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rdpbroker/rdpbroker/broker"
	"github.com/rdpbroker/rdpbroker/broker/audit"
	"github.com/rdpbroker/rdpbroker/sessions"
)

// seen reports how many reservations are confirmed, and how many are not.
func (w *world) seen() (yes, no int) {
	for _, r := range w.b.Status().Reservations {
		if r.Seen != nil {
			yes++
		} else {
			no++
		}
	}
	return yes, no
}

func (w *world) expectSeen(t *testing.T, yes, no int) {
	t.Helper()
	if y, n := w.seen(); y != yes || n != no {
		t.Fatalf("%d reservations are confirmed and %d are not, want %d and %d; events %q", y, n, yes, no, w.events())
	}
}

func (w *world) mustLogon(t *testing.T, host, account string) {
	t.Helper()
	if err := w.logon(host, account); err != nil {
		t.Fatal(err)
	}
}

func TestConfirmAndLearn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, evicting(), newHost("ts1", 2))
		alice := w.connect(named("alice")).expect("ts1")
		w.read()
		w.expectSeen(t, 0, 1)

		before := w.snapshot() // a reading begun before she logged on
		w.mustLogon(t, "ts1", `CONTOSO\Alice`)
		w.b.Observe(before)
		w.expectSeen(t, 0, 1)
		w.read()
		w.expectSeen(t, 1, 0)
		if got := w.learned[named("alice").Client]; got != (sessions.Account{Domain: "CONTOSO", User: "Alice"}) {
			t.Errorf("learned %+v", w.learned)
		}
		if w.count(audit.Confirmed) != 1 {
			t.Errorf("events %q", w.events())
		}

		// Her session and her reservation are one slot.
		bob := w.connect(named("bob")).expect("ts1")
		w.connect(named("carol")).expect("waiting")
		bob.close()

		// The session says it all: the reservation goes with the connection.
		alice.close()
		w.expectSeen(t, 0, 1)
	})
}

func TestAConfirmedReservationEndsWithoutConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, evicting(), newHost("ts1", 2))
		w.connect(named("alice")).expect("ts1").close()
		w.mustLogon(t, "ts1", "alice")
		w.read()
		w.expectSeen(t, 0, 0)
		if w.count(audit.Confirmed) != 1 {
			t.Errorf("events %q", w.events())
		}
	})
}

// A session ends while another connection of the same logon stays, and its user is
// back on it at once: the slot was not given away in between.
func TestASessionEndsBeforeItsConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, evicting(), newHost("ts1", 1))
		first, second := w.connect(named("alice")).expect("ts1"), w.connect(named("alice")).expect("ts1")
		w.mustLogon(t, "ts1", "alice")
		w.read()
		w.expectSeen(t, 1, 0)
		bob := w.connect(named("bob")).expect("waiting")
		w.logoff("ts1", "alice")
		w.read()
		first.close()
		bob.expect("waiting")
		back := w.connect(named("alice")).expect("ts1")
		second.close()
		w.mustLogon(t, "ts1", "alice")
		w.read()
		w.expectSeen(t, 1, 0)

		// Once nobody is connected any more it is given away without delay.
		w.logoff("ts1", "alice")
		w.read()
		back.close()
		bob.expect("ts1")
	})
}

func TestReconnectsAreConfirmedTakeoversNeedNot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, evicting(), newHost("ts1", 2).with("alice", time.Hour).with("bob", 0))
		w.connect(named("alice")).expect("ts1")
		w.connect(named("bob")).expect("ts1")
		w.read()
		w.expectSeen(t, 0, 2)
		w.mustLogon(t, "ts1", "alice")
		w.read()
		w.expectSeen(t, 1, 1)
	})
}

// One's own session may end before one is back, by a time limit of the host's;
// the new one that is there then stands for the reservation.
func TestTheOwnSessionEndedInBetween(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, evicting(), newHost("ts1", 2).with("alice", time.Hour))
		w.connect(named("alice")).expect("ts1")
		w.logoff("ts1", "alice")
		w.read()
		w.connect(named("bob")).expect("ts1")
		w.connect(named("carol")).expect("waiting") // her slot is kept
		w.mustLogon(t, "ts1", "alice")
		w.read()
		w.expectSeen(t, 1, 1)
	})
}

// Nobody is sent to a full host twice: an old reading may have had their session there.
func TestTheOwnSessionEndedLongAgo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, evicting(), newHost("ts1", 1).with("alice", time.Hour), newHost("ts2", 1).with("carol", time.Hour))
		w.logoff("ts1", "alice")
		w.mustLogon(t, "ts1", "bob") // around the broker, and no reading shows it
		first := w.connect(named("alice")).expect("ts1")
		time.Sleep(time.Second)
		w.read()
		w.connect(named("alice")).expect("ts1").close() // whoever is at the prompt there may get in yet
		first.close()
		again := w.connect(named("alice"))
		again.expect("ts1") // until a reading shows that they have not
		again.close()
		time.Sleep(time.Second)
		w.logoff("ts2", "carol")
		w.read()
		w.connect(named("alice")).expect("ts2")
	})
}

// Nobody is logged off while they are on the way back, though it was another session of
// theirs, by an old reading, that they were sent back to.
func TestTheOwnSessionIsAnotherOneByNow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, evicting(), newHost("ts1", 1).with("alice", time.Hour))
		w.logoff("ts1", "alice")
		w.mustLogon(t, "ts1", "alice")
		w.disconnect("ts1", "alice")
		time.Sleep(3 * time.Hour) // without a reading
		alice := w.connect(named("alice")).expect("ts1")
		w.read()
		w.expectSeen(t, 0, 1)
		w.connect(named("bob")).expect("waiting")
		w.mustLogon(t, "ts1", "alice")
		w.read()
		w.expectSeen(t, 1, 0)
		w.disconnect("ts1", "alice")
		alice.close()
	})
}

func TestNamelessCallersAreSeenToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, evicting(), newHost("ts1", 4).with("zoe", 0))
		w.connect(stranger(0)).expect("ts1")
		w.connect(named("alice")).expect("ts1")
		w.mustLogon(t, "ts1", "alice")
		w.read()
		w.expectSeen(t, 1, 1) // alice's session is alice's
		w.mustLogon(t, "ts1", "bob")
		w.read()
		w.expectSeen(t, 2, 0)
		if len(w.learned) != 2 || w.learned[stranger(0).Client].User != "bob" {
			t.Errorf("learned %+v", w.learned)
		}
	})
}

// Two callers without a name: both slots are accounted for, but nobody is
// remembered as the other one, whichever session shows first.
func TestMixedUpCallersAreNotLearned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, evicting(), newHost("ts1", 2))
		w.connect(stranger(0)).expect("ts1")
		w.connect(stranger(1)).expect("ts1")
		w.mustLogon(t, "ts1", "bob")
		w.read()
		w.expectSeen(t, 1, 1)
		w.mustLogon(t, "ts1", "carol")
		w.read()
		w.expectSeen(t, 2, 0)
		if len(w.learned) != 0 {
			t.Errorf("learned %+v", w.learned)
		}
	})
}

// Nor is anybody learned when two sessions have appeared at once.
func TestTwoNewSessionsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, evicting(), newHost("ts1", 3))
		w.connect(stranger(0)).expect("ts1")
		w.mustLogon(t, "ts1", "bob")
		w.mustLogon(t, "ts1", "carol") // past the broker
		w.read()
		w.expectSeen(t, 1, 0)
		if len(w.learned) != 0 {
			t.Errorf("learned %+v", w.learned)
		}
	})
}

// A session that was one caller's is not another's once the first one is gone.
func TestASeenSessionIsNobodyElses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, evicting(), newHost("ts1", 3))
		w.connect(stranger(0)).expect("ts1")
		alice := w.connect(named("alice")).expect("ts1")
		w.mustLogon(t, "ts1", "alice")
		w.read()
		w.disconnect("ts1", "alice")
		alice.close()
		w.read()
		w.expectSeen(t, 0, 1)
		if _, ok := w.learned[stranger(0).Client]; ok {
			t.Errorf("learned %+v", w.learned)
		}
	})
}

// Who was only thought to have come keeps no slot from, nor holds one beside, those who
// certainly have.
func TestASessionTurnsOutToBeAnothers(t *testing.T) {
	for _, stays := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, evicting(), newHost("ts1", 3))
			ambiguous := stranger(0)
			ambiguous.Confidence, ambiguous.Said = sessions.ConfidencePrefix, `CONTOSO\a`
			ambiguous.Accounts = []sessions.Account{sessions.ParseAccount(`CONTOSO\alice`), sessions.ParseAccount(`CONTOSO\anna`)}
			first := w.connect(ambiguous).expect("ts1")
			time.Sleep(time.Second)
			w.connect(named(`CONTOSO\alice`)).expect("ts1")
			w.mustLogon(t, "ts1", `CONTOSO\alice`)
			if !stays {
				first.close()
			}
			w.b.Observe(w.snapshot()) // begun as the second promise was made: the session may have been there before
			want := 1
			if stays {
				want = 2
			}
			w.expectSeen(t, want-1, 1)
			time.Sleep(time.Second)
			w.read()
			w.expectSeen(t, 1, want-1)
			w.connect(named("bob")).expect("ts1")
			if stays {
				w.connect(named("carol")).expect("waiting") // anna may have the first connection
				w.mustLogon(t, "ts1", `CONTOSO\anna`)
				w.read()
				w.expectSeen(t, 2, 1)
				return
			}
			w.connect(named("carol")).expect("ts1")
		})
	}
}

// A reading that was begun before the promise was made may show sessions that
// the promise's own reading did not: they are not its caller's.
func TestAnEarlierReadingConfirmsNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, evicting(), newHost("ts1", 3))
		w.mustLogon(t, "ts1", "bob") // past the broker
		time.Sleep(time.Second)
		underway := w.snapshot()
		time.Sleep(time.Second)
		w.connect(stranger(0)).expect("ts1")
		w.b.Observe(underway)
		w.expectSeen(t, 0, 1)
	})
}

// Whoever logs on at the last moment has their slot, even if that is read only
// after their reservation has expired.
func TestALogonAtTheLastMoment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		farm := evicting()
		farm.Wait = time.Hour
		w := newWorld(t, farm, newHost("ts1", 1))
		alice := w.connect(named("alice")).expect("ts1")
		time.Sleep(broker.DefaultReservation - time.Second)
		w.mustLogon(t, "ts1", "alice")
		time.Sleep(2 * time.Second)
		bob := w.connect(named("bob")).expect("waiting")
		time.Sleep(5 * time.Second)
		bob.expect("waiting")
		w.read()
		bob.expect("waiting")
		alice.close()
		w.logoff("ts1", "alice")
		w.read()
		bob.expect("ts1")
	})
}

// Of two callers without a name one logs on and leaves again. That must not cost
// the other, who is still at the password prompt, the slot.
func TestWhoeverStaysKeepsTheSlot(t *testing.T) {
	for _, first := range []int{0, 1} {
		synctest.Test(t, func(t *testing.T) {
			farm := evicting()
			farm.Wait = time.Hour
			w := newWorld(t, farm, newHost("ts1", 2))
			callers := []*caller{w.connect(stranger(0)).expect("ts1"), w.connect(stranger(1)).expect("ts1")}
			w.mustLogon(t, "ts1", "alice")
			w.read()
			w.expectSeen(t, 1, 1)
			w.disconnect("ts1", "alice")
			callers[first].close()
			w.read()
			time.Sleep(20 * time.Second)
			w.read()
			w.connect(named("bob")).expect("waiting")
			w.mustLogon(t, "ts1", "carol")
		})
	}
}

// Nor does the session of a third one then pass for theirs.
func TestWhoeverStaysIsNotTakenForAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		farm := evicting()
		farm.Wait = time.Hour
		w := newWorld(t, farm, newHost("ts1", 3))
		w.connect(stranger(0)).expect("ts1") // sits at the password prompt
		w.connect(stranger(1)).expect("ts1")
		leaves := w.connect(stranger(2)).expect("ts1")
		for i, name := range []string{"alice", "bob"} {
			w.mustLogon(t, "ts1", name)
			w.read()
			w.expectSeen(t, i+1, 2-i)
		}
		w.disconnect("ts1", "alice")
		leaves.close()
		w.read()
		time.Sleep(20 * time.Second)
		w.read()
		w.connect(named("dora")).expect("waiting")
		w.mustLogon(t, "ts1", "carol")
	})
}

// A session confirms nobody who cannot be its owner.
func TestAnAmbiguousCallerIsOneOfThose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, evicting(), newHost("ts1", 3))
		ambiguous := stranger(0)
		ambiguous.Accounts = []sessions.Account{{User: "alice"}, {User: "anna"}}
		w.connect(ambiguous).expect("ts1")
		w.mustLogon(t, "ts1", "bob") // past the broker
		w.read()
		w.expectSeen(t, 0, 1)
		w.mustLogon(t, "ts1", "anna")
		w.read()
		w.expectSeen(t, 1, 0)
	})
}

// So they have if they leave again before that is read.
func TestAShortVisitAtTheLastMoment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		farm := evicting()
		farm.Wait = time.Hour
		w := newWorld(t, farm, newHost("ts1", 1))
		alice := w.connect(named("alice")).expect("ts1")
		time.Sleep(broker.DefaultReservation - 2*time.Second)
		w.mustLogon(t, "ts1", "alice")
		time.Sleep(time.Second)
		w.disconnect("ts1", "alice")
		alice.close()
		bob := w.connect(named("bob")).expect("waiting")
		time.Sleep(time.Minute)
		bob.expect("waiting")
		w.read()
		bob.expect("waiting")
	})
}

// So they have from others who say the same.
func TestALogonAtTheLastMomentAmongNamesakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		farm := evicting()
		farm.Wait = time.Hour
		w := newWorld(t, farm, newHost("ts1", 1))
		ambiguous := stranger(0)
		ambiguous.Said, ambiguous.Accounts = "annemarie", []sessions.Account{{User: "annemarie.kern"}, {User: "annemarie.krug"}}
		w.connect(ambiguous).expect("ts1")
		time.Sleep(broker.DefaultReservation - time.Second)
		w.mustLogon(t, "ts1", "annemarie.kern")
		krug := w.connect(ambiguous).expect("waiting")
		time.Sleep(5 * time.Second)
		krug.expect("waiting")
		w.read()
		krug.expect("waiting")
	})
}

// A host that is read by text may take the same session for another one from one
// reading to the next. Its user is confirmed once, and their slot is counted once.
func TestASessionUnderAnotherName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, evicting(), newHost("ts1", 2))
		w.connect(named("alice")).expect("ts1")
		w.mustLogon(t, "ts1", "alice")
		w.read()
		w.expectSeen(t, 1, 0)
		w.host("ts1").find("alice").Incarnation = "another"
		w.read()
		w.expectSeen(t, 1, 0)
		if n := w.count(audit.Confirmed); n != 1 {
			t.Errorf("confirmed %d times", n)
		}
		w.connect(named("bob")).expect("ts1") // there is one more slot
	})
}

// In the morning the time of many ends at once who are at the password prompt. Each of
// them may have logged on at the last moment, which a reading will tell: until then they
// are not looked at again for everybody who comes.
func TestManyWhoseTimeEndsTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const many, later = 300, 100
		w := newWorld(t, evicting(), newHost("ts1", many+later/2))
		for i := range many {
			w.connect(named(fmt.Sprintf("early%d", i))).expect("ts1")
		}
		time.Sleep(broker.DefaultReservation + time.Second)
		w.mustLogon(t, "ts1", "early7") // it is for them that the others wait
		w.mu.Lock()
		before := len(w.asked)
		w.mu.Unlock()
		for i := range later {
			c := w.connect(named(fmt.Sprintf("late%d", i)))
			if c.waiting() != (i >= later/2) {
				t.Fatalf("late%d: %s", i, c.host())
			}
		}
		w.mu.Lock()
		if asked := len(w.asked) - before; asked < many || asked > many+2*later {
			t.Errorf("a reading was asked for %d times", asked)
		}
		w.mu.Unlock()
		w.read()
		if n := len(w.b.Status().Waiting); n != 0 {
			t.Errorf("a reading has told who did not come, and %d still wait", n)
		}
	})
}

// Whoever comes back meanwhile gets one further slot, however often they do.
func TestOneWhoComesBackInDoubtGetsOneSlot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, evicting(), newHost("ts1", 4))
		w.connect(named("bob")).expect("ts1")
		time.Sleep(broker.DefaultReservation + time.Second)
		again := w.connect(named("bob")).expect("ts1")
		for range 5 {
			if c := w.connect(named("bob")).expect("ts1"); c.a.Reservation != again.a.Reservation {
				t.Fatalf("reservation %d after %d", c.a.Reservation, again.a.Reservation)
			}
		}
		w.read() // nobody has logged on
		if c := w.connect(named("bob")).expect("ts1"); c.a.Reservation != again.a.Reservation {
			t.Errorf("reservation %d after %d", c.a.Reservation, again.a.Reservation)
		}
		w.connect(named("carol")).expect("ts1")
		if n := len(w.b.Status().Reservations); n != 2 {
			t.Errorf("%d reservations", n)
		}
	})
}
