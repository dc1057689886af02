// Package ledgertest is the contract that every store of reservations passes.
package ledgertest

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/rdpbroker/rdpbroker/broker/ledger"
)

// Store is what a ledger does.
type Store interface {
	List(ctx context.Context, farm string, now time.Time) ([]ledger.Reservation, uint64, error)
	Changes(ctx context.Context, farm string, since uint64, now time.Time) (ledger.Changes, error)
	Reserve(ctx context.Context, r ledger.Reservation, version uint64) (ledger.Reservation, error)
	Update(ctx context.Context, r ledger.Reservation) (bool, error)
	Release(ctx context.Context, r ledger.Reservation) error
}

var t0 = time.Date(2026, 3, 1, 8, 0, 0, 0, time.UTC)

func reservation(key string) ledger.Reservation {
	return ledger.Reservation{Farm: "office", Key: key, Host: "ts1", MadeAt: t0, ExpiresAt: t0.Add(time.Minute)}
}

// Run tests one store; open returns an empty one.
func Run(t *testing.T, open func(t *testing.T) Store) {
	ctx := context.Background()
	list := func(t *testing.T, s Store, now time.Time) ([]ledger.Reservation, uint64) {
		t.Helper()
		rs, v, err := s.List(ctx, "office", now)
		if err != nil {
			t.Fatal(err)
		}
		return rs, v
	}
	reserve := func(t *testing.T, s Store, key string) ledger.Reservation {
		t.Helper()
		_, v := list(t, s, t0)
		r, err := s.Reserve(ctx, reservation(key), v)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}

	t.Run("what is reserved is listed until it is released", func(t *testing.T) {
		s := open(t)
		r := reserve(t, s, "alice")
		if r.ID == 0 {
			t.Error("a reservation needs a number")
		}
		if rs, _ := list(t, s, t0); len(rs) != 1 || rs[0].ID != r.ID || rs[0].Host != "ts1" {
			t.Errorf("listed %+v", rs)
		}
		for range 2 { // releasing twice is harmless
			if err := s.Release(ctx, r); err != nil {
				t.Fatal(err)
			}
		}
		if rs, _ := list(t, s, t0); len(rs) != 0 {
			t.Errorf("after the release: %+v", rs)
		}
	})

	t.Run("an old version is refused", func(t *testing.T) {
		s := open(t)
		_, before := list(t, s, t0)
		reserve(t, s, "alice")
		if _, err := s.Reserve(ctx, reservation("bob"), before); !errors.Is(err, ledger.ErrConflict) {
			t.Errorf("got %v, want ErrConflict", err)
		}
	})

	t.Run("every change makes the version old", func(t *testing.T) {
		s := open(t)
		r := reserve(t, s, "alice")
		_, v1 := list(t, s, t0)
		if ok, err := s.Update(ctx, r); !ok || err != nil {
			t.Fatal(ok, err)
		}
		_, v2 := list(t, s, t0)
		if err := s.Release(ctx, r); err != nil {
			t.Fatal(err)
		}
		_, v3 := list(t, s, t0)
		if v1 == v2 || v2 == v3 {
			t.Errorf("versions %d, %d, %d", v1, v2, v3)
		}
	})

	t.Run("a key holds one reservation", func(t *testing.T) {
		s := open(t)
		r := reserve(t, s, "alice")
		_, v := list(t, s, t0)
		_, err := s.Reserve(ctx, reservation("alice"), v)
		var held *ledger.HeldError
		if !errors.As(err, &held) || held.Existing.ID != r.ID {
			t.Errorf("got %v, want HeldError with %d", err, r.ID)
		}
	})

	t.Run("it expires in any case", func(t *testing.T) {
		s := open(t)
		r := reserve(t, s, "alice")
		if rs, _ := list(t, s, t0.Add(59*time.Second)); len(rs) != 1 {
			t.Errorf("before the minute: %+v", rs)
		}
		if rs, _ := list(t, s, t0.Add(time.Minute)); len(rs) != 0 {
			t.Errorf("after the minute: %+v", rs)
		}
		if ok, err := s.Update(ctx, r); ok || err != nil {
			t.Errorf("an expired one was updated: %v, %v", ok, err)
		}
	})

	t.Run("what has changed is what was done", func(t *testing.T) {
		s := open(t)
		mirror, since := map[string]ledger.Reservation{}, uint64(0)
		alls := 0
		look := func(now time.Time) {
			t.Helper()
			c, err := s.Changes(ctx, "office", since, now)
			if err != nil {
				t.Fatal(err)
			}
			if c.All {
				clear(mirror)
				alls++
			}
			for _, key := range c.Gone {
				delete(mirror, key)
			}
			for _, r := range c.Live {
				mirror[r.Key] = r
			}
			since = c.Version
			rs, v := list(t, s, now)
			if v != since || len(rs) != len(mirror) {
				t.Fatalf("%d reservations at version %d, and after the changes %d at %d", len(rs), v, len(mirror), since)
			}
			for _, r := range rs {
				if !reflect.DeepEqual(mirror[r.Key], r) {
					t.Fatalf("%+v is, after the changes, %+v", r, mirror[r.Key])
				}
			}
		}
		look(t0)
		a, b := reserve(t, s, "alice"), reserve(t, s, "bob")
		look(t0)
		a.Host, a.ExpiresAt = "ts2", t0.Add(time.Hour)
		if ok, err := s.Update(ctx, a); !ok || err != nil {
			t.Fatal(ok, err)
		}
		look(t0)
		if err := s.Release(ctx, b); err != nil {
			t.Fatal(err)
		}
		reserve(t, s, "carol")
		reserve(t, s, "bob") // another one
		look(t0)
		before := alls
		look(t0)
		look(t0.Add(time.Minute)) // all but alice's have expired
		if len(mirror) != 1 || alls > before {
			t.Fatalf("%+v, and everything was told again %d times", mirror, alls-before)
		}
		look(t0.Add(time.Hour))
		for n := range 20_000 { // more than anybody remembers
			if err := s.Release(ctx, reserve(t, s, fmt.Sprintf("u%d", n))); err != nil {
				t.Fatal(err)
			}
		}
		reserve(t, s, "dave")
		look(t0)
	})

	t.Run("releasing an old one leaves its successor", func(t *testing.T) {
		s := open(t)
		old := reserve(t, s, "alice")
		if err := s.Release(ctx, old); err != nil {
			t.Fatal(err)
		}
		next := reserve(t, s, "alice")
		if next.ID == old.ID {
			t.Fatal("numbers are used again")
		}
		if err := s.Release(ctx, old); err != nil {
			t.Fatal(err)
		}
		if rs, _ := list(t, s, t0); len(rs) != 1 || rs[0].ID != next.ID {
			t.Errorf("listed %+v", rs)
		}
	})

	t.Run("farms do not mix", func(t *testing.T) {
		s := open(t)
		reserve(t, s, "alice")
		rs, _, err := s.List(ctx, "school", t0)
		if err != nil || len(rs) != 0 {
			t.Errorf("got %+v, %v", rs, err)
		}
	})

	t.Run("two that decide on the same version never both win", func(t *testing.T) {
		s := open(t)
		const rounds, racers = 50, 4
		for round := range rounds {
			_, v := list(t, s, t0)
			var wg sync.WaitGroup
			won := make([]bool, racers)
			for i := range racers {
				wg.Add(1)
				go func() {
					defer wg.Done()
					_, err := s.Reserve(ctx, reservation(fmt.Sprintf("u%d-%d", round, i)), v)
					won[i] = err == nil
					if err != nil && !errors.Is(err, ledger.ErrConflict) {
						t.Errorf("got %v", err)
					}
				}()
			}
			wg.Wait()
			n := 0
			for _, w := range won {
				if w {
					n++
				}
			}
			if n != 1 {
				t.Fatalf("round %d: %d winners", round, n)
			}
		}
	})
}
