package xrdp

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/rdpbroker/rdpbroker/deploy/testlab"
	"github.com/rdpbroker/rdpbroker/sessions"
)

// disconnected makes a disconnected session of user.
func (f *farm) disconnected(ctx context.Context, t *testing.T, user string) (sessions.Session, testlab.Desktop) {
	t.Helper()
	c := f.connect(t, user)
	f.await(ctx, t, user, sessions.StateActive)
	d, err := f.WaitDesktop(ctx, user)
	if err != nil {
		t.Fatal(err)
	}
	c.Disconnect()
	return f.await(ctx, t, user, sessions.StateDisconnected), d
}

func wantRefused(t *testing.T, err error, why string) {
	t.Helper()
	var refused *sessions.RefusedError
	if !errors.As(err, &refused) || refused.Why != why {
		t.Errorf("error %v, want a refusal because %q", err, why)
	}
}

func TestFarmEvict(t *testing.T) {
	t.Parallel()
	for _, backend := range []testlab.Backend{testlab.Xvnc, testlab.Xorg} {
		t.Run(string(backend), func(t *testing.T) {
			ctx := deadline(t)
			f := startFarm(t, testlab.XRDPOptions{MaxSessions: 3, Backend: backend}, nil)
			alice, aliceDesktop := f.disconnected(ctx, t, "rbalice")
			bob, bobDesktop := f.disconnected(ctx, t, "rbbob")

			for _, tc := range []struct {
				name   string
				change func(*sessions.Session)
				why    string
			}{
				{"another start time", func(s *sessions.Session) { s.Incarnation = bob.Incarnation }, "the ID belongs to another session now"},
				{"another ID", func(s *sessions.Session) { s.ID = 99999 }, "it has gone by itself"},
				{"another account", func(s *sessions.Session) { s.Account.User = "rbbob" }, "it belongs to another account"},
				{"another disconnect time", func(s *sessions.Session) { s.DisconnectedAt = s.DisconnectedAt.Add(-time.Second) }, "it was used in the meantime"},
				{"a reused ID", func(s *sessions.Session) { s.ID = bob.ID }, "the ID belongs to another session now"},
			} {
				victim := alice
				tc.change(&victim)
				t.Run(tc.name, func(t *testing.T) { wantRefused(t, f.driver.Evict(ctx, f.host, victim), tc.why) })
			}

			if err := f.driver.Evict(ctx, f.host, alice); err != nil {
				t.Fatalf("%v\n%s", err, f.SesmanLog())
			}
			if f.Runs(aliceDesktop) {
				t.Error("the evicted desktop is still running")
			}
			if !f.Runs(bobDesktop) {
				t.Error("the other user's desktop has gone too")
			}
			r := f.read(ctx, t)
			if len(r.Sessions) != 1 || r.Sessions[0].ID != bob.ID {
				t.Errorf("left are %+v, want only %+v", r.Sessions, bob)
			}
			wantRefused(t, f.driver.Evict(ctx, f.host, alice), "it has gone by itself")

			again := f.connect(t, "rbbob")
			f.await(ctx, t, "rbbob", sessions.StateActive)
			wantRefused(t, f.driver.Evict(ctx, f.host, bob), "the user is connected again")
			again.Disconnect()
			f.await(ctx, t, "rbbob", sessions.StateDisconnected)
			wantRefused(t, f.driver.Evict(ctx, f.host, bob), "it was used in the meantime")
			if !f.Runs(bobDesktop) {
				t.Error("a refused eviction ended the desktop")
			}
		})
	}
}
