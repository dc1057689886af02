package winagent

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/rdpbroker/rdpbroker/sessions"
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
	o := &order{kind: kindLogoff, ref: sessions.RefOf(host, victim), session: victim}
	if _, why := described(victim); why != "" {
		return o.refuse(why)
	}
	if victim.State != sessions.StateDisconnected || victim.DisconnectedAt.IsZero() {
		return o.refuse("it is not known since when it is disconnected")
	}
	within := longestLogoff
	if deadline, ok := ctx.Deadline(); ok { // the agent watches a little longer than we do
		within = min(within, time.Until(deadline)+5*time.Second)
	}
	o.rest = []string{strconv.FormatInt(toFileTime(victim.DisconnectedAt), 10), strconv.Itoa(max(1, int(within.Seconds())))}
	return a.do(ctx, o)
}

// Disconnect takes the client of s away and leaves the session as it is, if it is
// still exactly the session described and Active. If s.LastInputAt is set its user
// must have done nothing since. The host is the judge, as with Evict.
//
// Errors: *sessions.RefusedError if nothing was done. After any other the outcome is
// not known.
func (a *Agent) Disconnect(ctx context.Context, host string, s sessions.Session) error {
	o := &order{kind: kindDisconnect, ref: sessions.RefOf(host, s), session: s,
		rest: []string{strconv.FormatInt(toFileTime(s.LastInputAt), 10)}}
	if s.State != sessions.StateActive {
		return o.refuse("it is not active but " + s.State.String())
	}
	return a.do(ctx, o)
}

// Message shows a text to the user of s, if that is still the session described, in
// a window that stays until they close it. It does not wait for that. Both texts are
// cut at what a window can show, and control characters are left out.
//
// Errors: *sessions.RefusedError if nothing was done. After any other the outcome is
// not known.
func (a *Agent) Message(ctx context.Context, host string, s sessions.Session, title, text string) error {
	title, text = sessions.Shown(title, sessions.MaxTitle), sessions.Shown(text, sessions.MaxMessage)
	if title == "" || text == "" {
		return errors.New("a message needs a title and a text")
	}
	return a.do(ctx, &order{kind: kindMessage, ref: sessions.RefOf(host, s), session: s, rest: []string{word(title), word(text)}})
}
