package xrdp

import (
	"context"
	"slices"
	"testing"
	"time"

	"go.uber.org/zap/zaptest"

	"github.com/rdpbroker/rdpbroker/deploy/testlab"
	"github.com/rdpbroker/rdpbroker/sessions"
)

// farm is one real xrdp host with its driver and a screen for clients.
type farm struct {
	*testlab.XRDPHost
	driver *Driver
	host   sessions.Host
	screen *testlab.Display
}

func startFarm(t *testing.T, opts testlab.XRDPOptions, config func(*testlab.XRDPHost, *Config)) *farm {
	t.Helper()
	h := testlab.StartXRDP(t, "farm1", "", opts)
	cfg := Config{Runner: Local{Prefix: h.Prefix()}, Poll: 200 * time.Millisecond, Settle: time.Second}
	if config != nil {
		config(h, &cfg)
	}
	d, err := New(cfg, zaptest.NewLogger(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return &farm{XRDPHost: h, driver: d, host: sessions.Host{Name: h.Name, Addr: h.Addr}, screen: testlab.StartDisplay(t)}
}

func (f *farm) connect(t *testing.T, user string) *testlab.Client {
	t.Helper()
	return testlab.XFreeRDP(t, f.screen, testlab.ClientOptions{Addr: f.Addr, User: user, Password: f.Users[user]})
}

// read is one reading now.
func (f *farm) read(ctx context.Context, t *testing.T) sessions.Report {
	t.Helper()
	r, _, err := f.driver.read(ctx, f.host)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// await reads until user's one session is in the state.
func (f *farm) await(ctx context.Context, t *testing.T, user string, want sessions.State) sessions.Session {
	t.Helper()
	for {
		r := f.read(ctx, t)
		for _, s := range r.Sessions {
			if s.Account.User == user && s.State == want {
				return s
			}
		}
		select {
		case <-ctx.Done():
			t.Fatalf("%s has no %s session in %+v\n%s", user, want, r.Sessions, f.SesmanLog())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// busy lets the user's programs compute, and wants to see that.
func busy(ctx context.Context, t *testing.T, f *farm, s sessions.Session) {
	t.Helper()
	cmd := f.Command(ctx, "setpriv", "--reuid", s.Account.User, "--clear-groups", "sh", "-c", "while :; do :; done")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer f.Exec("pkill", "-f", "while :; do :; done")
	for {
		now := f.await(ctx, t, s.Account.User, s.State)
		if now.CPUTime > s.CPUTime+5*perTick && slices.Contains(now.Processes, "sh") {
			return
		}
		if ctx.Err() != nil {
			t.Fatalf("CPU time %d, then %d, programs %v", s.CPUTime, now.CPUTime, now.Processes)
		}
	}
}

// keepFile is the user who wants their session kept.
func keepFile(t *testing.T, f *farm, user, text string) {
	t.Helper()
	const script = `cd "$(getent passwd "$1" | cut -d: -f6)" && mkdir -p .config/rdpbroker && printf %s "$2" >.config/rdpbroker/keep`
	out, err := f.Command(t.Context(), "setpriv", "--reuid", user, "--clear-groups", "sh", "-c", script, "sh", user, text).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

func deadline(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func TestFarmSessionLife(t *testing.T) {
	t.Parallel()
	for _, backend := range []testlab.Backend{testlab.Xvnc, testlab.Xorg} {
		t.Run(string(backend), func(t *testing.T) {
			ctx := deadline(t)
			f := startFarm(t, testlab.XRDPOptions{MaxSessions: 3, Backend: backend}, nil)
			if r := f.read(ctx, t); len(r.Sessions) != 0 || r.Limit != 3 || r.CountsDisconnected != sessions.Yes {
				t.Errorf("an empty host reads as %+v", r)
			}

			client := f.connect(t, "rbaccountant1")
			on := f.await(ctx, t, "rbaccountant1", sessions.StateActive)
			desktop, err := f.WaitDesktop(ctx, "rbaccountant1")
			if err != nil {
				t.Fatal(err)
			}
			if d := on.LogonAt.Sub(desktop.Started); d < -10*time.Second || d > 2*time.Second {
				t.Errorf("logon %v, desktop started %v", on.LogonAt, desktop.Started)
			}

			// Long enough for the channel server's first socket to be told from the next.
			time.Sleep(time.Until(on.LogonAt.Add(listenSlack + 2*time.Second)))
			f.read(ctx, t)
			busy(ctx, t, f, on)
			before := time.Now()
			client.Disconnect()
			off := f.await(ctx, t, "rbaccountant1", sessions.StateDisconnected)
			if off.DisconnectedAt.Before(before) || off.DisconnectedAt.After(time.Now()) {
				t.Errorf("disconnected at %v, in truth between %v and now", off.DisconnectedAt, before)
			}
			if !off.SameIncarnation(on) {
				t.Errorf("another incarnation: %+v then %+v", on, off)
			}
			t.Logf("%+v", off)
			if again := f.await(ctx, t, "rbaccountant1", sessions.StateDisconnected); !again.DisconnectedAt.Equal(off.DisconnectedAt) {
				t.Errorf("disconnected at %v, then at %v", off.DisconnectedAt, again.DisconnectedAt)
			}

			keepFile(t, f, "rbaccountant1", "8h\n")
			if kept := f.await(ctx, t, "rbaccountant1", sessions.StateDisconnected).KeepUntil; time.Until(kept) < 7*time.Hour || time.Until(kept) > 8*time.Hour {
				t.Errorf("kept until %v", kept)
			}

			// A driver that has just been started finds the same time.
			fresh, err := New(f.driver.cfg, nil)
			if err != nil {
				t.Fatal(err)
			}
			r, _, err := fresh.read(ctx, f.host)
			if err != nil || len(r.Sessions) != 1 || !r.Sessions[0].DisconnectedAt.Equal(off.DisconnectedAt) {
				t.Errorf("a new driver finds %+v, %v; expected %v", r.Sessions, err, off.DisconnectedAt)
			}
		})
	}
}
