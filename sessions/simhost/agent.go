package simhost

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"io"
	"strconv"
	"strings"
	"time"
)

// agentPlayer says and does what rdpbroker's agent for Windows hosts would, from
// the model: hello, state, work, beat, pong, answers to orders, error, bye.
type agentPlayer struct {
	program

	begun                          time.Time
	beat, poll, silence, processes time.Duration // of silence and processes 0 is never
	deaf                           bool          // it takes no commands
	seq                            int
	seen                           *reading
	hash                           string                // of what was seen
	told                           string                // hash of the last state
	inputs                         map[incarnation]int64 // last inputs that have been told
	toldAt, heard, workAt          time.Time
	names                          map[string]string // that have been told, by session
	asked                          []snapshot
	going                          []*departing
}

// snapshot is a request for a reading, by somebody who has the state with this hash.
type snapshot struct{ request, hash string }

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
			p.read(false)
			if p.follow(p.seen.sessions); len(p.going) == 0 {
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
			p.asked = append(p.asked, snapshot{request: w[1]})
		case len(w) == 3 && w[0] == "snapshot":
			p.asked = append(p.asked, snapshot{request: w[1], hash: w[2]})
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

// read sees what is new, or all, and returns the host's own time.
func (p *agentPlayer) read(all bool) time.Time {
	version := uint64(0)
	if p.seen != nil && !all {
		version = p.seen.version
	}
	r, hostTime := p.host.model.readSince(version, p.who.LowRights)
	if r != nil {
		if p.seen == nil || p.seen.version != r.version {
			p.hash = r.hash()
		}
		p.seen = r
	}
	return hostTime
}

// look reads the sessions and tells what is new.
func (p *agentPlayer) look() {
	up := p.up()
	work := p.processes > 0 && time.Since(p.workAt) >= p.processes
	now := fileTime(p.read(work))
	p.follow(p.seen.sessions)
	if e := p.seen.options.ListError; e != nil {
		p.say(object{"t": "error", "what": "WTSEnumerateSessionsEx", "code": e.Code})
		p.toldAt = time.Now()
		return
	}
	for p.hash != p.told || len(p.asked) > 0 {
		var q snapshot
		if len(p.asked) > 0 {
			q, p.asked = p.asked[0], p.asked[1:]
		}
		p.seq++
		m := object{"t": "beat", "seq": p.seq, "up": up, "now": now, "hash": p.hash}
		if q.request != "" {
			m["req"] = q.request
		}
		if p.hash != p.told || p.hash != q.hash {
			m["t"], m["console"], m["facts"], m["sessions"] = "state", 0, agentFacts(p.seen.options), p.states()
		} else if inputs := p.newInputs(); len(inputs) > 0 {
			m["sessions"] = inputs
		}
		p.say(m)
		p.told, p.toldAt = p.hash, time.Now()
	}
	if work {
		p.seq++
		p.say(object{"t": "work", "seq": p.seq, "up": up, "now": now, "hash": p.hash, "sessions": p.work()})
		p.workAt, p.toldAt = time.Now(), time.Now()
	}
	if time.Since(p.toldAt) >= p.beat {
		p.seq++
		p.say(object{"t": "beat", "seq": p.seq, "up": up, "now": now, "hash": p.hash})
		p.toldAt = time.Now()
	}
}

func (p *agentPlayer) say(m object) { p.print(string(asciiJSON(m)) + "\n") }
