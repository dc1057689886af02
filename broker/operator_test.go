package broker_test

import (
	"context"
	"encoding/json"
	"errors"
	"reflect"
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

// ref names account's session on host.
func (w *world) ref(host, account string) sessions.Ref {
	w.t.Helper()
	w.model.mu.Lock()
	defer w.model.mu.Unlock()
	s := w.model.host(host).find(account)
	if s == nil {
		w.t.Fatalf("%s has no session on %s", account, host)
	}
	return sessions.RefOf(host, *s)
}

// recorded are the records of one event.
func (w *world) recorded(e audit.Event) []audit.Record {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []audit.Record
	for _, r := range w.records {
		if r.Event == e {
			out = append(out, r)
		}
	}
	return out
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func mode(m placement.Mode) *placement.Mode { return &m }

func TestTheKillSwitch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, evicting(), newHost("ts1", 1).with("old", 9*time.Hour))
		w.b.SetEviction(mode(placement.Off), "anna")
		alice := w.connect(named("alice")).expect("waiting")
		if st := w.b.Status(); st.Mode != "off" || w.b.Mode(farmName) != placement.Off {
			t.Errorf("status says %q", st.Mode)
		}
		w.b.SetConfig(w.config()) // a reload changes nothing
		w.read()
		alice.expect("waiting")
		w.b.SetEviction(mode(placement.Shadow), "anna")
		if d := w.b.Explain(farmName, named("bob")); d.Would == nil {
			t.Errorf("under shadow: %+v", d)
		}
		alice.expect("waiting")
		w.b.SetEviction(nil, "bea")
		alice.expect("ts1")
		if w.has("ts1", "old") || w.b.Status().Mode != "" {
			t.Error("the configuration is not in force again")
		}
		var got []string
		for _, r := range w.recorded(audit.ModeSet) {
			got = append(got, r.By+" "+r.Setting)
		}
		if want := []string{"anna off", "anna shadow", "bea configured"}; !slices.Equal(got, want) {
			t.Errorf("the audit says %q", got)
		}
		if r := w.recorded(audit.Decided)[0]; r.Mode != "off" {
			t.Errorf("a decision under the kill switch is recorded under %q", r.Mode)
		}
	})
}

// The switch stops what was decided before it, as long as nothing was done.
func TestTheKillSwitchStopsWhoWaitsForProof(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		farm := evicting()
		farm.Policy.Eviction.Proof = placement.Credentials
		w := newWorld(t, farm, newHost("ts1", 1).with("old", 9*time.Hour))
		alice := w.connect(named("alice")).expect("ts1")
		w.b.SetEviction(mode(placement.Off), "anna")
		if err := alice.a.Accepted(t.Context()); err == nil || !strings.Contains(err.Error(), "eviction is off") {
			t.Errorf("after the switch: %v", err)
		}
		if !w.has("ts1", "old") {
			t.Error("somebody was logged off in spite of the switch")
		}
	})
}

func TestAKeptSessionIsNoVictim(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		farm := evicting()
		farm.Wait = 10 * time.Hour
		w := newWorld(t, farm, newHost("ts1", 2).with("older", 10*time.Hour).with("old", 9*time.Hour))
		older := w.ref("ts1", "older")
		until := time.Now().Add(time.Hour)
		w.must(w.b.Keep(older, until, "anna"))
		w.connect(named("alice")).expect("ts1")
		if !w.has("ts1", "older") || w.has("ts1", "old") {
			t.Fatal("the kept session was logged off")
		}
		w.mustLogon(t, "ts1", "alice")
		w.read()
		bob := w.connect(named("bob")).expect("waiting")
		if c := w.b.Explain(farmName, named("bob")).Candidates; !slices.ContainsFunc(c, func(c placement.Candidate) bool {
			return strings.HasPrefix(c.Why, "kept by anna until 2000-01-01 01:00 UTC")
		}) {
			t.Errorf("explain says %+v", c)
		}
		k := w.b.Kept()
		if len(k) != 1 || k[0].Session != older || k[0].Account.User != "older" || k[0].By != "anna" || !k[0].Until.Equal(until) {
			t.Errorf("kept: %+v", k)
		}
		time.Sleep(2 * time.Hour)
		if k := w.b.Kept(); len(k) != 0 {
			t.Errorf("still kept after its time: %+v", k)
		}
		bob.expect("ts1")
		if err := w.b.Unkeep(older, "anna"); !errors.Is(err, broker.ErrNoSession) {
			t.Errorf("unkeep what is not kept: %v", err)
		}
	})
}

func TestUnkeep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, evicting(), newHost("ts1", 1).with("old", 9*time.Hour))
		old := w.ref("ts1", "old")
		w.must(w.b.Keep(old, time.Now().Add(time.Hour), "anna"))
		alice := w.connect(named("alice")).expect("waiting")
		w.must(w.b.Unkeep(old, "bea"))
		alice.expect("ts1")
		if r := w.recorded(audit.KeepSet); len(r) != 1 || r[0].By != "anna" || *r[0].Session != old || r[0].Account.User != "old" || r[0].Until.IsZero() || r[0].Farm != farmName {
			t.Errorf("%+v", r)
		}
		if r := w.recorded(audit.KeepEnded); len(r) != 1 || r[0].By != "bea" || *r[0].Session != old {
			t.Errorf("%+v", r)
		}
	})
}

func TestWhatCannotBeKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, evicting(), newHost("ts1", 2).with("old", 9*time.Hour))
		old := w.ref("ts1", "old")
		later := time.Now().Add(time.Hour)
		other := old
		other.LogonAt = other.LogonAt.Add(time.Second)
		for _, r := range []sessions.Ref{{Host: "ts1", ID: 99}, {Host: "ts9", ID: 1}, other} {
			if err := w.b.Keep(r, later, "anna"); !errors.Is(err, broker.ErrNoSession) {
				t.Errorf("keep %+v: %v", r, err)
			}
		}
		if err := w.b.Keep(old, time.Now(), "anna"); err == nil {
			t.Error("kept until now, which is no time")
		}
		hang := make(chan struct{})
		w.setEvictor("ts1", func(context.Context, sessions.Host, sessions.Session) error { <-hang; return nil })
		go func() { _ = w.b.Logoff(t.Context(), old, "anna") }()
		synctest.Wait()
		var refused *sessions.RefusedError
		if err := w.b.Keep(old, later, "anna"); !errors.As(err, &refused) {
			t.Errorf("kept what is on its way out: %v", err)
		}
		close(hang)
		if len(w.b.Kept()) != 0 || len(w.orders) != 0 {
			t.Errorf("kept %+v, remembered %+v", w.b.Kept(), w.orders)
		}
	})
}

// A session that ends takes its mark with it: the next holder of its ID is
// somebody else.
func TestAKeepEndsWithItsSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, evicting(), newHost("ts1", 2).with("old", 9*time.Hour))
		w.must(w.b.Keep(w.ref("ts1", "old"), time.Now().Add(time.Hour), "anna"))
		w.model.logoff("ts1", "old")
		w.read()
		if k := w.b.Kept(); len(k) != 0 {
			t.Errorf("%+v", k)
		}
	})
}

func TestAnOperatorsLogoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		farm := evicting()
		farm.Policy.Eviction = placement.Eviction{Mode: placement.Off, Protect: []string{"old"}, PerHostPerHour: 1}
		w := newWorld(t, farm, newHost("ts1", 3).with("old", 9*time.Minute).with("zoe", 0).with("carol", time.Minute))
		w.must(w.b.Logoff(t.Context(), w.ref("ts1", "old"), "anna"))
		if w.has("ts1", "old") {
			t.Fatal("it is still there")
		}
		for _, e := range []audit.Event{audit.Evicting, audit.Evicted} {
			r := w.recorded(e)
			if len(r) != 1 || r[0].By != "anna" || r[0].Farm != farmName || r[0].Decision.Victim.Session.Account.User != "old" || r[0].Decision.Victim.DisconnectedFor < 9*time.Minute {
				t.Errorf("%s: %+v", e, r)
			}
		}
		if st := w.b.Status(); len(st.Leaving) != 1 {
			t.Errorf("until a reading shows it, it is among the leaving: %+v", st)
		}

		refusedFor := func(account, why string) {
			t.Helper()
			var refused *sessions.RefusedError
			err := w.b.Logoff(t.Context(), w.ref("ts1", account), "anna")
			if !errors.As(err, &refused) || !strings.Contains(refused.Why, why) {
				t.Errorf("%s: %v, want %q", account, err, why)
			}
			if !w.has("ts1", account) {
				t.Errorf("%s is gone", account)
			}
		}
		refusedFor("zoe", "not disconnected")
		w.must(w.b.Keep(w.ref("ts1", "carol"), time.Now().Add(time.Minute), "bea"))
		refusedFor("carol", "kept by bea")
		w.must(w.b.Unkeep(w.ref("ts1", "carol"), "bea"))
		carol := w.connect(named("carol")).expect("ts1")
		refusedFor("carol", "on the way back")
		carol.close()
		if err := w.b.Logoff(t.Context(), sessions.Ref{Host: "ts1", ID: 99}, "anna"); !errors.Is(err, broker.ErrNoSession) {
			t.Error(err)
		}
		w.setEvictor("ts1", nil)
		time.Sleep(time.Minute)
		w.read()
		refusedFor("carol", "nothing is configured")
		w.stop()
		if err := w.b.Logoff(t.Context(), w.ref("ts1", "carol"), "anna"); !errors.Is(err, broker.ErrClosed) {
			t.Error(err)
		}
	})
}

// What a host answers is what the operator is told, and the marks are those of
// any eviction. A stuck session may be told again.
func TestOutcomesOfAnOperatorsLogoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, evicting(), newHost("ts1", 2).with("old", 9*time.Hour))
		old := w.ref("ts1", "old")
		answer := func(err error) {
			w.setEvictor("ts1", func(context.Context, sessions.Host, sessions.Session) error {
				time.Sleep(2 * time.Minute) // past the soft limit, which is no end for an operator
				return err
			})
		}
		for _, want := range []error{
			&sessions.RefusedError{Ref: old, Why: "the user was there"}, errors.New("connection reset"), &sessions.StuckError{Ref: old}, &sessions.StuckError{Ref: old},
		} {
			answer(want)
			if err := w.b.Logoff(t.Context(), old, "anna"); err != want {
				t.Errorf("got %v, want %v", err, want)
			}
		}
		answer(nil)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := w.b.Logoff(ctx, old, "anna"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the operator left: %v", err)
		}
		time.Sleep(3 * time.Minute)
		if n := w.count(audit.Evicted); n != 1 {
			t.Errorf("the logoff did not go on: %q", w.events())
		}
	})
}

// Whoever waited for the proof that somebody's logoff needs finds the slot free
// when an operator was faster.
func TestAnOperatorsLogoffServesWhoWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, evicting(), newHost("ts1", 1).with("young", time.Minute))
		alice := w.connect(named("alice")).expect("waiting")
		w.must(w.b.Logoff(t.Context(), w.ref("ts1", "young"), "anna"))
		alice.expect("waiting") // until a reading shows that the slot is free
		w.read()
		alice.expect("ts1")
	})
}

func TestDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ts1 := newHost("ts1", 2)
		ts1.Host.Draining = true
		w := newWorld(t, evicting(), ts1, newHost("ts2", 2))
		on, off := true, false
		w.must(w.b.Drain("ts1", &off, "anna"))
		w.must(w.b.Drain("ts2", &on, "anna"))
		w.connect(named("alice")).expect("ts1")
		w.b.SetConfig(w.config())
		w.read()
		w.connect(named("bob")).expect("ts1")
		if st := w.b.Status(); !reflect.DeepEqual(st.Draining, map[string]bool{"ts1": false, "ts2": true}) {
			t.Errorf("%+v", st.Draining)
		}
		carol := w.connect(named("carol")).expect("waiting")
		w.must(w.b.Drain("ts2", nil, "bea"))
		carol.expect("ts2")
		if err := w.b.Drain("ts9", &on, "anna"); !errors.Is(err, broker.ErrNoHost) {
			t.Error(err)
		}
		var got []string
		for _, r := range w.recorded(audit.DrainSet) {
			got = append(got, strings.Join([]string{r.By, r.Host, r.Setting, r.Farm}, " "))
		}
		if want := []string{"anna ts1 off office", "anna ts2 on office", "bea ts2 configured office"}; !slices.Equal(got, want) {
			t.Errorf("the audit says %q", got)
		}
	})
}

// Orders outlive the broker, if what it remembers is given to the next one.
func TestOrdersAreRestored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, evicting(), newHost("ts1", 1).with("old", 9*time.Hour), newHost("ts2", 1))
		on := true
		w.must(w.b.Keep(w.ref("ts1", "old"), time.Now().Add(time.Hour), "anna"))
		w.forget = errors.New("disk full")
		if err := w.b.Drain("ts2", &on, "anna"); err == nil || !strings.Contains(err.Error(), "a restart will undo it: disk full") {
			t.Errorf("an order that cannot be remembered: %v", err)
		}
		if len(w.orders) != 2 {
			t.Fatalf("%+v", w.orders)
		}
		text, err := json.Marshal(w.orders[1])
		w.must(err)

		next := newWorld(t, evicting(), w.model.hosts...)
		var o broker.Orders
		w.must(json.Unmarshal(text, &o))
		next.b.Restore(o)
		next.read()
		alice := next.connect(named("alice")).expect("waiting")
		if k := next.b.Kept(); len(k) != 1 || !reflect.DeepEqual(next.b.Drains(), map[string]bool{"ts2": true}) {
			t.Errorf("kept %+v, drains %+v", k, next.b.Drains())
		}
		w.must(next.b.Drain("ts2", nil, "anna"))
		alice.expect("ts2")
		next.connect(named("bob")).expect("waiting")
	})
}
