package winagent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rdpbroker/rdpbroker/sessions"
)

// scripted is a Process that answers what it is sent as a test wants.
type scripted struct {
	answer  func(p *scripted, command string) // per line that was sent, but the class
	code    int
	sendErr error // what Send fails with, when it has been answered

	mu       sync.Mutex
	out, err *io.PipeWriter
	stdout   *io.PipeReader
	stderr   *io.PipeReader
}

func newScripted(answer func(p *scripted, command string)) *scripted {
	p := &scripted{answer: answer}
	p.stdout, p.out = io.Pipe()
	p.stderr, p.err = io.Pipe()
	return p
}

func (p *scripted) Start(context.Context, string) (Process, error) { return p, nil }

func (p *scripted) Send(_ context.Context, data []byte) error {
	for l := range strings.Lines(string(data)) {
		if l = strings.TrimSpace(l); len(l) < 1000 {
			go func() {
				p.mu.Lock() // one answer at a time
				defer p.mu.Unlock()
				p.answer(p, l)
			}()
		}
	}
	return p.sendErr
}

func (p *scripted) say(format string, args ...any) { fmt.Fprintf(p.out, format+"\n", args...) }
func (p *scripted) Stdout() io.Reader              { return p.stdout }
func (p *scripted) Stderr() io.Reader              { return p.stderr }
func (p *scripted) ExitCode() int                  { return p.code }
func (p *scripted) Close() error {
	p.stdout.CloseWithError(io.ErrClosedPipe)
	p.stderr.CloseWithError(io.ErrClosedPipe)
	p.end()
	return nil
}
func (p *scripted) end() { p.out.Close(); p.err.Close() }

const (
	scriptedHello = `{"t":"hello","v":1,"admin":true}`
	scriptedState = `{"t":"state","up":5,"now":134000000000000000,"hash":"a","sessions":[{"id":2,"state":4,"user":"a","logon":134000000000000000,"disc":134000000000000001}]}`
)

func TestAgentsThatEndTheirRun(t *testing.T) {
	short := Config{StartWithin: 200 * time.Millisecond, Lost: 200 * time.Millisecond, Ping: 20 * time.Millisecond}
	for _, c := range []struct {
		name   string
		cfg    Config
		code   int
		answer func(p *scripted, command string)
		want   string
		unfit  bool // an *UnusableError
	}{
		{"another protocol", Config{}, 0, func(p *scripted, _ string) { p.say(`{"t":"hello","v":7}`) }, "version 7 of the protocol", false},
		{"no hello", Config{}, 0, func(p *scripted, _ string) { p.say(scriptedState) }, `began with "state" instead of hello`, false},
		{"not JSON", Config{}, 0, func(p *scripted, _ string) { p.say(scriptedHello); p.say(`{"t":`) }, "not a line of the agent", false},
		{"constrained language mode", Config{}, 3, func(p *scripted, _ string) {
			p.say(`{"t":"cannot","why":"mode","detail":"ConstrainedLanguage"}`)
		}, "the agent cannot run: constrained language mode (ConstrainedLanguage)", true},
		{"does not compile", Config{}, 4, func(p *scripted, _ string) { p.say(`{"t":"cannot","why":"compile","base64":"Y3NjLmV4ZQ=="}`) },
			"the agent cannot run: it could not be compiled on the host (csc.exe)", true},
		{"no PowerShell", Config{}, 1, func(p *scripted, _ string) {
			fmt.Fprint(p.err, "'powershell.exe' is not recognized\r\nas an internal or external command")
			p.end()
		}, "PowerShell is missing ('powershell.exe' is not recognized as", true},
		{"no standard input", Config{}, 5, func(p *scripted, _ string) { p.end() }, "standard input is refused", true},
		{"ends at once", Config{}, 1, func(p *scripted, _ string) { fmt.Fprint(p.err, "#< CLIXML"); p.end() }, `ended at its start with exit code 1: "#< CLIXML"`, false},
		{"says nothing", short, 0, func(*scripted, string) {}, "nothing has been heard from the agent since its start", false},
		{"may not read", Config{}, 0, func(p *scripted, _ string) {
			p.say(scriptedHello)
			p.say(`{"t":"error","what":"WTSEnumerateSessionsEx","code":5}`)
		}, "WTSEnumerateSessionsEx fails with Win32 error 5", false},
		{"falls silent", short, 0, func(p *scripted, command string) {
			if strings.HasPrefix(command, "start") {
				p.say(scriptedHello)
				p.say(scriptedState)
			}
		}, "for too long", false},
		{"reads nothing", short, 0, func(p *scripted, command string) {
			if strings.HasPrefix(command, "start") {
				p.say(scriptedHello)
				p.say(scriptedState)
				p.say(`{"t":"error","what":"WTSEnumerateSessionsEx","code":5}`)
			} else if req, ok := strings.CutPrefix(command, "ping "); ok {
				p.say(`{"t":"pong","req":"%s","up":6}`, req)
			}
		}, "WTSEnumerateSessionsEx fails with Win32 error 5", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newScripted(c.answer)
			p.code = c.code
			w := watch(t, c.cfg, p)
			err := w.end()
			var unfit *UnusableError
			if err == nil || !strings.Contains(err.Error(), c.want) || errors.As(err, &unfit) != c.unfit {
				t.Errorf("ended with %v, want %q", err, c.want)
			}
		})
	}
}

// A host that cannot run the agent ends it before it has read its class: sending
// that fails, and is not the reason.
func TestReasonBeforeTheFailedSend(t *testing.T) {
	p := newScripted(func(p *scripted, _ string) {
		time.Sleep(50 * time.Millisecond)
		p.say(`{"t":"cannot","why":"mode","detail":"ConstrainedLanguage"}`)
	})
	p.sendErr = errors.New("broken pipe")
	w := watch(t, Config{}, p)
	var unusable *UnusableError
	if err := w.end(); !errors.As(err, &unusable) || unusable.Why != "constrained language mode" {
		t.Errorf("ended with %v", err)
	}
}

// Other programs may print before the agent does.
func TestForeignLinesAreSkipped(t *testing.T) {
	p := newScripted(func(p *scripted, command string) {
		if strings.HasPrefix(command, "start") {
			p.say("WARNING: this computer is monitored\r\n\r\n%s\r\nmore of that\r\n%s\r", scriptedHello, scriptedState)
		}
	})
	w := watch(t, Config{}, p)
	w.untilSession(2, "there", func(sessions.Session) bool { return true })
}

// A sign of life with another hash: a state was lost, and is asked for, all of it.
func TestLostStateIsAskedFor(t *testing.T) {
	for name, asked := range map[string]bool{"by itself": false, "asked for": true} {
		t.Run(name, func(t *testing.T) {
			p := newScripted(func(p *scripted, command string) {
				const beat = `{"t":"beat","up":9,"now":134000000000000009,"hash":"b","req":"%s","sessions":[{"id":2,"logon":134000000000000000,"input":134000000000000005}]}`
				words := strings.Fields(command)
				switch {
				case words[0] == "start":
					p.say(scriptedHello)
					p.say(scriptedState)
					if !asked {
						p.say(beat, "")
					}
				case words[0] == "snapshot" && len(words) == 3:
					p.say(beat, words[1])
				case words[0] == "snapshot":
					p.say(`{"t":"state","up":10,"now":134000000000000010,"hash":"b","req":"%s","sessions":[]}`, words[1])
				}
			})
			w := watch(t, Config{}, p)
			if asked {
				w.untilSession(2, "there", func(sessions.Session) bool { return true })
				w.Refresh()
			}
			r := w.until("an empty host", func(r sessions.Report) bool { return len(r.Sessions) == 0 })
			if !r.HostTime.Equal(fromFileTime(134000000000000010)) {
				t.Errorf("host time %s", r.HostTime)
			}
			for len(w.reports) > 0 {
				t.Errorf("a report too many: %+v", <-w.reports)
			}
		})
	}
}

// What has not changed need not be told again: the agent is asked with the hash that
// we have, and a beat is the answer, with the last inputs that are new.
func TestAnswerWithoutAState(t *testing.T) {
	commands := make(chan string, 10)
	p := newScripted(func(p *scripted, command string) {
		switch words := strings.Fields(command); words[0] {
		case "start":
			p.say(scriptedHello)
			p.say(`{"t":"state","up":5,"now":134000000000000100,"hash":"0a","sessions":[` +
				`{"id":2,"user":"a","logon":134000000000000000,"input":134000000000000001},{"id":3,"user":"b","logon":134000000000000000,"input":134000000000000002}]}`)
		case "snapshot":
			commands <- command
			p.say(`{"t":"beat","up":5,"now":134000000000000200,"hash":"0a","req":"%s","sessions":[{"id":2,"logon":134000000000000000,"input":134000000000000150},`+
				`{"id":3,"logon":133000000000000000,"input":134000000000000151},{"id":9,"logon":134000000000000000,"input":134000000000000152}]}`, words[1])
		}
	})
	w := watch(t, Config{}, p)
	first := w.until("a report", func(sessions.Report) bool { return true })
	asked := time.Now()
	w.Refresh()
	second := w.until("the one asked for", func(r sessions.Report) bool { return !r.ReadAt.Before(asked) })
	if words := strings.Fields(<-commands); len(words) != 3 || words[2] != "0a" {
		t.Errorf("asked %q", words)
	}
	if !second.HostTime.Equal(fromFileTime(134000000000000200)) || second.ReadAt.After(time.Now()) || len(second.Sessions) != 2 {
		t.Errorf("report %+v", second)
	}
	for _, c := range []struct {
		r    sessions.Report
		id   int
		want int64
	}{{first, 2, 1}, {first, 3, 2}, {second, 2, 150}, {second, 3, 2}} {
		if s, _ := session(c.r, c.id); toFileTime(s.LastInputAt) != 134000000000000000+c.want {
			t.Errorf("last input in session %d: %s", c.id, s.LastInputAt)
		}
	}
}

// What is no hash is not sent back, and a marker that is not known yet must be told
// of again.
func TestAskedForAState(t *testing.T) {
	for name, c := range map[string]struct {
		hash, more string
		want       bool // the hash is sent
	}{
		"a hash":                  {"4b5b8b936ef38853", "", true},
		"none":                    {"", "", false},
		"two words":               {"a b", "", false},
		"two lines":               {`a\nquit`, "", false},
		"too long":                {strings.Repeat("a", 65), "", false},
		"a marker not known yet":  {"a", `,"pending":true`, false},
		"all markers known again": {"a", `,"pending":false`, true},
	} {
		t.Run(name, func(t *testing.T) {
			commands := make(chan string, 10)
			p := newScripted(func(p *scripted, command string) {
				switch {
				case strings.HasPrefix(command, "start"):
					p.say(scriptedHello)
					p.say(`{"t":"state","up":5,"now":134000000000000000,"hash":"%s","sessions":[{"id":2%s}]}`, c.hash, c.more)
				case !strings.HasPrefix(command, "ping"):
					commands <- command
				}
			})
			w := watch(t, Config{}, p)
			w.until("a report", func(sessions.Report) bool { return true })
			w.Refresh()
			words := strings.Fields(<-commands)
			if words[0] != "snapshot" || (len(words) == 3) != c.want || c.want && words[2] != c.hash {
				t.Errorf("asked %q", words)
			}
		})
	}
}

// An agent that nobody waits for any more has not got stuck.
func TestGivenUpLogoff(t *testing.T) {
	p := newScripted(func(p *scripted, command string) {
		switch word, rest, _ := strings.Cut(command, " "); word {
		case "start":
			p.say(scriptedHello)
			p.say(scriptedState)
		case "logoff":
			req, _, _ := strings.Cut(rest, " ")
			p.say(`{"t":"logoff","req":"%s","id":2,"result":"going","state":8}`, req)
		}
	})
	w := watch(t, Config{}, p)
	victim := w.untilSession(2, "there", func(sessions.Session) bool { return true })
	var stuck *sessions.StuckError
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(100*time.Millisecond, cancel)
	if err := w.Evict(ctx, "ts1", victim); !errors.Is(err, context.Canceled) || errors.As(err, &stuck) {
		t.Errorf("given up: %v", err)
	}
	ctx, cancel = context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := w.Evict(ctx, "ts1", victim); !errors.As(err, &stuck) || stuck.State != sessions.StateDown {
		t.Errorf("not gone in time: %v", err)
	}
}

// A host that answers a logoff with words that we do not know has refused it.
func TestUnknownRefusal(t *testing.T) {
	p := newScripted(func(p *scripted, command string) {
		switch word, rest, _ := strings.Cut(command, " "); word {
		case "start":
			p.say(scriptedHello)
			p.say(scriptedState)
		case "logoff":
			req, _, _ := strings.Cut(rest, " ")
			p.say(`{"t":"logoff","req":"%s","id":2,"result":"refused","why":"moon \u001b"}`, req)
		}
	})
	w := watch(t, Config{}, p)
	victim := w.untilSession(2, "there", func(sessions.Session) bool { return true })
	var refused *sessions.RefusedError
	if err := w.Evict(t.Context(), "ts1", victim); !errors.As(err, &refused) || refused.Why != `the agent says "moon \x1b"` {
		t.Errorf("%v", err)
	}
}
