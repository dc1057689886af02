package xrdp

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/rdpbroker/rdpbroker/sessions"
)

// perTick is how many of sessions' CPU ticks are in one of Linux's, which /proc
// counts by the hundredth of a second on every architecture (USER_HZ, proc(5)).
const perTick = int64(10 * time.Millisecond / sessions.CPUTick)

// notes are what the driver remembers of each session from one reading to the
// next, by incarnation. All times are the host's.
type notes map[string]note

// note is what is remembered of one session.
type note struct {
	// logonAt is kept, because computed anew it could jump by a second whenever
	// the host's clock is adjusted.
	logonAt time.Time
	// seenAt is the last reading that showed the session.
	seenAt time.Time
	// connected: a client has been seen on it at some time.
	connected bool
	// marked: while a client was connected its channel server's socket was gone,
	// as it ought to be, so that the socket tells whenever somebody was there.
	marked bool
	// disconnectedAt is when the last client went; zero while one is there.
	disconnectedAt time.Time
	// socket and login are what the host showed at the last reading. Each
	// changes when the session is used, though nobody looked.
	socket, login string
}

// view is one session as judged from a reading, with the process that eviction
// would have to end.
type view struct {
	session sessions.Session
	boot    string
	process process // the session's own
	uid     int
	user    string
	wm, x   process // window manager and X server; pid 0: there is none
	chansrv process
	display int
	socket  string // as in note
	login   string // as in note
}

// judge turns a reading into sessions, and the notes before it into those after
// it. A session younger than settle that nobody was seen on is Init: its client
// may be just about to connect.
func judge(r *reading, before notes, settle time.Duration) ([]view, notes) {
	var views []view
	after := make(notes, len(r.sessions))
	for _, p := range r.sessions {
		v := viewOf(r, p)
		key := v.session.Incarnation
		n, known := before[key]
		if !known {
			n.logonAt = r.started(p)
		}
		v.session.State = stateOf(r, &v, n, settle)
		n = n.next(r, v, known)
		v.session.LogonAt, v.session.DisconnectedAt = n.logonAt, n.disconnectedAt
		if k, ok := r.keeps[v.uid]; ok && v.uid > 0 && v.session.State == sessions.StateDisconnected {
			v.session.KeepUntil = sessions.KeepUntil(k.text, k.written, n.logonAt, r.now)
		}
		after[key] = n
		views = append(views, v)
	}
	slices.SortFunc(views, func(a, b view) int { return cmp.Compare(a.session.ID, b.session.ID) })
	return views, after
}

// viewOf finds out who is who among the processes of a session.
func viewOf(r *reading, p process) view {
	v := view{boot: r.boot, process: p, uid: -1, display: -1}
	for _, c := range firstStarted(r.children[p.pid]) {
		switch {
		case isSessionManager(c.name): // a fork that has not become its program yet, but perhaps the user
			if v.uid < 0 && c.uid > 0 {
				v.uid = c.uid
			}
		case isXServer(c.name):
			if v.x.pid == 0 {
				v.x = c
			}
		case c.name == "xrdp-chansrv":
			v.chansrv = c
		case v.wm.pid == 0:
			v.wm = c
		}
	}
	// The X server is started by the session manager itself, after it has become
	// the user; a window manager could be anything.
	if v.x.pid != 0 {
		v.uid = v.x.uid
	} else if v.wm.pid != 0 {
		v.uid = v.wm.uid
	}
	v.user = r.users[v.uid]
	if v.uid == 0 {
		v.user = "root"
	}
	if d, ok := r.display[v.x.pid]; ok {
		v.display = d
		v.session.Name = fmt.Sprintf(":%d", d)
		v.socket = r.sockets[d].stamp
	}
	v.login = r.logins[p.pid]
	v.session.ID = p.pid
	v.session.Account = sessions.ParseAccount(v.user) // directory services have DOM\user or user@dom
	v.session.Incarnation = fmt.Sprintf("%s/%d/%d", r.boot, p.ticks, p.pid)
	if names := r.programs[v.uid]; v.uid > 0 && names != nil {
		v.session.Processes = slices.Sorted(slices.Values(names))
		v.session.CPUTime = min(r.cpu[v.uid], math.MaxInt64/perTick) * perTick
	}
	return v
}

// stateOf judges a session. What is not certainly disconnected is something else.
func stateOf(r *reading, v *view, n note, settle time.Duration) sessions.State {
	young := r.uptime-sinceBoot(v.process.ticks, r.hz) < settle
	switch {
	case v.display >= 0 && r.inUse[v.display]:
		return sessions.StateActive
	case v.x.pid == 0 || v.wm.pid == 0:
		if young {
			return sessions.StateInit
		}
		return sessions.StateDown
	case v.display < 0 || v.uid < 0 || v.user == "":
		return sessions.StateUnknown
	case young && !n.connected:
		return sessions.StateInit
	}
	return sessions.StateDisconnected
}

// next is the note after one more reading. known: there was one before.
func (n note) next(r *reading, v view, known bool) note {
	login := cmp.Or(v.login, n.login) // logs get rotated away
	switch v.session.State {
	case sessions.StateActive:
		n.connected, n.disconnectedAt = true, time.Time{}
		n.marked = v.socket == ""
	case sessions.StateDisconnected:
		if !known || n.disconnectedAt.IsZero() || n.usedUnseen(r, v, login) {
			n.disconnectedAt = disconnectTime(r, v, n, known)
		}
		n.connected = true
	default:
		n.disconnectedAt = time.Time{}
	}
	n.seenAt, n.socket, n.login = r.now, v.socket, login
	return n
}

// blind is how long the driver may have looked away from a session that nothing
// on the host tells the use of, and still trust that nobody was there.
const blind = time.Minute

// usedUnseen reports whether a session that was and is disconnected was, or may
// have been, in use since the last reading.
func (n note) usedUnseen(r *reading, v view, login string) bool {
	if v.socket != n.socket || login != n.login {
		return true
	}
	told := n.marked || login != ""
	return !told && r.now.Sub(n.seenAt) > blind
}

// disconnectTime is when the last client left a session that has become
// Disconnected since the last reading, or was found so: the change time of the
// channel server's socket if that can be it, or else the moment when the reading
// looked for clients. It cannot be if the last client did not use the channel
// server, which a host can be set to: then the socket is older than that
// client's logon, or as old as the channel server.
func disconnectTime(r *reading, v view, n note, known bool) time.Time {
	s, ok := r.sockets[v.display]
	firstListen := r.started(v.chansrv).Add(listenSlack)
	if !ok || v.chansrv.pid == 0 || s.changed.Before(firstListen) || s.changed.Sub(r.looked) > blind { // later: the clock was set back
		return r.looked
	}
	if known {
		// The client went after the last reading, so the change must be as late.
		if s.changed.After(n.seenAt) {
			return s.changed
		}
		return r.looked
	}
	login, ok := loginTime(v.login, s.changed.Location())
	if !ok || login.Add(logPrecision).After(s.changed) || login.Before(n.logonAt.Add(-logSlack)) {
		return r.looked // no such line, a client without channels, or another session's line
	}
	return s.changed
}

const (
	// logSlack is how far a stamp in the log of a session's first logon may lie
	// before the start of the session's process: both may be cut to seconds.
	logSlack = 3 * time.Second
	// logPrecision is how much too early a stamp may be: 0.9 has no fractions,
	// and those of 0.10 can belong to the next second.
	logPrecision = time.Second
	// listenSlack is how long after its start a channel server may open its first
	// socket, plus the second that the host's boot time is cut to.
	listenSlack = 3 * time.Second
)

// loginTime reads the stamp of a line in sesman's log, which "@" and an address
// follow: local time to the second in 0.9, local being the host's zone; time with
// a zone in 0.10.
func loginTime(login string, local *time.Location) (time.Time, bool) {
	stamp, _, _ := strings.Cut(login, "@")
	if t, err := time.Parse("2006-01-02T15:04:05.000-0700", stamp); err == nil {
		return t, true
	}
	t, err := time.ParseInLocation("20060102-15:04:05", stamp, local)
	return t, err == nil
}

// started is when a process of the session started, up to a second early.
func (r *reading) started(p process) time.Time {
	return r.booted.Add(sinceBoot(p.ticks, r.hz))
}

func sinceBoot(ticks uint64, hz int) time.Duration {
	return time.Duration(float64(ticks) / float64(hz) * float64(time.Second))
}

// firstStarted are processes in the order of their start.
func firstStarted(ps []process) []process {
	ps = slices.Clone(ps)
	slices.SortFunc(ps, func(a, b process) int {
		return cmp.Or(cmp.Compare(a.ticks, b.ticks), cmp.Compare(a.pid, b.pid))
	})
	return ps
}

func isSessionManager(name string) bool { return name == "xrdp-sesman" || name == "xrdp-sesexec" }

// isXServer: Xorg, Xvnc, Xtigervnc, Xtightvnc, X11rdp. Some distributions start a
// wrapper that becomes Xorg.
func isXServer(name string) bool {
	switch name {
	case "Xorg", "Xorg.wrap", "Xorg.bin", "X", "Xvnc", "Xtigervnc", "Xtightvnc", "Xrealvnc", "X11rdp":
		return true
	}
	return false
}
