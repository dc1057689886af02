package simhost

import (
	"bytes"
	"encoding/base64"
	"hash/fnv"
	"strconv"
	"strings"
	"time"

	"github.com/rdpbroker/rdpbroker/sessions"
)

// agentPlayer says and does what rdpbroker's agent for Windows hosts would, from
// the model: hello, state, beat, pong, logoff, error, bye.
type agentPlayer struct {
	program

	begun               time.Time
	beat, poll, silence time.Duration
	seq                 int
	told                string // hash of the last state
	toldAt, heard       time.Time
	asked               []string // requests for a state
	going               []*departing
}

// departing is a logoff that the agent follows.
type departing struct {
	request  string
	id       int
	logon    int64
	state    int
	deadline time.Time
}

// play runs until standard input ends, the broker falls silent, it is told to
// quit, or its shell ends.
func (p *agentPlayer) play() uint32 {
	class, ok := p.line()
	if source, err := base64.StdEncoding.DecodeString(class); !ok || err != nil || !bytes.Contains(source, []byte("class RdpBrokerAgent")) {
		p.say(object{"t": "cannot", "why": "compile", "base64": "Q1MxNTE4OiBFeHBlY3RlZCBjbGFzcw=="})
		return 4
	}
	options, ok := p.line()
	if !ok {
		return 5
	}
	p.begun = time.Now()
	p.heard = p.begun
	p.configure(options)
	p.say(object{"t": "hello", "v": 1, "agent": "simulated", "mode": "FullLanguage", "host": strings.ToUpper(p.host.machine),
		"os": "Microsoft Windows NT 10.0.20348.0", "pid": 4242, "own": 0, "bits": 64, "as": p.who.Account.String(), "admin": !p.who.LowRights})
	changed, stop := p.host.model.Watch()
	defer stop()
	why := ""
	for why == "" {
		p.look()
		timer := time.NewTimer(p.pause())
		select {
		case <-changed:
		case <-timer.C:
		case <-p.command.typed:
			why = p.obey()
		case <-p.command.stop:
			timer.Stop()
			return exitControlC
		}
		timer.Stop()
		if why == "" && time.Since(p.heard) > p.silence {
			why = "silence"
		}
	}
	p.say(object{"t": "bye", "why": why})
	return 0
}

// pause is how long nothing may be due.
func (p *agentPlayer) pause() time.Duration {
	d := min(p.poll, p.beat-time.Since(p.toldAt), p.silence-time.Since(p.heard))
	for _, g := range p.going {
		d = min(d, time.Until(g.deadline))
	}
	return max(d, time.Millisecond)
}

func (p *agentPlayer) configure(options string) {
	p.beat, p.poll, p.silence = 15*time.Second, 5*time.Second, 90*time.Second
	for _, w := range strings.Fields(options) {
		name, value, _ := strings.Cut(w, "=")
		n, err := strconv.ParseFloat(value, 64)
		if err != nil {
			continue
		}
		d := time.Duration(n * float64(time.Second))
		switch name {
		case "beat":
			p.beat = d
		case "poll":
			p.poll = d
		case "silence":
			p.silence = d
		}
	}
}

// line waits for a line of standard input; ok is false at its end, and when the
// command is to stop.
func (p *agentPlayer) line() (line string, ok bool) {
	for {
		lines, end := p.command.lines(1)
		if len(lines) == 1 {
			return lines[0], true
		}
		if end {
			return "", false
		}
		select {
		case <-p.command.typed:
		case <-p.command.stop:
			return "", false
		}
	}
}

// lines takes up to most whole lines of the input; end: no more will come.
func (c *command) lines(most int) (lines []string, end bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(lines) < most {
		line, rest, ok := bytes.Cut(c.stdin, []byte("\n"))
		if !ok {
			break
		}
		lines = append(lines, strings.TrimSpace(string(line)))
		c.stdin = rest
	}
	return lines, c.stdinEnd && len(c.stdin) == 0
}

// obey does the commands that have come; why is why to end.
func (p *agentPlayer) obey() (why string) {
	lines, end := p.command.lines(1000)
	for _, l := range lines {
		p.heard = time.Now()
		if p.host.cfg.OnCommand != nil {
			p.host.cfg.OnCommand(l)
		}
		w := strings.Fields(l)
		switch {
		case len(w) == 2 && w[0] == "ping":
			p.say(object{"t": "pong", "req": w[1], "up": p.up()})
		case len(w) == 2 && w[0] == "snapshot":
			p.asked = append(p.asked, w[1])
		case len(w) == 8 && w[0] == "logoff":
			p.logoff(w)
		case len(w) == 1 && w[0] == "quit":
			return "quit"
		}
	}
	if end {
		return "stdin"
	}
	return ""
}

func (p *agentPlayer) up() int64 { return time.Since(p.begun).Milliseconds() }

// look reads the sessions and tells what is new.
func (p *agentPlayer) look() {
	up := p.up()
	view := p.host.model.Overview()
	list := view.Sessions
	if p.who.LowRights {
		list = p.host.model.VisibleSessions()
	}
	p.follow(list)
	if e := view.Options.ListError; e != nil {
		p.say(object{"t": "error", "what": "WTSEnumerateSessionsEx", "code": e.Code})
		p.toldAt = time.Now()
		return
	}
	state := object{"t": "state", "console": 0, "facts": agentFacts(view.Options), "sessions": agentSessions(list)}
	hash := fnv.New64a()
	hash.Write(asciiJSON(state))
	sum := strconv.FormatUint(hash.Sum64(), 16)
	for sum != p.told || len(p.asked) > 0 {
		p.seq++
		state["seq"], state["up"], state["now"], state["hash"] = p.seq, up, fileTime(view.HostTime), sum
		if len(p.asked) > 0 {
			state["req"], p.asked = p.asked[0], p.asked[1:]
		}
		p.say(state)
		p.told, p.toldAt = sum, time.Now()
	}
	if time.Since(p.toldAt) >= p.beat {
		p.seq++
		p.say(object{"t": "beat", "seq": p.seq, "up": up, "now": fileTime(view.HostTime), "hash": sum})
		p.toldAt = time.Now()
	}
}

// logoff compares and logs off: logoff REQ ID LOGON DISCONNECT DOMAIN USER SECONDS.
func (p *agentPlayer) logoff(w []string) {
	id, err1 := strconv.Atoi(w[2])
	logon, err2 := strconv.ParseInt(w[3], 10, 64)
	disconnect, err3 := strconv.ParseInt(w[4], 10, 64)
	domain, ok1 := fromWord(w[5])
	user, ok2 := fromWord(w[6])
	seconds, err4 := strconv.Atoi(w[7])
	if err1 != nil || err2 != nil || err3 != nil || err4 != nil || !ok1 || !ok2 {
		p.refuse(w[1], id, "malformed", 0)
		return
	}
	why, code := p.host.model.logoffIf(id, func(s *session) (why string, code int) {
		switch {
		case p.who.LowRights && s.hidden:
			return "unreadable", errAccessDenied
		case s.Name == "console":
			return "console", 0
		case !strings.EqualFold(s.Account.User, user) || !strings.EqualFold(s.Account.Domain, domain):
			return "other-user", 0
		case fileTime(s.LogonAt) != logon:
			return "logged-on-anew", 0
		case s.State == sessions.StateActive:
			return "connected", 0
		case s.State != sessions.StateDisconnected:
			return "state", wtsState(s.State)
		case fileTime(s.DisconnectedAt) != disconnect:
			return "was-connected", 0
		case p.who.LowRights:
			return "logoff-failed", errAccessDenied
		}
		return "", 0
	})
	if why != "" {
		p.refuse(w[1], id, why, code)
		return
	}
	p.answer(w[1], id, "going", object{"state": wtsState(sessions.StateDisconnected)})
	p.going = append(p.going, &departing{request: w[1], id: id, logon: logon, state: wtsState(sessions.StateDisconnected),
		deadline: time.Now().Add(time.Duration(seconds) * time.Second)})
}

// logoffIf tells session id to go if refuse, with the model locked, has nothing
// against it.
func (m *Model) logoffIf(id int, refuse func(*session) (why string, code int)) (why string, code int) {
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
	switch {
	case s.going != nil:
		return "logoff-failed", errStationBusy
	case m.planOf(s).Refused:
		return "logoff-failed", errStationAccessDenied
	}
	m.beginLogoff(s, CauseManagement)
	return "", 0
}

// follow tells how the logoffs under way go on.
func (p *agentPlayer) follow(list []sessions.Session) {
	var left []*departing
	for _, g := range p.going {
		state, there := 0, false
		for _, s := range list {
			if s.ID == g.id && fileTime(s.LogonAt) == g.logon {
				state, there = wtsState(s.State), true
			}
		}
		switch {
		case !there:
			p.answer(g.request, g.id, "gone", nil)
			continue
		case !time.Now().Before(g.deadline):
			p.answer(g.request, g.id, "stuck", object{"state": state})
			continue
		case state != g.state:
			g.state = state
			p.answer(g.request, g.id, "going", object{"state": state})
		}
		left = append(left, g)
	}
	p.going = left
}

func (p *agentPlayer) refuse(request string, id int, why string, code int) {
	p.answer(request, id, "refused", object{"why": why, "code": code})
}

func (p *agentPlayer) answer(request string, id int, result string, more object) {
	m := object{"t": "logoff", "req": request, "id": id, "up": p.up(), "result": result}
	for k, v := range more {
		m[k] = v
	}
	p.say(m)
}

func (p *agentPlayer) say(m object) { p.print(string(asciiJSON(m)) + "\n") }
