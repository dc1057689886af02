package due_test

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/rdpbroker/rdpbroker/broker/due"
)

// What is given out is the earliest of what is there, and only when it is due.
func TestQueue(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var q due.Queue[int]
		there := map[int]time.Time{}
		first := func() (at time.Time, ok bool) {
			for _, x := range there {
				if !ok || x.Before(at) {
					at, ok = x, true
				}
			}
			return at, ok
		}
		time0 := time.Unix(1e9, 0)
		for n := range rapid.IntRange(0, 60).Draw(t, "steps") {
			at := time0.Add(time.Duration(rapid.IntRange(0, 20).Draw(t, "at")) * time.Second)
			earliest, any := first()
			if rapid.Bool().Draw(t, "add") {
				if got, want := q.Add(at, n), !any || at.Before(earliest); got != want {
					t.Fatalf("added %s before %s: first %v", at, earliest, got)
				}
				there[n] = at
				continue
			}
			v, ok := q.Next(at)
			if want := any && !at.Before(earliest); ok != want {
				t.Fatalf("at %s, of which the first is due at %s: %v", at, earliest, ok)
			}
			if ok && !there[v].Equal(earliest) {
				t.Fatalf("%d is due at %s, but there is one at %s", v, there[v], earliest)
			}
			if ok {
				delete(there, v)
			}
		}
		earliest, any := first()
		if at, ok := q.First(); ok != any || !at.Equal(earliest) {
			t.Fatalf("the first is due at %s (%v), not %s (%v)", at, ok, earliest, any)
		}
	})
}
