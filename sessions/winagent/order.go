package winagent

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"go.uber.org/zap"

	"github.com/rdpbroker/rdpbroker/sessions"
)

// order is something to be done to one session, if it is still the one described.
type order struct {
	kind    string // of the command and of its answers
	ref     sessions.Ref
	session sessions.Session
	rest    []string // words of the command after the session's description
}

// What an order has come to, line.Result.
const (
	resultRefused = "refused"
	resultDone    = "done"
	resultGoing   = "going"
	resultGone    = "gone"
	resultStuck   = "stuck"
)

// done says of each kind of order what it did, or did not.
var done = map[string]string{kindLogoff: "", kindDisconnect: "disconnected", kindMessage: "sent a message"}

func (o *order) refuse(why string) error {
	return &sessions.RefusedError{Ref: o.ref, Why: why, Act: done[o.kind]}
}

// refused is the agent's answer that it did nothing.
func (o *order) refused(ln *line) error {
	text, ok := refusals[ln.Why]
	switch {
	case !ok:
		text = "the agent says " + strconv.Quote(excerpt(ln.Why))
	case ln.Why == "failed":
		text = fmt.Sprintf("%s failed (Win32 error %d)", functions[o.kind], ln.Code)
	case ln.Why == "state" || ln.Why == "not-active":
		text += " but " + stateOf(ln.Code).String()
	case ln.Code != 0:
		text = fmt.Sprintf("%s (Win32 error %d)", text, ln.Code)
	}
	return o.refuse(text)
}

// refusals are the agent's words for why it did nothing.
var refusals = map[string]string{
	"malformed":      "the agent did not understand the command",
	"bad-id":         "the ID is that of the services session or a listener",
	"own-session":    "it is the agent's own session",
	"console":        "it is the console session",
	"not-described":  "it is not described well enough to be told from another session",
	"busy":           "the agent does too much at once already",
	"locked":         "another broker's agent is logging a session off, or holds the lock as another account",
	"gone":           "it is not there any more",
	"unreadable":     "the host does not let the agent look at it",
	"other-user":     "another user has this session ID now",
	"logged-on-anew": "its user has logged on anew since",
	"connected":      "the user is connected again",
	"was-connected":  "the user was connected in between",
	"was-used":       "the user has done something since",
	"state":          "it is not disconnected",
	"not-active":     "it is not active",
	"failed":         "Windows said no",
}

// functions are what fails when the agent says "failed".
var functions = map[string]string{
	kindLogoff: "WTSLogoffSession", kindDisconnect: "WTSDisconnectSession", kindMessage: "WTSSendMessage",
}

// described says why s cannot be told from another session, or its logon time as
// the host has it.
func described(s sessions.Session) (logon int64, why string) {
	logon, err := strconv.ParseInt(s.Incarnation, 10, 64)
	switch {
	case s.ID < 1 || s.ID >= sessions.FirstListenerID:
		return 0, fmt.Sprintf("ID %d is the services session or a listener", s.ID)
	case s.Account.IsZero() || err != nil || logon <= 0:
		return 0, "it is not described well enough to be told from another session"
	}
	return logon, ""
}

// line is the command of request req.
func (o *order) line(req string, logon int64) string {
	words := []string{o.kind, req, strconv.Itoa(o.session.ID), strconv.FormatInt(logon, 10), word(o.session.Account.Domain), word(o.session.Account.User)}
	return strings.Join(slices.Concat(words, o.rest), " ")
}

// word is a text in a command: base64, and never empty.
func word(s string) string {
	if s == "" {
		return "-"
	}
	return base64.StdEncoding.EncodeToString([]byte(s))
}

// do has an order done and follows it to its end; nil if it was done.
func (a *Agent) do(ctx context.Context, o *order) error {
	logon, why := described(o.session)
	if why != "" {
		return o.refuse(why)
	}
	l := a.live()
	if l == nil {
		return o.refuse("no agent runs on the host now")
	}
	if l.deaf {
		return a.doApart(ctx, o, logon)
	}
	req, answers := l.expect()
	defer l.forget(req)
	sent := make(chan error, 1)
	select {
	case l.outgoing <- outgoing{data: []byte(o.line(req, logon) + "\n"), result: sent}:
	case <-l.ended:
		return o.refuse("the agent on the host has just ended")
	case <-ctx.Done():
		return o.refuse("there was no time to ask the host")
	}
	return l.await(ctx, o, sent, answers)
}

// doApart has an order done by an agent that is started for it alone.
func (a *Agent) doApart(ctx context.Context, o *order, logon int64) error {
	l := newLink(a.cfg, func(*link, *sessions.Report) {}, a.log)
	l.deaf, l.apart = true, true
	req, answers := l.expect()
	startCtx, cancelStart := context.WithTimeout(ctx, a.cfg.StartWithin)
	defer cancelStart()
	proc, err := a.startWith(startCtx, o.line(req, logon))
	if err != nil {
		return fmt.Errorf("session %s: the command may not have reached the host: start an agent for it: %w", o.ref, err)
	}
	l.proc = proc
	linkCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	l.cancel = cancel
	go l.run(linkCtx)
	defer func() { cancel(); <-l.ended }()
	return l.await(ctx, o, nil, answers)
}

// await follows an order that was given to its end.
func (l *link) await(ctx context.Context, o *order, sent <-chan error, answers <-chan *line) error {
	state, accepted := o.session.State, false
	for {
		var ln *line
		select {
		case err := <-sent:
			if err != nil {
				return fmt.Errorf("session %s: the command may not have reached the host: %w", o.ref, err)
			}
			sent = nil
			continue
		case ln = <-answers:
		case <-l.ended:
			select { // what it said last
			case ln = <-answers:
			default:
				return o.unknown(accepted, fmt.Errorf("the agent was lost: %w", l.err))
			}
		case <-ctx.Done():
			if accepted && errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return &sessions.StuckError{Ref: o.ref, State: state}
			}
			return o.unknown(accepted, ctx.Err()) // nobody waits for it any more
		}
		switch ln.Result {
		case resultRefused:
			return o.refused(ln)
		case resultGone, resultDone:
			return nil
		case resultStuck:
			return &sessions.StuckError{Ref: o.ref, State: stateOf(ln.State)}
		case resultGoing:
			accepted, state = true, stateOf(ln.State)
			l.log.Debug("session is logging off", zap.Stringer("session", o.ref), zap.Stringer("state", state))
		}
	}
}

func (o *order) unknown(accepted bool, err error) error {
	if accepted {
		return fmt.Errorf("session %s was told to log off, what became of it is not known: %w", o.ref, err)
	}
	return fmt.Errorf("session %s: the host was given the order %q and has not answered: %w", o.ref, o.kind, err)
}

// expect makes a request whose answers come through the channel.
func (l *link) expect() (req string, answers <-chan *line) {
	req = l.request()
	c := make(chan *line, 16)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.waiting[req] = c
	return req, c
}

func (l *link) forget(req string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.waiting, req)
}

// answer hands a line on to the logoff that it belongs to. If that does not
// keep up, the oldest one is lost, which is never the end.
func (l *link) answer(ln *line) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.waiting[ln.Request]
	if c == nil {
		return
	}
	for {
		select {
		case c <- ln:
			return
		default:
		}
		select {
		case <-c:
		default:
		}
	}
}
