package broker_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rdpbroker/rdpbroker/broker"
	"github.com/rdpbroker/rdpbroker/broker/placement"
)

// What explain says of another time is what happens then.
func TestExplainAtAnotherTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		farm := evicting()
		farm.Wait = 10 * time.Hour
		farm.Policy.Eviction.PerHostPerHour = 1
		w := newWorld(t, farm, newHost("ts1", 2).with("old", 9*time.Hour).with("young", 10*time.Minute))
		w.connect(named("zoe")).expect("ts1") // old goes
		w.mustLogon(t, "ts1", "zoe")
		w.read()
		w.must(w.b.Keep(w.ref("ts1", "young"), time.Now().Add(55*time.Minute), "anna"))
		began := time.Now()
		said := func(after time.Duration) string {
			d := w.b.ExplainIf(farmName, named("alice"), broker.Supposition{At: began.Add(after)})
			if d.Victim != nil {
				return "victim " + d.Victim.Session.Account.User
			}
			var whys []string
			for _, c := range d.Candidates {
				whys = append(whys, c.Why)
			}
			return d.Reason + ": " + strings.Join(whys, "; ")
		}
		for _, c := range []struct {
			after time.Duration
			want  string
		}{
			{0, "1 evictions there within the hour"},
			{59 * time.Minute, "1 evictions there"},
			{61 * time.Minute, "victim young"},
			{-time.Minute, "1 evictions there"},
		} {
			if got := said(c.after); !strings.Contains(got, c.want) {
				t.Errorf("after %s: %s, want %s", c.after, got, c.want)
			}
		}
		if k := w.b.Kept(); len(k) != 1 {
			t.Errorf("asking has ended what is kept: %+v", k)
		}
		alice := w.connect(named("alice")).expect("waiting") // asking has changed nothing
		time.Sleep(61 * time.Minute)
		alice.expect("ts1")
	})
}

func TestExplainOtherSettings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, evicting(), newHost("ts1", 1).with("young", 10*time.Minute))
		tried := evicting()
		tried.Policy.Eviction.MinDisconnected = 5 * time.Minute
		if d := w.b.ExplainIf(farmName, named("alice"), broker.Supposition{Farm: &tried}); d.Victim == nil {
			t.Errorf("%s: %s", d.Kind, d.Reason)
		}
		if d := w.b.Explain(farmName, named("alice")); d.Victim != nil {
			t.Errorf("as it is: %s: %s", d.Kind, d.Reason)
		}
		// The operator's switch stays on, unless the question is about the mode.
		w.b.SetEviction(mode(placement.Off), "anna")
		if d := w.b.ExplainIf(farmName, named("alice"), broker.Supposition{Farm: &tried}); !strings.Contains(d.Reason, "eviction is off") {
			t.Errorf("under the switch: %s", d.Reason)
		}
		tried.Policy.Eviction.Mode = placement.Shadow
		if d := w.b.ExplainIf(farmName, named("alice"), broker.Supposition{Farm: &tried}); d.Would == nil {
			t.Errorf("another mode: %s", d.Reason)
		}
		if !w.has("ts1", "young") || len(w.b.Status().Reservations) != 0 {
			t.Error("asking has done something")
		}
	})
}

// Whoever goes back to their own session, or gets a free slot, is told of all others
// as well: that is what an operator asks for.
func TestExplainLooksAtEverySession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, evicting(), newHost("ts1", 4).with("old", 9*time.Hour).with("young", time.Minute).with("zoe", 0), newHost("ts2", 1).with("bob", 2*time.Hour))
		for _, caller := range []string{"bob", "alice"} { // back to their own, and to a free slot
			said := map[string]string{}
			chosen := 0
			for _, c := range w.b.Explain(farmName, named(caller)).Candidates {
				said[c.Host+" "+c.As+" "+c.Account] += c.Why
				if c.Chosen {
					chosen++
				}
			}
			for what, want := range map[string]string{
				"ts1 slot ": "3 of 4 slots in use", "ts2 slot ": "1 of 1 slots in use",
				"ts1 victim old": "disconnected for 9h00m", "ts1 victim young": "less than 1h00m", "ts1 victim zoe": "not disconnected",
				"ts2 victim bob": map[string]string{"bob": "may be the caller's own", "alice": "disconnected for 2h00m"}[caller],
			} {
				if !strings.Contains(said[what], want) {
					t.Errorf("to %s of %s: %q, want %q", caller, what, said[what], want)
				}
			}
			if chosen != 1 {
				t.Errorf("%d are chosen for %s", chosen, caller)
			}
		}
	})
}
