package xrdp

import (
	"testing"
	"time"

	"github.com/rdpbroker/rdpbroker/sessions"
)

// moment is one reading of a host with one session, as a test tells it. All
// times are seconds after the session's start.
type moment struct {
	at        float64
	connected bool
	socket    float64 // change time of the channel server's socket; 0: there is none
	login     float64 // last line in sesman's log; 0: none, or no log
	noWM, noX bool
}

var (
	bootTime    = time.Unix(1795396920, 0).UTC()
	sessionTime = bootTime.Add(1000 * time.Second)
)

func after(seconds float64) time.Time {
	return sessionTime.Add(time.Duration(seconds * float64(time.Second)))
}

func (m moment) reading() *reading {
	r := &reading{
		now: after(m.at), looked: after(m.at + 0.1), uptime: after(m.at).Sub(bootTime), hz: 100, boot: "b007", booted: bootTime,
		sesman: []int{1}, sessions: []process{{pid: 50, ticks: 100000}},
		children: map[int][]process{}, display: map[int]int{52: 10}, users: map[int]string{1000: "alice"},
		programs: map[int][]string{}, inUse: map[int]bool{10: m.connected}, sockets: map[int]socket{}, logins: map[int]string{},
	}
	if !m.noWM {
		r.children[50] = append(r.children[50], process{pid: 51, ticks: 100000, uid: 1000, name: "openbox"})
	}
	if !m.noX {
		r.children[50] = append(r.children[50], process{pid: 52, ticks: 100000, uid: 1000, name: "Xvnc"})
	}
	r.children[50] = append(r.children[50], process{pid: 53, ticks: 100025, uid: 1000, name: "xrdp-chansrv"})
	if m.socket != 0 {
		changed := after(m.socket)
		r.sockets[10] = socket{stamp: changed.Format("2006-01-02 15:04:05.999999999 -0700"), changed: changed}
	}
	if m.login != 0 {
		r.logins[50] = after(m.login).Format("20060102-15:04:05") + "@127.0.0.1:4711"
	}
	return r
}

// TestStateAndDisconnectTime tells the lives of sessions, reading by reading.
func TestStateAndDisconnectTime(t *testing.T) {
	type seen struct {
		state sessions.State
		since float64 // DisconnectedAt; 0: none
	}
	const (
		active = sessions.StateActive
		disc   = sessions.StateDisconnected
		starts = sessions.StateInit
		down   = sessions.StateDown
	)
	for _, tc := range []struct {
		name    string
		moments []moment
		want    []seen
	}{
		{"comes, goes, comes back, goes",
			[]moment{{at: 5, connected: true, login: 1}, {at: 10, connected: true, login: 1}, {at: 15, socket: 12.3, login: 1}, {at: 20, socket: 12.3, login: 1},
				{at: 25, connected: true, login: 22}, {at: 30, socket: 28.8, login: 22}},
			[]seen{{active, 0}, {active, 0}, {disc, 12.3}, {disc, 12.3}, {active, 0}, {disc, 28.8}}},
		{"was there and gone between two readings",
			[]moment{{at: 5, connected: true}, {at: 15, socket: 12}, {at: 20, socket: 17.5}, {at: 25, socket: 17.5}},
			[]seen{{active, 0}, {disc, 12}, {disc, 17.5}, {disc, 17.5}}},
		{"was there and gone, as only the log tells: clients use no channels",
			[]moment{{at: 5, connected: true, socket: 1, login: 1}, {at: 10, socket: 1, login: 1}, {at: 15, socket: 1, login: 1}, {at: 20, socket: 1, login: 17}},
			[]seen{{active, 0}, {disc, 10.1}, {disc, 10.1}, {disc, 20.1}}},
		{"without channels and log, a long look away makes a new time",
			[]moment{{at: 5, connected: true, socket: 1}, {at: 10, socket: 1}, {at: 15, socket: 1}, {at: 80, socket: 1}, {at: 85, socket: 1}},
			[]seen{{active, 0}, {disc, 10.1}, {disc, 10.1}, {disc, 80.1}, {disc, 80.1}}},
		{"with channels it does not",
			[]moment{{at: 5, connected: true}, {at: 10, socket: 7}, {at: 1000, socket: 7}},
			[]seen{{active, 0}, {disc, 7}, {disc, 7}}},
		{"the log is rotated away, and written again",
			[]moment{{at: 5, connected: true, socket: 1, login: 1}, {at: 10, socket: 1, login: 1}, {at: 15, socket: 1}, {at: 100, socket: 1}, {at: 105, socket: 1, login: 102}},
			[]seen{{active, 0}, {disc, 10.1}, {disc, 10.1}, {disc, 10.1}, {disc, 105.1}}},
		{"goes while the reading is under way",
			[]moment{{at: 5, connected: true}, {at: 10, socket: 10.05}, {at: 15, socket: 10.05}},
			[]seen{{active, 0}, {disc, 10.05}, {disc, 10.05}}},
		{"found disconnected, log and socket agree",
			[]moment{{at: 600, socket: 300.25, login: 200}},
			[]seen{{disc, 300.25}}},
		{"found disconnected after the first logon",
			[]moment{{at: 600, socket: 300.25, login: -1}}, // the log rounds down
			[]seen{{disc, 300.25}}},
		{"found disconnected, the last client used no channels",
			[]moment{{at: 600, socket: 300, login: 400}},
			[]seen{{disc, 600.1}}},
		{"found disconnected, without a log",
			[]moment{{at: 600, socket: 300}, {at: 605, socket: 300}},
			[]seen{{disc, 600.1}, {disc, 600.1}}},
		{"found disconnected, the log's line is of an earlier session with this ID",
			[]moment{{at: 600, socket: 300, login: -500}},
			[]seen{{disc, 600.1}}},
		{"found disconnected, without a channel server",
			[]moment{{at: 600, login: 200}},
			[]seen{{disc, 600.1}}},
		{"the clock was set back",
			[]moment{{at: 600, socket: 4200, login: 200}},
			[]seen{{disc, 600.1}}},
		{"young, nobody connected yet",
			[]moment{{at: 1, socket: 0.5}, {at: 29, socket: 0.5}, {at: 31, socket: 0.5}},
			[]seen{{starts, 0}, {starts, 0}, {disc, 31.1}}},
		{"young, but somebody has been there",
			[]moment{{at: 4, connected: true}, {at: 5, socket: 4.5}},
			[]seen{{active, 0}, {disc, 4.5}}},
		{"gone so soon that the socket may be the channel server's first",
			[]moment{{at: 1, connected: true}, {at: 3, socket: 2.5}},
			[]seen{{active, 0}, {disc, 3.1}}},
		{"on its way up, then down",
			[]moment{{at: 0.2, noWM: true, noX: true}, {at: 0.3, noWM: true}, {at: 1, connected: true}, {at: 40, noWM: true}, {at: 41, noWM: true, noX: true}},
			[]seen{{starts, 0}, {starts, 0}, {active, 0}, {down, 0}, {down, 0}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var memory notes
			var first sessions.Session
			for i, m := range tc.moments {
				var views []view
				views, memory = judge(m.reading(), memory, 30*time.Second)
				s := views[0].session
				want := time.Time{}
				if tc.want[i].since != 0 {
					want = after(tc.want[i].since)
				}
				if s.State != tc.want[i].state || !s.DisconnectedAt.Equal(want) {
					t.Errorf("at %v: %s since %v, want %s since %v", m.at, s.State, s.DisconnectedAt, tc.want[i].state, want)
				}
				if i == 0 {
					first = s
				}
				if s.Incarnation != first.Incarnation || !s.LogonAt.Equal(first.LogonAt) {
					t.Errorf("at %v: another incarnation", m.at)
				}
			}
		})
	}
}

func TestLoginTime(t *testing.T) {
	cet := time.FixedZone("CET", 3600)
	for stamp, want := range map[string]time.Time{
		"20261123-02:29:41@::1":        time.Date(2026, 11, 23, 1, 29, 41, 0, time.UTC),
		"2026-11-23T02:47:02.309+0200": time.Date(2026, 11, 23, 0, 47, 2, 309e6, time.UTC),
	} {
		if got, ok := loginTime(stamp, cet); !ok || !got.Equal(want) {
			t.Errorf("%s: %v, %v; want %v", stamp, got, ok, want)
		}
	}
	for _, stamp := range []string{"", "20261123", "yesterday"} {
		if got, ok := loginTime(stamp, cet); ok {
			t.Errorf("%q is %v", stamp, got)
		}
	}
}

func TestDoubtIsNotDisconnected(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(*reading)
		want   sessions.State
	}{
		{"the display is not known", func(r *reading) { r.display = nil }, sessions.StateUnknown},
		{"the user has no name", func(r *reading) { r.users = nil }, sessions.StateUnknown},
		{"the X server is changing its user", func(r *reading) { r.children[50][1].uid = -1 }, sessions.StateUnknown},
		{"only forks that are no programs yet", func(r *reading) {
			r.children[50] = []process{{pid: 51, name: "xrdp-sesman"}, {pid: 52, name: "xrdp-sesexec"}}
		}, sessions.StateDown},
		{"no children", func(r *reading) { r.children = nil }, sessions.StateDown},
	} {
		r := moment{at: 600, socket: 300, login: 200}.reading()
		tc.change(r)
		views, _ := judge(r, nil, 30*time.Second)
		if s := views[0].session; s.State != tc.want || !s.DisconnectedAt.IsZero() {
			t.Errorf("%s: %s since %v, want %s", tc.name, s.State, s.DisconnectedAt, tc.want)
		}
	}
}

// TestRoles: who is the window manager is decided by the order of start, not by
// process numbers, which wrap around.
func TestRoles(t *testing.T) {
	r := moment{at: 600}.reading()
	r.children[50] = []process{
		{pid: 7, ticks: 100300, uid: 1000, name: "reconnectwm.sh"}, // 0.10 starts it on reconnects
		{pid: 8, ticks: 100025, uid: 1000, name: "xrdp-chansrv"},
		{pid: 32000, ticks: 100000, uid: 1000, name: "Xsession"}, // a window manager, for all its X
		{pid: 52, ticks: 100001, uid: 1000, name: "Xtigervnc"},
	}
	views, _ := judge(r, nil, 30*time.Second)
	if v := views[0]; v.wm.pid != 32000 || v.x.pid != 52 || v.session.State != sessions.StateDisconnected {
		t.Errorf("%+v", v)
	}
}

func TestRootIsNamed(t *testing.T) {
	r := moment{at: 600}.reading()
	for i := range r.children[50] {
		r.children[50][i].uid = 0
	}
	views, _ := judge(r, nil, 30*time.Second)
	if s := views[0].session; s.Account.User != "root" || s.Processes != nil {
		t.Errorf("%+v", s)
	}
}

func TestDirectoryNames(t *testing.T) {
	for name, want := range map[string]sessions.Account{
		"alice":              {User: "alice"},
		`CORP\alice`:         {Domain: "CORP", User: "alice"},
		"alice@corp.example": {Domain: "corp.example", User: "alice"},
	} {
		r := moment{at: 600}.reading()
		r.users[1000] = name
		views, _ := judge(r, nil, 30*time.Second)
		if v := views[0]; v.session.Account != want || v.user != name {
			t.Errorf("%s: account %+v, name on the host %q", name, v.session.Account, v.user)
		}
	}
}

// TestNotesEndWithTheSession: a successor with the same ID inherits nothing.
func TestNotesEndWithTheSession(t *testing.T) {
	_, memory := judge(moment{at: 600, connected: true}.reading(), nil, 30*time.Second)
	successor := moment{at: 700, socket: 650}.reading()
	successor.sessions[0].ticks += 5000
	views, memory := judge(successor, memory, 30*time.Second)
	if len(memory) != 1 {
		t.Errorf("%d notes for one session", len(memory))
	}
	if s := views[0].session; !s.DisconnectedAt.Equal(after(700.1)) {
		t.Errorf("the successor was disconnected at %v", s.DisconnectedAt)
	}
}
