package audit

import (
	"fmt"
	"sync"
	"testing"
)

func TestRing(t *testing.T) {
	for _, c := range []struct {
		size, add, ask int
		want           string
	}{
		{3, 0, 5, "[]"},
		{3, 2, 5, "[2 1]"},
		{3, 3, 5, "[3 2 1]"},
		{3, 4, 5, "[4 3 2]"},
		{3, 8, 5, "[8 7 6]"},
		{3, 8, 2, "[8 7]"},
		{3, 8, 0, "[]"},
		{3, 8, -1, "[]"},
		{0, 5, 5, "[5]"},
	} {
		g := NewRing(c.size)
		for i := range c.add {
			g.Add(Record{Reservation: uint64(i + 1)})
		}
		var got []uint64
		for _, r := range g.Recent(c.ask) {
			got = append(got, r.Reservation)
		}
		if fmt.Sprint(got) != c.want {
			t.Errorf("a ring of %d after %d records tells %v of the newest %d, want %s", c.size, c.add, got, c.ask, c.want)
		}
	}
}

func TestRingIsForMany(t *testing.T) {
	g := NewRing(10)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 100 {
				g.Add(Record{})
				g.Recent(5)
			}
		})
	}
	wg.Wait()
	if got := len(g.Recent(100)); got != 10 {
		t.Errorf("the ring holds %d records", got)
	}
}
