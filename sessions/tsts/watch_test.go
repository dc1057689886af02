package tsts

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rdpbroker/rdpbroker/sessions"
	"github.com/rdpbroker/rdpbroker/sessions/lockout"
	"github.com/rdpbroker/rdpbroker/sessions/tsts/internal/rpctest"
)

// watching runs Watch; next gives report after report, end its error.
type watching struct {
	reports chan sessions.Report
	err     chan error
	cancel  context.CancelFunc
}

func watch(t *testing.T, d *Driver) *watching {
	t.Helper()
	ctx, cancel := context.WithCancel(within(t))
	w := &watching{reports: make(chan sessions.Report), err: make(chan error, 1), cancel: cancel}
	var done sync.WaitGroup
	done.Go(func() {
		w.err <- d.Watch(ctx, host, func(r sessions.Report) {
			select {
			case w.reports <- r:
			case <-ctx.Done():
			}
		})
	})
	t.Cleanup(func() { cancel(); done.Wait() })
	return w
}

func (w *watching) next(t *testing.T) sessions.Report {
	t.Helper()
	select {
	case r := <-w.reports:
		return r
	case err := <-w.err:
		t.Fatalf("Watch ended: %v", err)
	case <-within(t).Done():
		t.Fatal("no report")
	}
	return sessions.Report{}
}

// until gives the first report that satisfies ok.
func (w *watching) until(t *testing.T, ok func(sessions.Report) bool) sessions.Report {
	t.Helper()
	for {
		if r := w.next(t); ok(r) {
			return r
		}
	}
}

// ended is the error that Watch ends with; no report may come before it.
func (w *watching) ended(t *testing.T) error {
	t.Helper()
	select {
	case r := <-w.reports:
		t.Fatalf("published %+v", r)
	case err := <-w.err:
		return err
	case <-within(t).Done():
		t.Fatal("Watch goes on")
	}
	return nil
}

func byID(t *testing.T, r sessions.Report, id int) sessions.Session {
	t.Helper()
	for _, s := range r.Sessions {
		if s.ID == id {
			return s
		}
	}
	t.Fatalf("no session %d in %+v", id, r.Sessions)
	return sessions.Session{}
}

// Both interfaces tell the same of the same host, to 100 ns.
func TestReading(t *testing.T) {
	for name, edit := range map[string]func(*fakeHost){"session manager": func(*fakeHost) {}, "legacy": oldHost} {
		t.Run(name, func(t *testing.T) {
			before := time.Now()
			r := watch(t, newHost(t, edit).driver(t)).next(t)
			if r.Source != "rpc" || r.NoEvict != "" || len(r.Sessions) != 5 || r.ReadAt.Before(before) {
				t.Fatalf("got %+v", r)
			}
			noonTime := time.Date(2026, 3, 1, 12, 0, 0, 123456700, time.UTC)
			want := sessions.Session{ID: 3, Account: sessions.Account{Domain: "CONTOSO", User: "jürgen"}, State: sessions.StateDisconnected,
				LogonAt: noonTime.Add(-300 * time.Minute), DisconnectedAt: noonTime.Add(-60 * time.Minute), LastInputAt: noonTime.Add(-61 * time.Minute),
				Incarnation: fmt.Sprint(noon - 300*minute)}
			if got := byID(t, r, 3); fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", want) {
				t.Errorf("got  %+v\nwant %+v", got, want)
			}
			if got := byID(t, r, 2).ClientAddr.String(); got != "10.1.2.2" {
				t.Errorf("the client is %s", got)
			}
			if got := byID(t, r, 2); got.State != sessions.StateActive || got.Name != "RDP-Tcp#7" || !got.DisconnectedAt.IsZero() || got.Account.String() != `CONTOSO\Mary` {
				t.Errorf("got %+v", got)
			}
			if got := byID(t, r, 65536); got.State != sessions.StateListen || got.HasUser() {
				t.Errorf("got %+v", got)
			}
			if byID(t, r, 0).HasUser() || byID(t, r, 1).HasUser() || byID(t, r, 1).State != sessions.StateConnected {
				t.Errorf("got %+v", r.Sessions)
			}
			// The host's clock, taken back to the beginning of the reading.
			if r.HostTime.After(noonTime) || noonTime.Sub(r.HostTime) > time.Since(before) {
				t.Errorf("host time %v", r.HostTime)
			}
			if away, ok := r.DisconnectedFor(byID(t, r, 3), r.ReadAt); !ok || away > 60*time.Minute {
				t.Errorf("away for %v, %v", away, ok)
			}
		})
	}
}

func TestStates(t *testing.T) {
	f := newHost(t, func(f *fakeHost) {
		f.sessions = f.sessions[:1]
		for class := range int32(12) {
			f.sessions = append(f.sessions, winSession{id: 10 + class, state: class, user: "u", logon: noon})
		}
		f.sessions = append(f.sessions, winSession{id: 65537, name: "31c5ce94259d4006a9e4", state: 0})
	})
	r := watch(t, f.driver(t)).next(t)
	for class := range 10 {
		if got := byID(t, r, 10+class).State; int(got) != class+1 {
			t.Errorf("class %d is %v", class, got)
		}
	}
	if byID(t, r, 20).State != sessions.StateUnknown || byID(t, r, 21).State != sessions.StateUnknown {
		t.Error("a state that is not known became one that is")
	}
	if byID(t, r, 65537).State != sessions.StateListen {
		t.Error("a listener is no session")
	}
}

// Whatever a host says that does not show what is on it, no report comes of it.
func TestNoReport(t *testing.T) {
	for name, c := range map[string]struct {
		edit func(*fakeHost)
		want string
	}{
		"nothing visible":          {func(f *fakeHost) { f.sessions = nil }, "may not query"},
		"own session only":         {func(f *fakeHost) { f.sessions = f.sessions[2:3] }, "may not query"},
		"nothing visible, legacy":  {func(f *fakeHost) { oldHost(f); f.sessions = nil }, "may not query"},
		"listing denied":           {func(f *fakeHost) { f.codes["GetEnumResult"] = 0x80070005 }, "access denied"},
		"listing denied, NTSTATUS": {func(f *fakeHost) { oldHost(f); f.codes["Enumerate"] = 0xC0000022 }, "access denied"},
		"one session denied":       {func(f *fakeHost) { f.sessions[2].code = 0x80071B85 }, "others could be there unseen"},
		"busy":                     {func(f *fakeHost) { f.sessions[2].code = 0x80071B70 }, "busy"},
		"a code nobody knows":      {func(f *fakeHost) { f.codes["OpenEnum"] = 0x8000FFFF }, "0x8000FFFF"},
		"too busy fault":           {func(f *fakeHost) { f.faults["GetEnumResult"] = 0x1C010014 }, "too busy"},
		"a session twice":          {func(f *fakeHost) { f.sessions[2].id = 3 }, "twice"},
		"a negative ID":            {func(f *fakeHost) { f.sessions[2].id = -4 }, "-4"},
		"no interface at all":      {func(f *fakeHost) { f.Interfaces = nil }, "does not offer"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newHost(t, c.edit)
			if err := watch(t, f.driver(t)).ended(t); !strings.Contains(err.Error(), c.want) || isAuthError(err) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// A session that is gone when it is asked for still stood in the listing.
func TestSessionOnItsWay(t *testing.T) {
	for _, code := range []uint32{0x80071B6E, 0x80070002, 0xC00A0015, 0xD00A0015} {
		f := newHost(t, func(f *fakeHost) { f.sessions[3].code = code })
		r := watch(t, f.driver(t)).next(t)
		if got := byID(t, r, 3); got.State != sessions.StateDisconnected || got.HasUser() || got.Incarnation != "" {
			t.Errorf("0x%08X: %+v", code, got)
		}
	}
}

// Without the host's clock no disconnect time means anything.
func TestNoClock(t *testing.T) {
	for name, edit := range map[string]func(*fakeHost){
		"no legacy interface": func(f *fakeHost) { f.Interfaces = f.Interfaces[:3] },
		"refused":             func(f *fakeHost) { f.codes["QueryInformation8"] = 0xC0000022 },
		"nonsense":            func(f *fakeHost) { f.now = 5 },
	} {
		t.Run(name, func(t *testing.T) {
			r := watch(t, newHost(t, edit).driver(t)).next(t)
			if !strings.Contains(r.NoEvict, "clock is not known") {
				t.Errorf("NoEvict is %q", r.NoEvict)
			}
			s := byID(t, r, 3)
			if _, ok := r.DisconnectedFor(s, r.ReadAt); ok || s.LogonAt.IsZero() || s.Incarnation == "" {
				t.Errorf("got %+v", s)
			}
		})
	}
}

// Hosts of before Windows 7 have the session manager but not all its methods.
func TestMethodMissing(t *testing.T) {
	f := newHost(t, func(f *fakeHost) { f.faults["GetSessionInformationEx"] = 0x1C010002 })
	w := watch(t, f.driver(t))
	if r := w.next(t); len(r.Sessions) != 5 || r.NoEvict != "" {
		t.Errorf("got %+v", r)
	}
	w.next(t)
	if n := f.count("GetSessionInformationEx"); n != 1 {
		t.Errorf("asked %d times for what the host does not have", n)
	}
}

func TestRefreshAndEvents(t *testing.T) {
	for name, edit := range map[string]func(*fakeHost){"session manager": func(*fakeHost) {}, "legacy": oldHost} {
		t.Run(name, func(t *testing.T) {
			f := newHost(t, edit)
			d := f.driver(t, func(c *Config) { c.Poll = time.Hour })
			w := watch(t, d)
			w.next(t)
			d.Refresh()
			w.next(t)
			waitFor(t, func() bool { return f.count("Wait") > 0 })
			for range 2 { // it waits again after an event
				n := f.count("Wait")
				f.change(func(f *fakeHost) { f.find(2).state = 4 })
				f.notify()
				if r := w.next(t); byID(t, r, 2).State != sessions.StateDisconnected {
					t.Errorf("got %+v", byID(t, r, 2))
				}
				waitFor(t, func() bool { return f.count("Wait") > n })
			}
			w.cancel()
			if err := <-w.err; !errors.Is(err, context.Canceled) {
				t.Errorf("Watch ended with %v", err)
			}
			waitFor(t, func() bool { return f.Connections() == 0 })
		})
	}
}

// Without events the poll does the work.
func TestPollBehindEvents(t *testing.T) {
	f := newHost(t, func(f *fakeHost) { f.codes["Register"] = 0x80070005 })
	w := watch(t, f.driver(t))
	w.next(t)
	f.change(func(f *fakeHost) { f.remove(2) })
	w.until(t, func(r sessions.Report) bool { return len(r.Sessions) == 4 })
	if binds, _, _ := f.Counts(); binds > 4 {
		t.Errorf("%d connections: they are not kept", binds)
	}
}

// Where a client comes from is asked once for each connection, and no more of a
// host that does not tell.
func TestClientAddresses(t *testing.T) {
	f := newHost(t)
	w := watch(t, f.driver(t))
	for range 3 {
		if r := w.next(t); byID(t, r, 2).ClientAddr.String() != "10.1.2.2" || byID(t, r, 3).ClientAddr.IsValid() {
			t.Errorf("got %+v", r.Sessions)
		}
	}
	if n := f.count("QueryInformation29"); n != 1 {
		t.Errorf("asked %d times", n)
	}
	f.change(func(f *fakeHost) { f.find(2).name = "RDP-Tcp#8"; f.codes["QueryInformation29"] = 0xC0000003 })
	for range 3 {
		w.until(t, func(r sessions.Report) bool {
			return byID(t, r, 2).Name == "RDP-Tcp#8" && !byID(t, r, 2).ClientAddr.IsValid()
		})
	}
	if n := f.count("QueryInformation29"); n != 2 {
		t.Errorf("asked %d times", n)
	}
}

func waitFor(t *testing.T, ok func() bool) {
	t.Helper()
	for ctx := within(t); !ok(); {
		if !sleep(ctx, 5*time.Millisecond) {
			t.Fatal("it does not happen")
		}
	}
}

// A host that dies ends Watch; a new Watch finds it again.
func TestHostDiesAndReturns(t *testing.T) {
	f := newHost(t)
	d := f.driver(t)
	w := watch(t, d)
	w.next(t)
	f.stop()
	if err := <-w.err; err == nil || isAuthError(err) {
		t.Fatalf("Watch ended with %v", err)
	}
	if err := d.Watch(within(t), host, func(sessions.Report) { t.Error("a report of a host that is off") }); err == nil {
		t.Fatal("no error")
	}
	f.serve(t, f.addr)
	watch(t, d).next(t)
}

func TestBlackHole(t *testing.T) {
	for _, op := range []string{"OpenEnum", "GetSessionInformationEx"} {
		f := newHost(t, func(f *fakeHost) { f.hang[op] = true })
		d := f.driver(t, func(c *Config) { c.Timeout = 100 * time.Millisecond })
		if err := watch(t, d).ended(t); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "no answer in time") {
			t.Errorf("%s: %v", op, err)
		}
	}
}

func TestGarbage(t *testing.T) {
	for name, mangle := range map[string]func(kind byte, pkt []byte) []byte{
		"text":      func(byte, []byte) []byte { return []byte(strings.Repeat("garbage ", 20)) },
		"cut short": func(_ byte, pkt []byte) []byte { return pkt[:20] },
		"a bit": func(kind byte, pkt []byte) []byte {
			if kind == rpctest.Response {
				pkt[len(pkt)/2] ^= 1
			}
			return pkt
		},
		"no answers": func(kind byte, pkt []byte) []byte { return nil },
		"unsealed": func(kind byte, pkt []byte) []byte {
			if kind == rpctest.Response {
				pkt[10], pkt[11] = 0, 0
			}
			return pkt
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newHost(t, func(f *fakeHost) { f.Mangle = mangle })
			d := f.driver(t, func(c *Config) { c.Timeout = 500 * time.Millisecond })
			if err := watch(t, d).ended(t); isAuthError(err) {
				t.Errorf("taken for a refused logon: %v", err)
			}
		})
	}
}

// A refused password is offered once, until it changes, Refresh allows one more
// try, or half an hour has passed.
func TestWrongPassword(t *testing.T) {
	f := newHost(t)
	var mu sync.Mutex
	secret := "wrong"
	d := f.driver(t, func(c *Config) {
		c.Password = func() (string, error) { mu.Lock(); defer mu.Unlock(); return secret, nil }
	})
	now := time.Now()
	d.dialer.gate = lockout.New[string](func() time.Time { mu.Lock(); defer mu.Unlock(); return now })
	try := func() (refused int) {
		t.Helper()
		err := d.Watch(within(t), host, func(sessions.Report) { t.Error("a report") })
		var auth *AuthError
		if !errors.As(err, &auth) || auth.RetryAfter() <= 0 {
			t.Fatalf("got %v", err)
		}
		_, _, refused = f.Counts()
		return refused
	}
	if n := try(); n != 1 {
		t.Errorf("offered %d times", n)
	}
	if n := try(); n != 1 {
		t.Errorf("offered %d times", n)
	}
	d.Refresh()
	d.Refresh()
	if n := try(); n != 2 {
		t.Errorf("offered %d times after Refresh", n)
	}
	d.Refresh()
	if n := try(); n != 2 {
		t.Errorf("offered %d times: Refresh allows another at once", n)
	}
	err := d.Evict(within(t), host, victim())
	if _, _, refused := f.Counts(); !isAuthError(err) || refused != 2 {
		t.Errorf("Evict: %v, offered %d times", err, refused)
	}
	mu.Lock()
	now = now.Add(lockout.Pause)
	mu.Unlock()
	if n := try(); n != 3 {
		t.Errorf("offered %d times after the pause", n)
	}
	mu.Lock()
	secret = password
	mu.Unlock()
	watch(t, d).next(t)
}
