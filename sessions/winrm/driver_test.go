package winrm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rdpbroker/rdpbroker/sessions"
	"github.com/rdpbroker/rdpbroker/sessions/lockout"
	"github.com/rdpbroker/rdpbroker/sessions/wintext"
)

// windows is an endpoint whose tools show the rows that it is given.
type windows struct {
	*fakeHost
	rowsMu sync.Mutex
	rows   []wintext.Row
	logoff func(id int) // what logoff.exe does to rows, which are locked
}

func newWindows(locale string, rows ...wintext.Row) *windows {
	w := &windows{rows: rows}
	w.fakeHost = &fakeHost{execute: func(command string) *fakeResult {
		w.rowsMu.Lock()
		defer w.rowsMu.Unlock()
		l, _ := wintext.LocaleByName(locale)
		var b bytes.Buffer
		var id int
		switch {
		case command == "quser.exe" && !hasUser(w.rows):
			return &fakeResult{stderr: "Kein Benutzer vorhanden für *\r\n", code: "1"}
		case command == "quser.exe":
			wintext.RenderQuser(&b, l, w.rows)
		case command == "qwinsta.exe":
			wintext.RenderQwinsta(&b, l, w.rows, false)
		case w.logoff != nil:
			if n, err := fmt.Sscanf(command, "logoff.exe %d /V", &id); n != 1 || err != nil {
				return nil
			}
			w.logoff(id)
		default:
			return nil
		}
		return &fakeResult{stdout: b.String(), code: "0"}
	}}
	return w
}

func (w *windows) set(rows ...wintext.Row) {
	w.rowsMu.Lock()
	defer w.rowsMu.Unlock()
	w.rows = rows
}

var rds1 = sessions.Host{Name: "rds1"}

// watch runs Watch and hands its reports and its end out.
func watch(ctx context.Context, d *Driver) (<-chan sessions.Report, <-chan error) {
	reports, ended := make(chan sessions.Report, 100), make(chan error, 1)
	go func() {
		ended <- d.Watch(ctx, rds1, func(r sessions.Report) { reports <- r })
	}()
	return reports, ended
}

func find(r sessions.Report, id int) sessions.Session {
	for _, s := range r.Sessions {
		if s.ID == id {
			return s
		}
	}
	return sessions.Session{}
}

// The whole way, over TLS and NTLM, in Chinese: read, refresh, evict, end.
func TestWatchAndEvict(t *testing.T) {
	zh, _ := wintext.LocaleByName("zh-CN")
	row := func(user string, id int, idle time.Duration) wintext.Row {
		r := disconnected(user, id, idle)
		r.LogonText = zh.LogonText(noon)
		return r
	}
	w := newWindows("zh-CN", usual(row("Anna", 3, time.Hour), row("陈小明", 4, 26*time.Hour))...)
	w.start(t)
	w.logoff = func(id int) { w.rows = usual(row("Anna", 3, 61*time.Minute)) }
	d := w.driver(func(c *Config) { c.TextEviction = true })
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	reports, ended := watch(ctx, d)

	first := <-reports
	if got := find(first, 4); got.Account.User != "陈小明" || got.State != sessions.StateDisconnected {
		t.Fatalf("got %+v", got)
	}
	if first.NoEvict != "" || len(first.Sessions) != 5 {
		t.Fatalf("got %+v", first)
	}
	d.Refresh()
	d.Refresh()
	second := <-reports
	if a, b := find(first, 3), find(second, 3); !reflect.DeepEqual(a, b) {
		t.Errorf("a session that nothing happened to became another:\n%+v\n%+v", a, b)
	}

	w.settleQuickly(d)
	if err := d.Evict(ctx, rds1, find(second, 4)); err != nil {
		t.Fatal(err)
	}
	var refused *sessions.RefusedError
	if err := d.Evict(ctx, rds1, find(second, 4)); !errors.As(err, &refused) {
		t.Errorf("the second eviction: %v", err)
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("Watch: %v", err)
	}
	if w.openShells() != 0 {
		t.Errorf("%d shells left", w.openShells())
	}
}

// settleQuickly shortens the looks at a session that is logging off.
func (w *windows) settleQuickly(d *Driver) { d.channel.(*textChannel).settle = time.Millisecond }

func TestWatchReadsEveryPoll(t *testing.T) {
	w := newWindows("en", usual()...)
	w.start(t)
	d := w.driver(func(c *Config) { c.Poll = time.Millisecond })
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	reports, ended := watch(ctx, d)
	if r := <-reports; len(r.Sessions) != 3 || r.NoEvict != whyNoTextEviction {
		t.Errorf("got %+v", r)
	}
	w.set(usual(active("Anna", 2))...)
	for r := range reports {
		if find(r, 2).State == sessions.StateActive {
			break
		}
	}
	cancel()
	<-ended
}

// What cannot be read is an error and never an empty report.
func TestWatchEndsWithTheFirstError(t *testing.T) {
	for name, rows := range map[string][]wintext.Row{
		"no rights": {{Own: true, SessionName: "services", ID: 0, State: sessions.StateDisconnected}},
		"no rows":   nil,
	} {
		w := newWindows("en", rows...)
		w.start(t)
		reports, ended := watch(t.Context(), w.driver())
		if err := <-ended; err == nil || !strings.Contains(err.Error(), "rds1") {
			t.Errorf("%s: %v", name, err)
		}
		if len(reports) > 0 {
			t.Errorf("%s: reported %+v", name, <-reports)
		}
		if w.openShells() != 0 {
			t.Errorf("%s: shells left", name)
		}
	}
}

// After a refused password a restarted Watch does not offer it again, until
// Refresh allows one try.
func TestWatchAfterRefusedPassword(t *testing.T) {
	w := newWindows("en", usual()...)
	w.password = "changed by the administrator"
	w.start(t)
	d := w.driver()
	try := func() {
		t.Helper()
		_, ended := watch(t.Context(), d)
		err := <-ended
		var refused *AuthError
		if !errors.As(err, &refused) {
			t.Fatalf("got %v", err)
		}
		var later interface{ RetryAfter() time.Duration }
		if !errors.As(err, &later) || later.RetryAfter() < lockout.Pause/2 {
			t.Errorf("the error does not say when to come back: %v", err)
		}
	}
	for range 5 {
		try()
	}
	if w.refusals != 1 {
		t.Errorf("offered %d times", w.refusals)
	}
	for range 5 {
		d.Refresh()
		try()
	}
	if w.refusals != 2 {
		t.Errorf("offered %d times after Refresh", w.refusals)
	}
	victim := sessions.Session{ID: 3, Account: sessions.Account{User: "anna"}, Incarnation: "x", State: sessions.StateDisconnected, DisconnectedAt: noon}
	d.channel.(*textChannel).allowEvict = true
	var refused *AuthError
	if err := d.Evict(t.Context(), rds1, victim); !errors.As(err, &refused) || w.refusals != 2 {
		t.Errorf("Evict: %v, offered %d times", err, w.refusals)
	}
}

func TestUnreachableHost(t *testing.T) {
	w := newWindows("en", usual()...)
	w.start(t)
	d := w.driver()
	w.srv.Close()
	_, ended := watch(t.Context(), d)
	if err := <-ended; err == nil {
		t.Error("no error")
	}
}

func TestCloseKeepsNoConnection(t *testing.T) {
	w := newWindows("en", usual()...)
	w.start(t)
	d := w.driver()
	if _, err := d.channel.(*textChannel).report(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(d.client.idle) != 1 {
		t.Error("no connection is kept")
	}
	for range 2 {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := d.channel.(*textChannel).report(t.Context()); err != nil {
		t.Error(err)
	}
	if len(d.client.idle) != 0 {
		t.Error("a connection is kept after Close")
	}
}

func TestConfig(t *testing.T) {
	good := Config{Endpoint: "rds1", User: `CONTOSO\svc`, Password: func() (string, error) { return "x", nil }}
	for _, tt := range []struct {
		name   string
		change func(*Config)
		url    string // if it is accepted
		want   string // in the error
	}{
		{"a host", func(*Config) {}, "https://rds1:5986/wsman", ""},
		{"a host and port", func(c *Config) { c.Endpoint = "rds1:443" }, "https://rds1:443/wsman", ""},
		{"an IPv6 address", func(c *Config) { c.Endpoint = "[2001:db8::1]" }, "https://[2001:db8::1]:5986/wsman", ""},
		{"a URL", func(c *Config) { c.Endpoint = "https://rds1/other" }, "https://rds1:5986/other", ""},
		{"plain HTTP, allowed", func(c *Config) { c.PlainHTTP = true }, "http://rds1:5985/wsman", ""},
		{"a plain URL, allowed", func(c *Config) { c.PlainHTTP, c.Endpoint = true, "http://rds1:80" }, "http://rds1:80/wsman", ""},
		{"a plain URL", func(c *Config) { c.Endpoint = "http://rds1" }, "", "allowed explicitly"},
		{"TLS and plain HTTP", func(c *Config) { c.PlainHTTP, c.Endpoint = true, "https://rds1" }, "", "scheme must be http"},
		{"another scheme", func(c *Config) { c.Endpoint = "ssh://rds1" }, "", "scheme must be https"},
		{"no host", func(c *Config) { c.Endpoint = ":5986" }, "", "names no host"},
		{"nothing", func(c *Config) { c.Endpoint = "" }, "", "names no host"},
		{"a password in the URL", func(c *Config) { c.Endpoint = "https://u:p@rds1" }, "", "only"},
		{"not a URL", func(c *Config) { c.Endpoint = "https://rds1:x" }, "", "endpoint"},
		{"no user", func(c *Config) { c.User = "" }, "", "no user"},
		{"no password", func(c *Config) { c.Password = nil }, "", "no password"},
		{"Basic in clear", func(c *Config) { c.PlainHTTP, c.Basic = true, true }, "", "in clear"},
		{"a CA without TLS", func(c *Config) { c.PlainHTTP, c.CA = true, []byte("x") }, "", "no meaning"},
		{"an empty CA", func(c *Config) { c.CA = []byte("nothing") }, "", "no certificate"},
		{"a negative poll", func(c *Config) { c.Poll = -1 }, "", "negative"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := good
			tt.change(&c)
			target, err := c.check()
			switch {
			case tt.want != "":
				if err == nil || !strings.Contains(err.Error(), tt.want) {
					t.Errorf("got %v, want %q", err, tt.want)
				}
				if _, err := New(c, nil); err == nil {
					t.Error("New accepts it")
				}
			case err != nil:
				t.Error(err)
			case target.url != tt.url || target.poll != DefaultPoll || target.timeout != DefaultTimeout || target.allowEvict || target.basic:
				t.Errorf("got %+v", target)
			}
		})
	}
}
