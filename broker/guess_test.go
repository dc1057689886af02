package broker_test

import (
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rdpbroker/rdpbroker/broker/audit"
	"github.com/rdpbroker/rdpbroker/sessions"
)

// logonFrom is a logon of which the host tells from which address it came.
func (w *world) logonFrom(t *testing.T, host, account string, from netip.Addr) {
	t.Helper()
	w.mustLogon(t, host, account)
	w.model.mu.Lock()
	defer w.model.mu.Unlock()
	w.model.host(host).find(account).ClientAddr = from
}

// guessed is a caller who is taken for account because of what was learned or, with a
// cut name that fits it, because nobody else is known by such a name.
func guessed(c sessions.Confidence, account string) sessions.Identity {
	id := named(account)
	id.Confidence = c
	return id
}

// second are the sessions that were left behind, as audited.
func (w *world) second() (earlier []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, r := range w.records {
		if r.Event == audit.SecondSession {
			for _, ref := range r.Earlier {
				earlier = append(earlier, r.Account.User+" left "+ref.Host)
			}
		}
	}
	return earlier
}

// TestAWrongGuessIsLearnedFrom: whoever was taken for somebody else is known by their
// session, if the host tells that it was made from their address.
func TestAWrongGuessIsLearnedFrom(t *testing.T) {
	ambiguous := sessions.Identity{
		Confidence: sessions.ConfidencePrefix, Said: "Administr", Client: named("alice").Client,
		Accounts: []sessions.Account{{User: "alice"}, {User: "alicia"}}, Guess: sessions.Account{User: "alice"},
	}
	for _, c := range []struct {
		name string
		id   sessions.Identity
		own  bool // alice has a session, on ts1
	}{
		{"by address, to a new session", guessed(sessions.ConfidenceAddress, "alice"), false},
		{"by address, to a session of somebody else's", guessed(sessions.ConfidenceAddress, "alice"), true},
		{"by a cut name", guessed(sessions.ConfidencePrefix, "alice"), true},
		{"by a cut name and what was learned", ambiguous, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ts1, ts2 := newHost("ts1", 9), newHost("ts2", 9)
				ts2.with("alicia", 2*time.Hour).with("x", 0).with("y", 0)
				if c.own {
					ts1.with("alice", 2*time.Hour)
				}
				w := newWorld(t, evicting(), ts1, ts2)
				w.connect(c.id).expect("ts1")
				w.mustLogon(t, "ts1", "passer-by") // past the broker
				w.logonFrom(t, "ts1", "another", netip.MustParseAddr("192.0.2.99"))
				w.read()
				w.expectSeen(t, 0, 1)
				w.logonFrom(t, "ts1", "alicia", c.id.Client)
				w.read()
				w.expectSeen(t, 1, 0)
				if got := w.learned[c.id.Client]; got.User != "alicia" || len(w.learned) != 1 {
					t.Errorf("learned %v", w.learned)
				}
				// And her work is on the other host.
				if got := w.second(); !slices.Equal(got, []string{"alicia left ts2"}) {
					t.Errorf("second sessions: %v", got)
				}
			})
		})
	}
}

// TestAnExactNameIsNoGuess: somebody else's session from the same address is not that
// of a caller who has said in full who they are.
func TestAnExactNameIsNoGuess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, evicting(), newHost("ts1", 9))
		id := named("alice")
		w.connect(id).expect("ts1")
		w.logonFrom(t, "ts1", "bob", id.Client)
		w.read()
		w.expectSeen(t, 0, 1)
		if len(w.learned) != 0 {
			t.Errorf("learned %v", w.learned)
		}
	})
}

// TestAStraySessionIsNotTakenFromItsOwner: several callers come from one address.
func TestAStraySessionIsNotTakenFromItsOwner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, evicting(), newHost("ts1", 9))
		alice, bob := guessed(sessions.ConfidenceAddress, "alice"), guessed(sessions.ConfidencePrefix, "bob")
		bob.Client = alice.Client
		w.connect(alice).expect("ts1")
		w.connect(bob).expect("ts1")
		w.logonFrom(t, "ts1", "bob", alice.Client)
		w.read()
		w.expectSeen(t, 1, 1)
		for _, r := range w.b.Status().Reservations {
			if (r.Seen != nil) != (r.Account.User == "bob") {
				t.Errorf("the reservation of %s: seen %v", r.Account, r.Seen)
			}
		}
		// Two at once could be either's.
		w.logonFrom(t, "ts1", "carol", alice.Client)
		w.logonFrom(t, "ts1", "dave", alice.Client)
		w.read()
		w.expectSeen(t, 1, 1)
	})
}

// TestSecondSessions are noted where a caller was sent to a new session although an
// old one was elsewhere, and nowhere else.
func TestSecondSessions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ts1 := newHost("ts1", 9)
		ts2 := newHost("ts2", 9).with("alice", 2*time.Hour).with("bob", 2*time.Hour).with("carol", 0).with("x", 0)
		w := newWorld(t, evicting(), ts1, ts2)

		w.connect(named("bob")).expect("ts2") // his own
		w.mustLogon(t, "ts2", "bob")
		w.connect(stranger(0)).expect("ts1") // alice, who did not say so
		w.mustLogon(t, "ts1", "alice")
		w.read()
		w.expectSeen(t, 2, 0)
		w.connect(stranger(1)).expect("ts1") // carol, who sits before her first one
		w.mustLogon(t, "ts1", "carol")
		w.read()
		w.connect(named("dave")).expect("ts1") // has none
		w.mustLogon(t, "ts1", "dave")
		w.read()
		if got := w.second(); !slices.Equal(got, []string{"alice left ts2"}) {
			t.Errorf("second sessions: %v; events %q", got, w.events())
		}
	})
}
