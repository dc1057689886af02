// Package audit is the record of what the broker decided and did: one value per
// event, and a writer that keeps them as JSON lines.
package audit

import (
	"time"

	"github.com/rdpbroker/rdpbroker/broker/placement"
	"github.com/rdpbroker/rdpbroker/sessions"
)

// Event says what a Record is about.
type Event string

// The events.
const (
	// Decided: a caller was given a host, or begins to wait.
	Decided Event = "decided"
	// Refused: a caller was turned away; Reason and Candidates say why.
	Refused Event = "refused"
	// Left: a caller went away while it waited.
	Left Event = "left"
	// Evicting: a session is about to be told to log off.
	Evicting Event = "evicting"
	// Evicted: it is gone.
	Evicted Event = "evicted"
	// EvictionRefused: the host would not, or the session had changed. Nothing was touched.
	EvictionRefused Event = "eviction-refused"
	// EvictionStuck: it was told to log off and is still there.
	EvictionStuck Event = "eviction-stuck"
	// EvictionFailed: the outcome is not known; the next reading tells.
	EvictionFailed Event = "eviction-failed"
	// Confirmed: the inventory saw the caller's session on the host.
	Confirmed Event = "confirmed"
	// SecondSession: the caller has a new session, and a disconnected one elsewhere,
	// which a better knowledge of who was coming would have led to. See Earlier.
	SecondSession Event = "second-session"
	// Noted: something about the audit itself; Note says what.
	Noted Event = "noted"

	// ModeSet: an operator has set the eviction mode of all farms (Setting), or
	// given it back to the configuration.
	ModeSet Event = "mode-set"
	// KeepSet: an operator has a session (Session, Account) kept until Until.
	KeepSet Event = "keep-set"
	// KeepEnded: an operator no longer has it kept.
	KeepEnded Event = "keep-ended"
	// DrainSet: an operator drains a host (Host, Setting), or does not, or leaves
	// that to the configuration again.
	DrainSet Event = "drain-set"

	// IdleWarned: the user of an active session (Decision.Idle, Account) who does
	// nothing was told that it will be disconnected.
	IdleWarned Event = "idle-warned"
	// IdleSpared: it was not, and Error says why; nothing was touched.
	IdleSpared Event = "idle-spared"
	// IdleDisconnected: it was; it goes on without a client.
	IdleDisconnected Event = "idle-disconnected"
	// IdleFailed: the user could not be warned, or it is not known whether it was.
	IdleFailed Event = "idle-failed"

	// MessageShown: an operator had a text (Setting) shown to the user (Account) of a
	// session (Session), or tried to (Error).
	MessageShown Event = "message-shown"
	// Reloaded: the configuration was read anew, by an operator or by a signal (By is
	// ""), or could not be used (Error).
	Reloaded Event = "reloaded"
)

// Evidence is what was known of a caller when somebody was logged off for them.
type Evidence string

// The kinds of evidence, the strongest first.
const (
	// Credentials: the host has accepted the caller's password.
	Credentials Evidence = "credentials"
	// KnownUser: nobody has shown a password; the name is that of a known account.
	KnownUser Evidence = "known-user"
	// TrustedClient: nobody has shown a password; the address is in trusted_clients.
	TrustedClient Evidence = "trusted-client"
)

// Configured is the Setting of what an operator has given back to the
// configuration.
const Configured = "configured"

// Events are all events.
func Events() []Event {
	return []Event{
		Decided, Refused, Left, Evicting, Evicted, EvictionRefused, EvictionStuck, EvictionFailed, Confirmed, SecondSession,
		Noted, ModeSet, KeepSet, KeepEnded, DrainSet,
		IdleWarned, IdleSpared, IdleDisconnected, IdleFailed, MessageShown, Reloaded,
	}
}

// Record is one event. Its zero fields do not apply to the event.
type Record struct {
	Time  time.Time `json:"time"`
	Event Event     `json:"event"`
	Farm  string    `json:"farm"`
	// Reservation is the number that joins the records of one logon, 0 before there is one.
	Reservation uint64            `json:"reservation,omitempty"`
	Identity    sessions.Identity `json:"identity"`
	// Decision is the decision in force: the one made now, or the one that an
	// eviction carries out.
	Decision placement.Decision `json:"decision,omitzero"`
	// Account is, for Confirmed, who the caller turned out to be, and for KeepSet and
	// KeepEnded whose session it is.
	Account sessions.Account `json:"account,omitzero"`
	// Earlier are, for SecondSession, the caller's sessions that were left behind.
	Earlier []sessions.Ref `json:"earlier,omitempty"`
	// Took is how long it took: the wait until a decision, the logoff of an eviction.
	Took time.Duration `json:"took_ns,omitempty"`
	// Mode is the eviction mode in force.
	Mode string `json:"mode,omitempty"`
	// Error is why it failed.
	Error string `json:"error,omitempty"`

	// By is the operator who ordered it, "" for what the broker did by itself.
	By string `json:"by,omitempty"`
	// Session is what an operator's order is about, nil if it is not about one.
	Session *sessions.Ref `json:"session,omitempty"`
	// Host is, for DrainSet, the host.
	Host string `json:"host,omitempty"`
	// Setting is what was set: off, shadow or evict; on or off; or Configured. For
	// MessageShown it is the text.
	Setting string `json:"setting,omitempty"`
	// Until is, for KeepSet, when it ends.
	Until time.Time `json:"until,omitzero"`
	// Evidence is, for the steps of an eviction, why it was believed that the caller
	// may have somebody logged off.
	Evidence Evidence `json:"evidence,omitempty"`
	// Note is, for Noted, what there is to note.
	Note *Note `json:"note,omitempty"`
}
