package broker_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rdpbroker/rdpbroker/broker"
	"github.com/rdpbroker/rdpbroker/broker/audit"
	"github.com/rdpbroker/rdpbroker/broker/placement"
	"github.com/rdpbroker/rdpbroker/sessions"
)

// reading lets time go by with a reading every ten seconds.
func (w *world) reading(d time.Duration) {
	for end := time.Now().Add(d); time.Now().Before(end); {
		time.Sleep(10 * time.Second)
		w.read()
	}
}

func TestHeadroom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		farm := evicting()
		farm.Policy.Eviction.Headroom = 2
		farm.Policy.Eviction.Proof = placement.Credentials // there is nobody to show one
		w := newWorld(t, farm,
			newHost("ts1", 3).with("old", 9*time.Hour).with("older", 10*time.Hour).with("zoe", 0),
			newHost("ts2", 2).with("young", 10*time.Minute).with("oldest", 11*time.Hour))
		w.reading(20 * time.Second)
		if n := w.count(audit.Evicting); n != 0 {
			t.Fatalf("at once somebody is logged off: %q", w.events())
		}
		w.reading(2 * time.Minute)
		if w.has("ts2", "oldest") || w.has("ts1", "older") || !w.has("ts1", "old") || !w.has("ts2", "young") {
			t.Errorf("two of the stalest should be gone: %q", w.events())
		}
		if got, want := w.events(), []string{
			"decided headroom", "evicting oldest", "evicted oldest", "decided headroom", "evicting older", "evicted older",
		}; !slices.Equal(got, want) {
			t.Errorf("events %q", got)
		}
		for _, r := range w.recorded(audit.Evicted) {
			if r.Decision.Kind != placement.KeepFree || r.Decision.NeedsProof || r.By != "" || r.Farm != farmName {
				t.Errorf("%+v", r)
			}
		}
		w.connect(named("alice")).expect("ts2") // without any logoff
		w.mustLogon(t, "ts2", "alice")
		w.reading(time.Minute)
		if w.has("ts1", "old") {
			t.Error("the slot that alice took was not replaced")
		}
		w.connect(named("bob")).expect("ts1")
		w.mustLogon(t, "ts1", "bob")
		w.reading(5 * time.Minute)
		if !w.has("ts2", "young") {
			t.Error("the one who was there until a moment ago is logged off")
		}
	})
}

// A stranger who has slots reserved, be it ever so many, has nobody logged off.
func TestPromisesAreNoNeedOfHeadroom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		farm := evicting()
		farm.Policy.Eviction.Headroom = 2
		w := newWorld(t, farm, newHost("ts1", 4).with("old", 9*time.Hour).with("older", 10*time.Hour))
		for i := range 5 {
			w.connect(stranger(i))
		}
		for range 10 {
			w.reading(20 * time.Second)
			w.connect(stranger(6)).cancel()
		}
		if n := w.count(audit.Evicting); n != 0 {
			t.Errorf("%q", w.events())
		}
	})
}

func TestHeadroomKeepsTheRules(t *testing.T) {
	for name, set := range map[string]func(w *world, e *placement.Eviction){
		"off":       func(_ *world, e *placement.Eviction) { e.Mode = placement.Off },
		"protected": func(_ *world, e *placement.Eviction) { e.Protect = []string{"old"} },
		"too soon":  func(_ *world, e *placement.Eviction) { e.MinDisconnected = 48 * time.Hour },
		"hours": func(_ *world, e *placement.Eviction) {
			e.Hours.Windows = []placement.Window{{Days: placement.EveryDay, From: 12 * 60, To: 13 * 60}} // it is midnight
		},
		"kept": func(w *world, _ *placement.Eviction) {
			w.must(w.b.Keep(w.ref("ts1", "old"), time.Now().Add(time.Hour), "anna"))
		},
		"kill switch": func(w *world, _ *placement.Eviction) { w.b.SetEviction(mode(placement.Off), "anna") },
		"on the way":  func(w *world, _ *placement.Eviction) { w.connect(named("old")) },
		"no evictor":  func(w *world, _ *placement.Eviction) { w.setEvictor("ts1", nil) },
		"not wanted":  func(_ *world, e *placement.Eviction) { e.Headroom = 0 },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, evicting(), newHost("ts1", 1).with("old", 9*time.Hour))
				w.farm.Policy.Eviction.Headroom = 1
				set(w, &w.farm.Policy.Eviction)
				w.b.SetConfig(w.config())
				w.reading(time.Minute + 20*time.Second)
				if !w.has("ts1", "old") {
					t.Errorf("it was logged off: %q", w.events())
				}
			})
		})
	}
}

func TestHeadroomHasCeilings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		farm := evicting()
		farm.Policy.Eviction.Headroom, farm.Policy.Eviction.PerHostPerHour = 3, 1
		w := newWorld(t, farm, newHost("ts1", 2).with("o1", 9*time.Hour).with("o2", 8*time.Hour), newHost("ts2", 2).with("o3", 7*time.Hour).with("o4", 6*time.Hour))
		w.reading(30 * time.Minute)
		if w.count(audit.Evicted) != 2 || w.has("ts1", "o1") || w.has("ts2", "o3") {
			t.Errorf("%q", w.events())
		}
	})
}

// A victim that would not go is no reason to try the next one at once, and one that
// is on its way out is waited for.
func TestHeadroomGoesOneByOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		farm := evicting()
		farm.Policy.Eviction.Headroom = 2
		w := newWorld(t, farm, newHost("ts1", 2).with("old", 9*time.Hour).with("older", 10*time.Hour))
		hang := make(chan error)
		w.setEvictor("ts1", func(context.Context, sessions.Host, sessions.Session) error { return <-hang })
		w.reading(3 * time.Minute)
		if n := w.count(audit.Evicting); n != 1 {
			t.Errorf("%q", w.events())
		}
		hang <- errors.New("connection reset")
		w.reading(10 * time.Second)
		if got := w.events(); got[len(got)-1] != "evicting old" {
			t.Errorf("the next one is not tried: %q", got)
		}
		close(hang)
	})
}

func TestHeadroomInShadowMode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		farm := evicting()
		farm.Policy.Eviction.Headroom, farm.Policy.Eviction.Mode = 2, placement.Shadow
		w := newWorld(t, farm, newHost("ts1", 2).with("old", 9*time.Hour).with("older", 10*time.Hour))
		w.reading(10 * time.Minute)
		r := w.recorded(audit.Decided)
		if len(r) != 1 || r[0].Decision.Kind != placement.KeepFree || r[0].Decision.Would.Session.Account.User != "older" || r[0].Mode != "shadow" || len(r[0].Decision.Candidates) == 0 {
			t.Errorf("%d records: %+v", len(r), r)
		}
		if w.count(audit.Evicting) != 0 || !w.has("ts1", "older") {
			t.Error("shadow mode has touched something")
		}
		if d := w.b.HeadroomIf(farmName, broker.Supposition{}); d.Would == nil || d.Kind != placement.KeepFree {
			t.Errorf("%+v", d)
		}
		farm.Policy.Eviction.Headroom = 0
		if d := w.b.HeadroomIf(farmName, broker.Supposition{Farm: &farm, At: time.Now().Add(time.Hour)}); d.Class != placement.ClassEnough {
			t.Errorf("without headroom: %+v", d)
		}
	})
}
