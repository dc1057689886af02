package loop

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

type noted struct {
	Timer
	at  time.Duration
	set bool
}

func (n *noted) Expired(*Loop, *Timer) {}

// TestWheel: every timer comes once, not before its time, late by no more than a
// tick behind the next look, and never after it was stopped; and next never sleeps
// through one.
func TestWheel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var w wheel
		var now time.Duration
		timers := make([]*noted, 20)
		for i := range timers {
			timers[i] = new(noted)
		}
		check := func() {
			due := time.Duration(-1)
			for _, n := range timers {
				if n.set && n.at+wheelTick <= now {
					t.Fatalf("at %s a timer for %s has not come", now, n.at)
				}
				if n.set && (due < 0 || n.at < due) {
					due = n.at
				}
			}
			wait, any := w.next(now)
			if any != (due >= 0) {
				t.Fatalf("next says %t, the earliest is %s", any, due)
			}
			if any && now+wait > max(due, now)+2*wheelTick {
				t.Fatalf("next sleeps until %s through %s", now+wait, due)
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"start": func(t *rapid.T) {
				n := rapid.SampledFrom(timers).Draw(t, "timer")
				if n.set {
					w.stop(&n.Timer)
				}
				n.at = now + time.Duration(rapid.Int64Range(0, 15_000_000).Draw(t, "µs"))*time.Microsecond
				n.set = true
				w.start(&n.Timer, n.at, n)
				check()
			},
			"stop": func(t *rapid.T) {
				n := rapid.SampledFrom(timers).Draw(t, "timer")
				w.stop(&n.Timer)
				n.set = false
				check()
			},
			"advance": func(t *rapid.T) {
				now += time.Duration(rapid.Int64Range(0, 6_000_000).Draw(t, "µs")) * time.Microsecond
				w.advance(now, func(_ *Timer, owner Expirer) {
					n := owner.(*noted)
					if !n.set || n.at > now {
						t.Fatalf("at %s a timer came that was set %t for %s", now, n.set, n.at)
					}
					n.set = false
					if other := rapid.SampledFrom(timers).Draw(t, "other"); rapid.Bool().Draw(t, "stop another") {
						w.stop(&other.Timer)
						other.set = false
					}
				})
				check()
			},
		})
	})
}

// TestWheelOrder: one look takes them in order, whatever is set meanwhile.
func TestWheelOrder(t *testing.T) {
	var w wheel
	timers := make([]noted, 5)
	for i := range timers {
		timers[i].at = time.Duration(5-i) * time.Second
		w.start(&timers[i].Timer, timers[i].at, &timers[i])
	}
	var order []time.Duration
	for now := time.Duration(0); now < 6*time.Second; now += 100 * time.Millisecond {
		w.advance(now, func(_ *Timer, owner Expirer) { order = append(order, owner.(*noted).at) })
	}
	if len(order) != 5 || !slices.IsSorted(order) {
		t.Errorf("%v", order)
	}
}
