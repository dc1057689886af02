package winagent

import (
	"strconv"
	"strings"
	"time"

	"github.com/rdpbroker/rdpbroker/sessions"
)

// workload is what is known of the programs in one host's sessions. States do not
// tell of programs, and a line of kind work only what is new. A session that it has
// not is one whose programs have not been read.
type workload map[sessionKey]work

// work is of one session. Its slice is never changed once it is made.
type work struct {
	programs []string // not nil
	cpu      int64
	io       uint64
	at       time.Time // by the host's clock
}

// take is the workload after a line of kind work.
func (w workload) take(ln *line) workload {
	at := fromFileTime(ln.Now)
	next := make(workload, len(w))
	for k, x := range w {
		x.at, x.cpu, x.io = at, 0, 0 // sums that are not told are not known
		next[k] = x
	}
	for i := range ln.Sessions {
		s := &ln.Sessions[i]
		k := sessionKey{s.ID, strconv.FormatInt(s.Logon, 10)}
		x, known := next[k]
		switch {
		case s.Unread, s.Processes == nil && !known: // or it builds on what we have not been told
			delete(next, k)
			continue
		case s.Processes != nil:
			x.programs = s.Processes
		}
		x.at, x.cpu, x.io = at, max(0, s.CPU), s.IO
		next[k] = x
	}
	next.share()
	return next
}

// share lets sessions that run the same programs, which most do, have one list.
func (w workload) share() {
	lists := make(map[string][]string, len(w))
	for k, x := range w {
		key := strings.Join(x.programs, "\x00")
		if same, ok := lists[key]; ok {
			x.programs = same
			w[k] = x
		}
		lists[key] = x.programs
	}
}

// fill puts what is known of their programs into a host's sessions, and returns the
// workload of these sessions alone.
func (w workload) fill(list []sessions.Session) workload {
	next := make(workload, len(w))
	for i := range list {
		s := &list[i]
		k := sessionKey{s.ID, s.Incarnation}
		x, ok := w[k]
		if ok {
			next[k] = x
		}
		s.Processes, s.WorkAt, s.CPUTime, s.IOBytes = x.programs, x.at, 0, 0
		if s.State == sessions.StateDisconnected {
			s.CPUTime, s.IOBytes = x.cpu, x.io
		}
	}
	return next
}
