package simhost

import (
	"strconv"
	"strings"
	"time"

	"github.com/rdpbroker/rdpbroker/sessions"
)

// departing is a logoff that the agent follows.
type departing struct {
	order    *agentOrder
	state    int
	deadline time.Time
}

// agentOrder is a command about one session: KIND REQ ID LOGON DOMAIN USER and what
// belongs to its kind.
type agentOrder struct {
	kind, request, domain, user string
	id                          int
	logon                       int64
	rest                        []string
}

func isOrder(w []string) bool {
	return len(w) == 8 && (w[0] == "logoff" || w[0] == "message") || len(w) == 7 && w[0] == "disconnect"
}

func parseOrder(w []string) (o *agentOrder, ok bool) {
	o = &agentOrder{kind: w[0], request: w[1], rest: w[6:]}
	var err1, err2 error
	var ok1, ok2 bool
	o.id, err1 = strconv.Atoi(w[2])
	o.logon, err2 = strconv.ParseInt(w[3], 10, 64)
	o.domain, ok1 = fromWord(w[4])
	o.user, ok2 = fromWord(w[5])
	return o, err1 == nil && err2 == nil && ok1 && ok2
}

// order does what w says, if the session is still the one described, and answers.
func (p *agentPlayer) order(w []string) {
	o, ok := parseOrder(w)
	if !ok {
		p.refuse(o, "malformed", 0)
		return
	}
	why, code := "malformed", 0
	switch o.kind {
	case "logoff":
		why, code = p.logoff(o)
	case "disconnect":
		if input, err := strconv.ParseInt(o.rest[0], 10, 64); err == nil {
			why, code = p.host.model.actIf(o.id, func(s *session) (string, int) { return p.againstDisconnect(o, s, input) },
				func(s *session) { p.host.model.disconnect(s, CauseManagement) })
		}
	case "message":
		title, ok1 := fromWord(o.rest[0])
		text, ok2 := fromWord(o.rest[1])
		if ok1 && ok2 {
			why, code = p.host.model.actIf(o.id, func(s *session) (string, int) { return p.against(o, s) },
				func(s *session) { p.host.model.emit(EventMessage, s, CauseManagement, title+": "+text) })
		}
	}
	switch {
	case why != "":
		p.refuse(o, why, code)
	case o.kind != "logoff":
		p.answer(o, "done", nil)
	}
}

// against is what speaks against any order: that the session is another one.
func (p *agentPlayer) against(o *agentOrder, s *session) (why string, code int) {
	switch {
	case p.who.LowRights && s.hidden:
		return "unreadable", errAccessDenied
	case s.Name == "console" && o.kind != "message":
		return "console", 0
	case !strings.EqualFold(s.Account.User, o.user) || !strings.EqualFold(s.Account.Domain, o.domain):
		return "other-user", 0
	case fileTime(s.LogonAt) != o.logon:
		return "logged-on-anew", 0
	case p.who.LowRights && o.kind != "logoff":
		return "failed", errAccessDenied
	}
	return "", 0
}

func (p *agentPlayer) againstDisconnect(o *agentOrder, s *session, input int64) (why string, code int) {
	switch why, code := p.against(o, s); {
	case why != "":
		return why, code
	case s.State != sessions.StateActive:
		return "not-active", wtsState(s.State)
	case input > 0 && fileTime(s.LastInputAt) > input:
		return "was-used", 0
	}
	return "", 0
}

// logoff compares and logs off. If it did, the end is followed.
func (p *agentPlayer) logoff(o *agentOrder) (why string, code int) {
	m := p.host.model
	disconnect, err1 := strconv.ParseInt(o.rest[0], 10, 64)
	seconds, err2 := strconv.Atoi(o.rest[1])
	if err1 != nil || err2 != nil {
		return "malformed", 0
	}
	why, code = m.actIf(o.id, func(s *session) (string, int) {
		switch why, code := p.against(o, s); {
		case why != "":
			return why, code
		case s.State == sessions.StateActive:
			return "connected", 0
		case s.State != sessions.StateDisconnected:
			return "state", wtsState(s.State)
		case fileTime(s.DisconnectedAt) != disconnect:
			return "was-connected", 0
		case p.who.LowRights:
			return "failed", errAccessDenied
		case s.going != nil:
			return "failed", errStationBusy
		case m.planOf(s).Refused:
			return "failed", errStationAccessDenied
		}
		return "", 0
	}, func(s *session) { m.beginLogoff(s, CauseManagement) })
	if why != "" {
		return why, code
	}
	state := wtsState(sessions.StateDisconnected)
	p.answer(o, "going", object{"state": state})
	p.going = append(p.going, &departing{order: o, state: state, deadline: time.Now().Add(time.Duration(seconds) * time.Second)})
	return "", 0
}

// actIf does something to session id if refuse has nothing against it; both run
// with the model locked.
func (m *Model) actIf(id int, refuse func(*session) (why string, code int), act func(*session)) (why string, code int) {
	if id < 1 || id >= ListenerID {
		return "bad-id", 0
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.advance()
	s, err := m.find(id)
	if err != nil {
		return "gone", errStationNotFound
	}
	if why, code := refuse(s); why != "" {
		return why, code
	}
	act(s)
	return "", 0
}

// follow tells how the logoffs under way go on.
func (p *agentPlayer) follow(list []sessions.Session) {
	var left []*departing
	for _, g := range p.going {
		state, there := 0, false
		for _, s := range list {
			if s.ID == g.order.id && fileTime(s.LogonAt) == g.order.logon {
				state, there = wtsState(s.State), true
			}
		}
		switch {
		case !there:
			p.answer(g.order, "gone", nil)
			continue
		case !time.Now().Before(g.deadline):
			p.answer(g.order, "stuck", object{"state": state})
			continue
		case state != g.state:
			g.state = state
			p.answer(g.order, "going", object{"state": state})
		}
		left = append(left, g)
	}
	p.going = left
}

func (p *agentPlayer) refuse(o *agentOrder, why string, code int) {
	p.answer(o, "refused", object{"why": why, "code": code})
}

func (p *agentPlayer) answer(o *agentOrder, result string, more object) {
	m := object{"t": o.kind, "req": o.request, "id": o.id, "up": p.up(), "result": result}
	for k, v := range more {
		m[k] = v
	}
	p.say(m)
}
