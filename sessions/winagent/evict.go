package winagent

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"time"

	"go.uber.org/zap"

	"github.com/rdpbroker/rdpbroker/sessions"
)

// What a logoff has come to, line.Result.
const (
	resultRefused = "refused"
	resultGoing   = "going"
	resultGone    = "gone"
	resultStuck   = "stuck"
)

// longestLogoff bounds how long the agent follows a logoff that nobody gave up.
const longestLogoff = 10 * time.Minute

// Evict logs the victim off if it is still exactly the session described. The
// host is the judge, in one step: ID, account, logon time and disconnect time
// must be the same to 100 ns, and the session Disconnected. It returns nil when
// the session is gone.
//
// Errors: *sessions.RefusedError if nothing was done, also when no agent runs;
// *sessions.StuckError if the session was told to log off and is still there at
// ctx's deadline or ten minutes later. After any other the outcome is not known.
func (a *Agent) Evict(ctx context.Context, host string, victim sessions.Session) error {
	ref := sessions.RefOf(host, victim)
	logon, why := describable(victim)
	if why != "" {
		return &sessions.RefusedError{Ref: ref, Why: why}
	}
	l := a.live()
	if l == nil {
		return &sessions.RefusedError{Ref: ref, Why: "no agent runs on the host now"}
	}
	req, answers := l.expect()
	defer l.forget(req)
	within := longestLogoff
	if deadline, ok := ctx.Deadline(); ok { // the agent watches a little longer than we do
		within = min(within, time.Until(deadline)+5*time.Second)
	}
	sent := make(chan error, 1)
	command := fmt.Appendf(nil, "logoff %s %d %d %d %s %s %d\n", req, victim.ID, logon, toFileTime(victim.DisconnectedAt),
		word(victim.Account.Domain), word(victim.Account.User), max(1, int(within.Seconds())))
	select {
	case l.outgoing <- outgoing{data: command, result: sent}:
	case <-l.ended:
		return &sessions.RefusedError{Ref: ref, Why: "the agent on the host has just ended"}
	case <-ctx.Done():
		return &sessions.RefusedError{Ref: ref, Why: "there was no time to ask the host"}
	}
	return l.await(ctx, ref, victim.State, sent, answers)
}

// await follows a logoff that was asked for to its end.
func (l *link) await(ctx context.Context, ref sessions.Ref, state sessions.State, sent <-chan error, answers <-chan *line) error {
	accepted := false
	for {
		select {
		case err := <-sent:
			if err != nil {
				return fmt.Errorf("log session %s off: the command may not have reached the host: %w", ref, err)
			}
			sent = nil
		case ln := <-answers:
			switch ln.Result {
			case resultRefused:
				return &sessions.RefusedError{Ref: ref, Why: refusal(ln)}
			case resultGone:
				return nil
			case resultStuck:
				return &sessions.StuckError{Ref: ref, State: stateOf(ln.State)}
			case resultGoing:
				accepted, state = true, stateOf(ln.State)
				l.log.Debug("session is logging off", zap.Stringer("session", ref), zap.Stringer("state", state))
			}
		case <-l.ended:
			return unknownOutcome(ref, accepted, fmt.Errorf("the agent was lost: %w", l.err))
		case <-ctx.Done():
			if accepted && errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return &sessions.StuckError{Ref: ref, State: state}
			}
			return unknownOutcome(ref, accepted, ctx.Err()) // nobody waits for it any more
		}
	}
}

func unknownOutcome(ref sessions.Ref, accepted bool, err error) error {
	if accepted {
		return fmt.Errorf("session %s was told to log off, what became of it is not known: %w", ref, err)
	}
	return fmt.Errorf("session %s was asked to be logged off, the host has not answered: %w", ref, err)
}

// describable says why victim cannot be logged off by description, or its logon
// time as the host has it.
func describable(victim sessions.Session) (logon int64, why string) {
	logon, err := strconv.ParseInt(victim.Incarnation, 10, 64)
	switch {
	case victim.ID < 1 || victim.ID >= sessions.FirstListenerID:
		return 0, fmt.Sprintf("ID %d is the services session or a listener", victim.ID)
	case victim.Account.IsZero() || err != nil || logon <= 0:
		return 0, "it is not described well enough to be told from another session"
	case victim.State != sessions.StateDisconnected || victim.DisconnectedAt.IsZero():
		return 0, "it is not known since when it is disconnected"
	}
	return logon, ""
}

// refusals are the agent's words for why it did nothing.
var refusals = map[string]string{
	"malformed":      "the agent did not understand the command",
	"bad-id":         "the ID is that of the services session or a listener",
	"own-session":    "it is the agent's own session",
	"console":        "it is the console session",
	"not-described":  "it is not described well enough to be told from another session",
	"busy":           "the agent follows too many logoffs already",
	"locked":         "another broker's agent is logging a session off, or holds the lock as another account",
	"gone":           "it is not there any more",
	"unreadable":     "the host does not let the agent look at it",
	"other-user":     "another user has this session ID now",
	"logged-on-anew": "its user has logged on anew since",
	"connected":      "the user is connected again",
	"was-connected":  "the user was connected in between",
	"state":          "it is not disconnected",
	"logoff-failed":  "WTSLogoffSession failed",
}

func refusal(ln *line) string {
	text, ok := refusals[ln.Why]
	switch {
	case !ok:
		return "the agent says " + strconv.Quote(excerpt(ln.Why))
	case ln.Why == "state":
		return text + " but " + stateOf(ln.Code).String()
	case ln.Code != 0:
		return fmt.Sprintf("%s (Win32 error %d)", text, ln.Code)
	}
	return text
}

// word is a name in a command: base64, and never empty.
func word(s string) string {
	if s == "" {
		return "-"
	}
	return base64.StdEncoding.EncodeToString([]byte(s))
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

// retire ends an agent that another one has taken over from, when the logoffs
// that it follows are over.
func (l *link) retire(ctx context.Context) {
	defer l.cancel()
	look := time.NewTicker(50 * time.Millisecond)
	defer look.Stop()
	limit := time.NewTimer(longestLogoff)
	defer limit.Stop()
	for l.busy() {
		select {
		case <-look.C:
		case <-limit.C:
			return
		case <-l.ended:
			return
		case <-ctx.Done():
			return
		}
	}
	select {
	case l.outgoing <- outgoing{data: []byte("quit\n")}:
	case <-l.ended:
		return
	case <-ctx.Done():
		return
	}
	limit.Reset(5 * time.Second)
	select {
	case <-l.ended:
	case <-limit.C:
	case <-ctx.Done():
	}
}

func (l *link) busy() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.waiting) > 0
}
