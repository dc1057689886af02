package xrdp

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/rdpbroker/rdpbroker/sessions"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeHost answers the scripts in the place of a host.
type fakeHost struct {
	read, evict, wait func(ctx context.Context) (string, error)

	mu    sync.Mutex
	reads int
}

func (f *fakeHost) Run(ctx context.Context, stdin string, _ ...string) ([]byte, error) {
	answer := map[string]func(context.Context) (string, error){
		script(readScript): f.read, script(evictScript): f.evict, script(waitScript): f.wait,
	}[stdin]
	if stdin == script(readScript) {
		f.mu.Lock()
		f.reads++
		f.mu.Unlock()
	}
	out, err := answer(ctx)
	return []byte(out), err
}

func (f *fakeHost) readings() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.reads
}

// always answers the same lines.
func always(lines string) func(context.Context) (string, error) {
	return func(context.Context) (string, error) { return banner + "\n" + lines, nil }
}

// captured answers with a capture.
func captured(t *testing.T, name string) func(context.Context) (string, error) {
	return always(strings.Join(capture(t, name), "\n") + "\n")
}

func newDriver(t *testing.T, r Runner) *Driver {
	t.Helper()
	d, err := New(Config{Runner: r, Settle: time.Second}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

var testHost = sessions.Host{Name: "h1"}

func TestWatchPolls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		host := &fakeHost{read: captured(t, "0.9.21-xvnc-disconnected.txt")}
		d := newDriver(t, host)
		ctx, cancel := context.WithCancel(t.Context())
		reports := make(chan sessions.Report, 100)
		done := make(chan error, 1)
		go func() { done <- d.Watch(ctx, testHost, func(r sessions.Report) { reports <- r }) }()

		synctest.Wait()
		if r := <-reports; len(r.Sessions) != 2 || r.Limit != 10 || r.LimitSource != "MaxSessions in /etc/xrdp/sesman.ini" || r.Source != "xrdp" ||
			r.CountsDisconnected != sessions.Yes || r.CountsSource == "" || r.Draining || r.NoEvict != "" || r.HostTime.Year() != 2026 || !r.ReadAt.Equal(time.Now()) {
			t.Errorf("%+v", r)
		}
		time.Sleep(11 * time.Second)
		synctest.Wait()
		if n := host.readings(); n != 3 { // at 0, 5 and 10 s
			t.Errorf("%d readings in 11 s", n)
		}
		d.Refresh()
		d.Refresh()
		synctest.Wait()
		if n := host.readings(); n != 4 && n != 5 {
			t.Errorf("%d readings after being asked twice, want one or two more", n)
		}
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Watch ended with %v", err)
		}
	})
}

func TestWatchEndsWithAnError(t *testing.T) {
	broken := errors.New("no route")
	for _, tc := range []struct {
		name string
		read func(context.Context) (string, error)
		want string
	}{
		{"unreachable", func(context.Context) (string, error) { return "", broken }, "read xrdp host h1: no route"},
		{"no session manager", always("now 5\nlooked 5\nboot 0123abcd\nuptime 5\nhz 100\nbtime 1\nend\n"), "xrdp-sesman is not running"},
		{"half an answer", always("now 5\n"), "cut off"},
		{"no rights", always("error rights the command runs as uid 7\n"), "rights are missing"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := newDriver(t, &fakeHost{read: tc.read}).Watch(t.Context(), testHost, func(r sessions.Report) { t.Errorf("published %+v", r) })
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v, want one with %q", err, tc.want)
			}
		})
	}
}

func TestReadingHasADeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDriver(t, &fakeHost{read: func(ctx context.Context) (string, error) { <-ctx.Done(); return "", ctx.Err() }})
		start := time.Now()
		err := d.Watch(t.Context(), testHost, nil)
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != 20*time.Second {
			t.Errorf("%v after %v", err, time.Since(start))
		}
	})
}

func TestWarningsAreToldOnce(t *testing.T) {
	for _, tc := range []struct {
		from, to, want string
		limit          int
	}{
		{"setting maxsessions 10", "setting maxsessions 0", "MaxSessions is not set", 0},
		{"setting maxsessions 10", "setting maxsessions -3", "MaxSessions is not set", 0},
		{"setting maxsessions 10", "setting unreadable -", "cannot be read", 0},
		{"setting killdisconnected false", "setting killdisconnected true", "KillDisconnected", 10},
		{"setting disconnectedtimelimit 0", "setting disconnectedtimelimit 600", "after 600 s", 10},
		{"setting idletimelimit 0", "setting idletimelimit 900", "disconnects idle sessions", 10},
		{"uptime ", "orphan 77\nuptime ", "earlier xrdp-sesman", 10},
	} {
		core, logs := observer.New(zap.WarnLevel)
		lines := strings.Replace(strings.Join(capture(t, "0.9.21-xvnc-empty.txt"), "\n"), tc.from, tc.to, 1)
		d, err := New(Config{Runner: &fakeHost{read: always(lines + "\n")}}, zap.New(core))
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			r, _, err := d.read(t.Context(), testHost)
			if err != nil || r.Limit != tc.limit || len(r.Warnings) != 1 || !strings.Contains(r.Warnings[0], tc.want) {
				t.Errorf("%s: limit %d, warnings %q, %v", tc.to, r.Limit, r.Warnings, err)
			}
		}
		if got := logs.TakeAll(); len(got) != 1 || !strings.Contains(got[0].Message, tc.want) {
			t.Errorf("%s: logged %v", tc.to, got)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	for _, cfg := range []Config{{}, {Runner: Local{}, SesmanINI: "etc/sesman.ini"}} {
		if _, err := New(cfg, nil); err == nil {
			t.Errorf("%+v is taken", cfg)
		}
	}
}

// victimOf is alice's session as the capture has it.
func victimOf(t *testing.T, d *Driver) sessions.Session {
	t.Helper()
	r, _, err := d.read(t.Context(), testHost)
	if err != nil || r.Sessions[0].State != sessions.StateDisconnected {
		t.Fatalf("%+v, %v", r, err)
	}
	return r.Sessions[0]
}

func TestEvictOutcomes(t *testing.T) {
	broken := errors.New("connection reset")
	fails := func(out string) func(context.Context) (string, error) {
		return func(context.Context) (string, error) { return out, broken }
	}
	const (
		gone    = "nil"
		refused = "refused"
		stuck   = "stuck"
		unknown = "unknown"
	)
	for _, tc := range []struct {
		name        string
		evict, wait func(context.Context) (string, error)
		want, text  string
	}{
		{"gone", always("asked\n"), always("gone\n"), gone, ""},
		{"told, the connection broke, gone", fails(banner + "\nasked\n"), always("gone\n"), gone, ""},
		{"still there", always("asked\n"), always("still\n"), stuck, "still there"},
		{"told, then nothing to be seen", always("asked\n"), fails(""), stuck, "still there"},
		{"told, then nonsense", always("asked\n"), always("what?\n"), stuck, "still there"},
		{"connected", always("refused connected\n"), nil, refused, "the user is connected again"},
		{"used", always("refused used\n"), nil, refused, "it was used in the meantime"},
		{"other", always("refused other\n"), nil, refused, "the ID belongs to another session now"},
		{"user", always("refused user\n"), nil, refused, "another account"},
		{"rebooted", always("refused rebooted\n"), nil, refused, "restarted"},
		{"gone by itself", always("refused gone\n"), nil, refused, "gone by itself"},
		{"ending", always("refused ending\n"), nil, refused, "ending already"},
		{"busy", always("refused busy\n"), nil, refused, "another eviction"},
		{"a refusal that nobody knows", always("refused lunch\n"), nil, unknown, `"refused lunch"`},
		{"nothing was said", always(""), nil, unknown, `answered ""`},
		{"no connection", fails(""), nil, unknown, "connection reset"},
		{"rights", always("error rights no lock file in /run\n"), nil, unknown, "rights are missing"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := newDriver(t, &fakeHost{read: captured(t, "0.9.21-xorg-disconnected.txt"), evict: tc.evict, wait: slowly(tc.wait)})
				victim := victimOf(t, d)
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				err := d.Evict(ctx, testHost, victim)
				var r *sessions.RefusedError
				var s *sessions.StuckError
				got := unknown
				switch {
				case err == nil:
					got = gone
				case errors.As(err, &r):
					got = refused
				case errors.As(err, &s):
					got = stuck
				}
				if got != tc.want || err != nil && !strings.Contains(err.Error(), tc.text) {
					t.Errorf("%s: %v; want %s, %q", got, err, tc.want, tc.text)
				}
			})
		})
	}
}

// slowly lets a second pass before each answer, as waiting does.
func slowly(f func(context.Context) (string, error)) func(context.Context) (string, error) {
	return func(ctx context.Context) (string, error) {
		select {
		case <-time.After(time.Second):
			return f(ctx)
		case <-ctx.Done():
			return "", ctx.Err()
		}
	}
}

// TestEvictAsksOnlyWhenItFits: what the driver's own reading contradicts never
// gets to the host.
func TestEvictAsksOnlyWhenItFits(t *testing.T) {
	host := &fakeHost{read: captured(t, "0.9.21-xorg-disconnected.txt"),
		evict: func(context.Context) (string, error) { t.Error("the host was asked"); return "", nil }}
	d := newDriver(t, host)
	victim := victimOf(t, d)
	report, _, err := d.read(t.Context(), testHost)
	if err != nil || report.Sessions[1].State != sessions.StateActive {
		t.Fatalf("%+v, %v", report, err)
	}
	connected := report.Sessions[1]
	for name, change := range map[string]func(*sessions.Session){
		"another ID":              func(s *sessions.Session) { s.ID++ },
		"another incarnation":     func(s *sessions.Session) { s.Incarnation += "1" },
		"no incarnation":          func(s *sessions.Session) { s.Incarnation = "" },
		"another account":         func(s *sessions.Session) { s.Account.User = "rbbob" },
		"no account":              func(s *sessions.Session) { s.Account = sessions.Account{} },
		"another disconnect time": func(s *sessions.Session) { s.DisconnectedAt = s.DisconnectedAt.Add(1) },
		"no disconnect time":      func(s *sessions.Session) { s.DisconnectedAt = time.Time{} },
		"a connected session":     func(s *sessions.Session) { *s = connected },
	} {
		v := victim
		change(&v)
		var refused *sessions.RefusedError
		if err := d.Evict(t.Context(), testHost, v); !errors.As(err, &refused) {
			t.Errorf("%s: %v, want a refusal", name, err)
		}
	}
}

func TestLocal(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	l := Local{Prefix: []string{"env", "-i"}}
	if out, err := l.Run(ctx, "echo \"$1\"; cat\n", "/bin/sh", "-s", "--", "a 'b' $(c)"); err != nil || string(out) != "a 'b' $(c)\n" {
		t.Errorf("%q, %v", out, err)
	}
	if _, err := l.Run(ctx, "echo oh dear >&2; exit 3", "/bin/sh"); err == nil || !strings.Contains(err.Error(), "oh dear") {
		t.Errorf("%v, want the complaint", err)
	}
	if _, err := l.Run(ctx, "", "/bin/sh", "-c", "while :; do echo 0123456789012345678901234567890123456789; done"); !errors.Is(err, errTooMuch) {
		t.Errorf("%v, want %v", err, errTooMuch)
	}
	if _, err := (Local{}).Run(ctx, ""); err == nil {
		t.Error("no command is taken")
	}
	short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	if out, err := l.Run(short, "echo early; exec sleep 60", "/bin/sh"); !errors.Is(err, context.DeadlineExceeded) || string(out) != "early\n" {
		t.Errorf("%q, %v; want what came before the deadline", out, err)
	}
}

// TestHalfAScriptDoesNothing: the shell must not run what it has not read to the end.
func TestHalfAScriptDoesNothing(t *testing.T) {
	mark := filepath.Join(t.TempDir(), "mark")
	whole := script("touch " + mark + "\n")
	if _, err := (Local{}).Run(t.Context(), whole[:len(whole)-len("} </dev/null\n")], "/bin/sh", "-s"); err == nil {
		t.Error("half a script is no error")
	}
	if _, err := os.Stat(mark); err == nil {
		t.Error("half a script was run")
	}
	if _, err := (Local{}).Run(t.Context(), whole, "/bin/sh", "-s"); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(mark); err != nil {
		t.Errorf("the whole script was not run: %v", err)
	}
}
