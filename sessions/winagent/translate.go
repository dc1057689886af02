package winagent

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rdpbroker/rdpbroker/sessions"
)

// translate is the report of a state, read at readAt by our clock, or why the
// state tells nothing.
func translate(hello, l *line, readAt time.Time) (*sessions.Report, error) {
	r := &sessions.Report{
		ReadAt: readAt, HostTime: fromFileTime(l.Now), Source: "agent",
		Sessions: make([]sessions.Session, 0, len(l.Sessions)),
	}
	if r.HostTime.IsZero() {
		return nil, fmt.Errorf("a state without a time (%d)", l.Now)
	}
	seen := make(map[int]bool, len(l.Sessions))
	others := false // something is shown that only the privileged see
	for i := range l.Sessions {
		s := &l.Sessions[i]
		if seen[s.ID] || s.ID < 0 {
			return nil, fmt.Errorf("a state with two sessions %d, or none such", s.ID)
		}
		seen[s.ID] = true
		others = others || s.ID >= sessions.FirstListenerID || (s.ID == 0 && s.ID != hello.Own)
		r.Sessions = append(r.Sessions, s.translate(r.HostTime))
	}
	admin := hello.Admin != nil && *hello.Admin
	if !admin && !others {
		return nil, errNotPrivileged
	}
	l.Facts.fill(r)
	if !admin {
		r.Warnings = append(r.Warnings, "the agent is no administrator: sessions that it may not query are missing")
	}
	return r, nil
}

// pendingFor is how long a session is kept of which it is not known yet whether its
// user has asked for it.
const pendingFor = time.Minute

func (s *sessionLine) translate(hostTime time.Time) sessions.Session {
	x := sessions.Session{
		ID: s.ID, Name: s.Name, State: stateOf(s.State),
		LogonAt: fromFileTime(s.Logon), LastInputAt: fromFileTime(s.Input),
		ClientName: s.Client, Program: s.Program,
	}
	if s.User != "" {
		x.Account = sessions.Account{Domain: s.Domain, User: s.User}
	}
	if s.ID >= sessions.FirstListenerID {
		x.State = sessions.StateListen
	}
	if x.State == sessions.StateDisconnected { // it may be an old one in other states
		x.DisconnectedAt = fromFileTime(s.Disconnect)
	}
	x.Incarnation = s.incarnation()
	switch {
	case s.Pending:
		x.KeepUntil = hostTime.Add(pendingFor)
	case s.Marked != 0:
		x.KeepUntil = sessions.KeepUntil(s.Keep, fromFileTime(s.Marked), x.LogonAt, hostTime)
	}
	if a, err := netip.ParseAddr(strings.TrimSpace(s.Addr)); err == nil && !a.IsUnspecified() {
		x.ClientAddr = a.Unmap()
	}
	return x
}

// incarnation tells s from others that have had or will have its ID; "" if nobody
// has logged on to it.
func (s *sessionLine) incarnation() string {
	if fromFileTime(s.Logon).IsZero() {
		return ""
	}
	return strconv.FormatInt(s.Logon, 10)
}

// withInputs is a copy of list with the last inputs that a beat tells.
func withInputs(list []sessions.Session, told []sessionLine) []sessions.Session {
	inputs := make(map[sessionKey]int64, len(told))
	for i := range told {
		inputs[sessionKey{told[i].ID, told[i].incarnation()}] = told[i].Input
	}
	list = slices.Clone(list)
	for i := range list {
		if at, ok := inputs[sessionKey{list[i].ID, list[i].Incarnation}]; ok {
			list[i].LastInputAt = fromFileTime(at)
		}
	}
	return list
}

// stateOf is the state of a WTS_CONNECTSTATE_CLASS, whose order sessions.State
// keeps.
func stateOf(wts int) sessions.State {
	if wts < 0 || wts > 9 {
		return sessions.StateUnknown
	}
	return sessions.StateActive + sessions.State(wts)
}
