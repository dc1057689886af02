package xrdp

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rdpbroker/rdpbroker/deploy/testlab"
	"github.com/rdpbroker/rdpbroker/sessions"
)

// hooked calls before ahead of each run of the script.
type hooked struct {
	Runner
	body   string
	before func()
}

func (r hooked) Run(ctx context.Context, stdin string, argv ...string) ([]byte, error) {
	if stdin == script(r.body) {
		r.before()
	}
	return r.Runner.Run(ctx, stdin, argv...)
}

// hook puts before ahead of the host's own comparison: after the driver has read
// that the session is disconnected, and before the host judges.
func (f *farm) hook(t *testing.T, before func()) *Driver {
	t.Helper()
	f.driver.mu.Lock()
	defer f.driver.mu.Unlock()
	cfg := f.driver.cfg
	cfg.Runner = hooked{Runner: cfg.Runner, body: evictScript, before: before}
	d, err := New(cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	d.notes = f.driver.notes
	return d
}

// TestFarmUserComesBackMeanwhile lets the user connect, really, between the
// driver's reading and the host's comparison. The host must refuse.
func TestFarmUserComesBackMeanwhile(t *testing.T) {
	t.Parallel()
	for _, backend := range []testlab.Backend{testlab.Xvnc, testlab.Xorg} {
		t.Run(string(backend), func(t *testing.T) {
			ctx := deadline(t)
			f := startFarm(t, testlab.XRDPOptions{Backend: backend}, nil)
			alice, desktop := f.disconnected(ctx, t, "rbalice")

			var client *testlab.Client
			d := f.hook(t, func() {
				client = f.connect(t, "rbalice")
				f.await(ctx, t, "rbalice", sessions.StateActive)
			})
			wantRefused(t, d.Evict(ctx, f.host, alice), "the user is connected again")
			client.Disconnect()
			alice = f.await(ctx, t, "rbalice", sessions.StateDisconnected)

			d = f.hook(t, func() {
				client := f.connect(t, "rbalice")
				f.await(ctx, t, "rbalice", sessions.StateActive)
				client.Disconnect()
				f.await(ctx, t, "rbalice", sessions.StateDisconnected)
			})
			wantRefused(t, d.Evict(ctx, f.host, alice), "it was used in the meantime")
			if !f.Runs(desktop) {
				t.Error("a refused eviction ended the desktop")
			}
		})
	}
}

// TestFarmRaceWithUser lets evictions and connecting users run against each
// other, without any order. Either the session is evicted, or it is refused and
// lives on; whoever is told that it was refused must find it running.
func TestFarmRaceWithUser(t *testing.T) {
	t.Parallel()
	ctx := deadline(t)
	f := startFarm(t, testlab.XRDPOptions{}, nil)
	var evicted, refused, lost int
	for i, delay := range []time.Duration{300, 800, 1500} { // ms; logging on takes about as long
		victim, desktop := f.disconnected(ctx, t, "rbdave")
		client := f.connect(t, "rbdave")
		time.Sleep(delay * time.Millisecond)
		switch err := f.driver.Evict(ctx, f.host, victim); {
		case err == nil:
			evicted++
			if f.Runs(desktop) {
				t.Errorf("round %d: evicted, but running", i)
			}
		default:
			refused++
			wantOneOf(t, err, "the user is connected again", "it was used in the meantime")
			if !f.Runs(desktop) {
				t.Errorf("round %d: refused, but gone", i)
			}
		}
		// In the old session or in a new one. There is a moment at which the
		// session manager has sent the client to a session that ends; then the
		// user has to try again.
		if !f.becomesActive(ctx, t, "rbdave", 5*time.Second) {
			lost++
			client.Kill()
			client = f.connect(t, "rbdave")
			f.await(ctx, t, "rbdave", sessions.StateActive)
		}
		client.Disconnect()
		f.await(ctx, t, "rbdave", sessions.StateDisconnected)
	}
	t.Logf("%d evicted, %d refused, %d had to try again", evicted, refused, lost)
}

func (f *farm) becomesActive(ctx context.Context, t *testing.T, user string, within time.Duration) bool {
	t.Helper()
	for end := time.Now().Add(within); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		for _, s := range f.read(ctx, t).Sessions {
			if s.Account.User == user && s.State == sessions.StateActive {
				return true
			}
		}
	}
	return false
}

func wantOneOf(t *testing.T, err error, whys ...string) {
	t.Helper()
	if refused, ok := err.(*sessions.RefusedError); !ok || !slices.Contains(whys, refused.Why) {
		t.Errorf("error %v, want a refusal because of one of %q", err, whys)
	}
}

// TestFarmHostCompares asks the host's script directly, with one wrong argument
// at a time: the driver's own checks, which come first, are out of the way.
func TestFarmHostCompares(t *testing.T) {
	t.Parallel()
	ctx := deadline(t)
	f := startFarm(t, testlab.XRDPOptions{}, nil)
	_, desktop := f.disconnected(ctx, t, "rbcarol")
	_, views, err := f.driver.read(ctx, f.host)
	if err != nil || len(views) != 1 {
		t.Fatalf("%v, %v", views, err)
	}
	v := views[0]
	right := []string{v.boot, strconv.Itoa(v.process.pid), fmt.Sprint(v.process.ticks), strconv.Itoa(v.wm.pid), fmt.Sprint(v.wm.ticks),
		strconv.Itoa(v.uid), v.user, strconv.Itoa(v.display), v.socket, f.driver.cfg.SocketDir, v.login, f.driver.cfg.SesmanLog}
	for _, tc := range []struct {
		name  string
		arg   int
		value string
		want  string
	}{
		{"another boot", 0, strings.Repeat("0", len(v.boot)), "refused rebooted"},
		{"no such session", 1, "99999", "refused gone"},
		{"a process that is no session", 1, "1", "refused other"},
		{"a successor with the same ID", 2, fmt.Sprint(v.process.ticks + 1), "refused other"},
		{"the session manager for a window manager", 3, strconv.Itoa(v.process.pid), "refused ending"},
		{"the first process for a window manager", 3, "1", "refused ending"},
		{"a successor of the window manager", 4, fmt.Sprint(v.wm.ticks + 1), "refused ending"},
		{"another user's number", 5, strconv.Itoa(v.uid + 1), "refused user"},
		{"another user's name", 6, "rbalice", "refused user"},
		{"a name that would be a command", 6, "rbcarol; kill 1 $(reboot) `id`", "refused user"},
		{"an older disconnect", 8, "2001-02-03 04:05:06.000000000 +0000", "refused used"},
		{"no channel server then", 8, "", "refused used"},
		{"an older logon", 10, "20010203-04:05:06@127.0.0.1:1", "refused used"},
	} {
		args := slices.Clone(right)
		args[tc.arg] = tc.value
		lines, err := runScript(ctx, f.driver.cfg.Runner, evictScript, args...)
		if err != nil || !slices.Equal(lines, []string{tc.want}) {
			t.Errorf("%s: %q, %v; want %q", tc.name, lines, err, tc.want)
		}
		if !f.Runs(desktop) {
			t.Fatalf("%s: the desktop has gone", tc.name)
		}
	}
	if lines, err := runScript(ctx, f.driver.cfg.Runner, evictScript, right...); err != nil || !slices.Equal(lines, []string{"asked"}) {
		t.Errorf("with the right arguments: %q, %v", lines, err)
	}
}
