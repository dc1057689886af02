package simhost

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"hash/fnv"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/rdpbroker/rdpbroker/sessions"
)

// agentPlayer says and does what rdpbroker's agent for Windows hosts would, from
// the model: hello, state, work, beat, pong, answers to orders, error, bye.
type agentPlayer struct {
	program

	begun                          time.Time
	beat, poll, silence, processes time.Duration // of silence and processes 0 is never
	deaf                           bool          // it takes no commands
	seq                            int
	told                           string // hash of the last state
	toldAt, heard, workAt          time.Time
	names                          map[string]string // that have been told, by session
	asked                          []string          // requests for a state
	going                          []*departing
}

// play runs until standard input ends, the broker falls silent, it is told to
// quit, or its shell ends.
func (p *agentPlayer) play() uint32 {
	class, ok := p.variables["RDPBROKER_CLASS"]
	if !ok {
		class, ok = p.line()
	}
	switch {
	case !ok || class == "":
		p.say(object{"t": "cannot", "why": "stdin"})
		return 5
	case !isAgent(class):
		p.say(object{"t": "cannot", "why": "compile", "base64": "Q1MxNTE4OiBFeHBlY3RlZCBjbGFzcw=="})
		return 4
	}
	first, deaf := p.variables["RDPBROKER_START"]
	if !deaf {
		if first, ok = p.line(); !ok {
			return 5
		}
	}
	p.deaf = deaf
	p.begun = time.Now()
	p.heard = p.begun
	p.configure(first)
	p.say(object{"t": "hello", "v": 1, "agent": "simulated", "mode": "FullLanguage", "host": strings.ToUpper(p.host.machine),
		"os": "Microsoft Windows NT 10.0.20348.0", "pid": 4242, "own": 0, "bits": 64, "as": p.who.Account.String(), "admin": !p.who.LowRights})
	changed, stop := p.host.model.Watch()
	defer stop()
	once := isOrder(strings.Fields(first))
	if once {
		p.order(strings.Fields(first))
	}
	why := ""
	for why == "" {
		if once {
			if p.follow(p.visible(p.host.model.Overview())); len(p.going) == 0 {
				return 0
			}
		} else {
			p.look()
		}
		timer := time.NewTimer(p.pause())
		select {
		case <-changed:
		case <-timer.C:
		case <-p.typed():
			why = p.obey()
		case <-p.command.stop:
			timer.Stop()
			return exitControlC
		}
		timer.Stop()
		if why == "" && !p.deaf && time.Since(p.heard) > p.silence {
			why = "silence"
		}
	}
	p.say(object{"t": "bye", "why": why})
	return 0
}

// pause is how long nothing may be due.
func (p *agentPlayer) pause() time.Duration {
	d := min(p.poll, p.beat-time.Since(p.toldAt))
	if !p.deaf {
		d = min(d, p.silence-time.Since(p.heard))
	}
	if p.processes > 0 {
		d = min(d, p.processes-time.Since(p.workAt))
	}
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
		case "processes":
			p.processes = d
		}
	}
}

// typed has a value when something has come by standard input.
func (p *agentPlayer) typed() <-chan struct{} {
	if p.deaf {
		return nil
	}
	return p.command.typed
}

// isAgent recognizes the class as it is sent: base64 of gzip.
func isAgent(class string) bool {
	packed, err := base64.StdEncoding.DecodeString(class)
	if err != nil {
		return false
	}
	z, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return false
	}
	source, err := io.ReadAll(io.LimitReader(z, 1<<20))
	return err == nil && bytes.Contains(source, []byte("class RdpBrokerAgent"))
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
		case isOrder(w):
			p.order(w)
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

// visible are the sessions that the caller may see.
func (p *agentPlayer) visible(view Overview) []sessions.Session {
	if p.who.LowRights {
		return p.host.model.VisibleSessions()
	}
	return view.Sessions
}

// look reads the sessions and tells what is new.
func (p *agentPlayer) look() {
	up := p.up()
	view := p.host.model.Overview()
	list := p.visible(view)
	p.follow(list)
	if e := view.Options.ListError; e != nil {
		p.say(object{"t": "error", "what": "WTSEnumerateSessionsEx", "code": e.Code})
		p.toldAt = time.Now()
		return
	}
	state := object{"t": "state", "console": 0, "facts": agentFacts(view.Options), "sessions": p.states(list)}
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
	if p.processes > 0 && time.Since(p.workAt) >= p.processes {
		p.seq++
		p.say(object{"t": "work", "seq": p.seq, "up": up, "now": fileTime(view.HostTime), "hash": sum, "sessions": p.work(list)})
		p.workAt, p.toldAt = time.Now(), time.Now()
	}
	if time.Since(p.toldAt) >= p.beat {
		p.seq++
		p.say(object{"t": "beat", "seq": p.seq, "up": up, "now": fileTime(view.HostTime), "hash": sum})
		p.toldAt = time.Now()
	}
}

func (p *agentPlayer) say(m object) { p.print(string(asciiJSON(m)) + "\n") }
