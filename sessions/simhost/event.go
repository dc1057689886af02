package simhost

import (
	"time"

	"github.com/rdpbroker/rdpbroker/sessions"
)

// Event is something that happened on the host.
type Event struct {
	// At is in the model's clock, not in the host's own.
	At   time.Time
	Kind EventKind
	// Session is the session after the event; only the account is set for a
	// refused logon.
	Session sessions.Session
	// Cause is who wanted it; empty for logons.
	Cause Cause
	// Text says more, for people: the message of a refusal, for example.
	Text string
}

// EventKind is what happened, as a word for log lines.
type EventKind string

// The kinds of events.
const (
	EventLogon        EventKind = "logon"         // a new session
	EventReconnected  EventKind = "reconnected"   // a client is back in its disconnected session
	EventTookOver     EventKind = "took over"     // a client took the session from another one
	EventDisconnected EventKind = "disconnected"  // the session lives on without a client
	EventLogoffBegan  EventKind = "logoff began"  // the session was told to go
	EventGone         EventKind = "gone"          // the session is gone and its ID free
	EventRefused      EventKind = "logon refused" // somebody was turned away
	EventMessage      EventKind = "message"       // its user was shown Event.Text
	EventRebooted     EventKind = "rebooted"      // everybody is gone
)

// Cause is who made something happen, as a word for log lines.
type Cause string

// The causes.
const (
	CauseUser       Cause = "user"       // the client closed, or its user chose to log off
	CauseManagement Cause = "management" // logoff.exe or a call of Model.Logoff
	CausePolicy     Cause = "policy"     // the host itself, by MaxDisconnectionTime
	CauseTakeover   Cause = "takeover"   // another client of the same user
	CauseShutdown   Cause = "shutdown"   // the host stops or restarts
)
