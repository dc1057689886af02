package testlab

import (
	"context"
	"image/color"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func deadline(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

func TestXRDPLimitAndReconnect(t *testing.T) {
	t.Parallel()
	for _, backend := range []Backend{Xvnc, Xorg} {
		t.Run(string(backend), func(t *testing.T) {
			h := StartXRDP(t, "lab1", "", XRDPOptions{MaxSessions: 2, Backend: backend})
			ctx := deadline(t, 60*time.Second)
			connect := func(user string) (*Client, *Display) {
				d := StartDisplay(t)
				return XFreeRDP(t, d, ClientOptions{Addr: h.Addr, User: user, Password: h.Users[user]}), d
			}
			alice, _ := connect("rbalice")
			first, err := h.WaitDesktop(ctx, "rbalice")
			if err != nil {
				t.Fatalf("%v\n%s", err, alice.Output())
			}
			connect("rbaccountant1")
			if _, err := h.WaitDesktop(ctx, "rbaccountant1"); err != nil {
				t.Fatal(err)
			}

			connect("rbcarol")
			waitFor(ctx, t, "refusal of the third user", func() bool {
				return strings.Contains(h.SesmanLog(), "max concurrent session limit exceeded. login for user rbcarol denied") ||
					strings.Contains(h.SesmanLog(), "Max session limit reached")
			})

			alice.Disconnect()
			again, screen := connect("rbalice")
			text, err := screen.WaitText(ctx, "HOST lab1", "USER rbalice", "STARTED "+first.Started.Format("15:04:05"))
			if err != nil {
				t.Fatalf("%v\n%s", err, again.Output())
			}
			t.Logf("read on the screen: %q", text)
			second, err := h.WaitDesktop(ctx, "rbalice")
			if err != nil || second != first {
				t.Errorf("after the reconnect %+v (%v), before %+v", second, err, first)
			}
			img, err := screen.Image(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if share := Share(img, color.RGBA{R: 0x33, G: 0x66, B: 0x99, A: 0xff}); share < 0.1 {
				t.Errorf("the background covers %.2f of the screen", share)
			}
			if ds, err := h.Desktops("rbcarol"); err != nil || len(ds) != 0 {
				t.Errorf("desktops of the refused user: %v, %v", ds, err)
			}
		})
	}
}

func waitFor(ctx context.Context, t *testing.T, what string, ok func() bool) {
	t.Helper()
	for !ok() {
		select {
		case <-ctx.Done():
			t.Fatalf("%s: %v", what, ctx.Err())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func TestShadowAsksForThePassword(t *testing.T) {
	t.Parallel()
	s := StartShadow(t, "nla1", ShadowOptions{Accounts: []ShadowAccount{
		{User: "alice", Password: "secret"}, {Domain: "CORP", User: "bob", Password: "hidden"},
	}})
	ctx := deadline(t, 60*time.Second)

	wrong := XFreeRDP(t, StartDisplay(t), ClientOptions{Addr: s.Addr, User: "alice", Password: "guess"})
	if err := wrong.Wait(ctx); err == nil || ctx.Err() != nil {
		t.Errorf("the client with the wrong password ended with %v\n%s", err, wrong.Output())
	}
	for _, o := range []ClientOptions{
		{Addr: s.Addr, User: "alice", Password: "secret"},
		{Addr: s.Addr, User: "bob", Password: "hidden", Extra: []string{"/d:CORP"}},
	} {
		d := StartDisplay(t)
		right := XFreeRDP(t, d, o)
		if _, err := d.WaitText(ctx, "HOST nla1"); err != nil {
			t.Errorf("%s: %v\nclient: %s\nserver: %s", o.User, err, right.Output(), s.Output())
		}
		right.Kill()
	}
}

func TestRDesktop(t *testing.T) {
	t.Parallel()
	h := StartXRDP(t, "lab2", "", XRDPOptions{Background: "#804020"})
	ctx := deadline(t, 60*time.Second)
	d := StartDisplay(t)
	c := RDesktop(t, d, ClientOptions{Addr: h.Addr, User: "rbbob", Password: h.Users["rbbob"]})
	if _, err := d.WaitText(ctx, "HOST lab2", "USER rbbob"); err != nil {
		t.Fatalf("%v\n%s", err, c.Output())
	}
	if !c.Running() {
		t.Error("the client says that it has ended")
	}
	c.Disconnect()
	if ds, err := h.Desktops("rbbob"); err != nil || len(ds) != 1 {
		t.Errorf("desktops after the client has gone: %v, %v", ds, err)
	}
}
