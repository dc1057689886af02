package placement

import (
	"time"

	"github.com/rdpbroker/rdpbroker/sessions"
)

// Kind is what a decision does with a caller.
type Kind uint8

// The kinds of decision, best first.
const (
	Reconnect   Kind = iota + 1 // back to the caller's own disconnected session
	TakeOver                    // to the caller's own active session
	Place                       // to a free slot
	MakeRoom                    // to a slot that the victim's logoff frees
	WaitForSlot                 // nothing to give now
	Refuse                      // nothing to give, ever, with this configuration
	KeepFree                    // no caller's: a slot made free ahead of need, see Headroom
	Disconnect                  // no caller's: an idle session that is disconnected, see DisconnectIdle
)

var kindNames = [...]string{"none", "reconnect", "take-over", "place", "make-room", "wait", "refuse", "headroom", "disconnect-idle"}

func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return "none"
}

// MarshalText writes the kind by name.
func (k Kind) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText reads the name that MarshalText writes; any other is no kind.
func (k *Kind) UnmarshalText(b []byte) error {
	*k = 0
	for i, n := range kindNames {
		if n == string(b) {
			*k = Kind(i)
		}
	}
	return nil
}

// Victim is the session that a decision logs off.
type Victim struct {
	Host    string           `json:"host"`
	Session sessions.Session `json:"session"`
	// DisconnectedFor is how long it had been disconnected at the decision.
	DisconnectedFor time.Duration `json:"disconnected_for_ns"`
}

// Ref names the victim.
func (v Victim) Ref() sessions.Ref { return sessions.RefOf(v.Host, v.Session) }

// Decision is the choice made for one caller, and why.
type Decision struct {
	Kind Kind `json:"kind"`
	// Host is where the caller goes; "" when waiting or refused.
	Host string `json:"host,omitempty"`
	// Own is the caller's own session, for Reconnect and TakeOver. Read only.
	Own *sessions.Ref `json:"own,omitempty"`
	// Victim is the session to log off first, for MakeRoom.
	Victim *Victim `json:"victim,omitempty"`
	// Idle is, for Disconnect, the session to disconnect.
	Idle *Idle `json:"idle,omitempty"`
	// NeedsProof: the victim, or the one that would have been it, may be logged off
	// only after Host has accepted the caller's password.
	NeedsProof bool `json:"needs_proof,omitempty"`
	// Would is, in shadow mode, the victim that evict mode would have chosen.
	Would *Victim `json:"would,omitempty"`
	// Reason is one sentence for people.
	Reason string `json:"reason"`
	// Class is the reason in one word, "" for what was never decided.
	Class Class `json:"class,omitempty"`
	// Candidates are all hosts and sessions that were looked at, and why each
	// lost or won.
	Candidates []Candidate `json:"candidates,omitempty"`
}

// Candidate is one possibility that a decision looked at.
type Candidate struct {
	Host string `json:"host"`
	// Session is the session's ID, 0 for the host itself.
	Session int `json:"session,omitempty"`
	// Account is the session's account.
	Account string `json:"account,omitempty"`
	// As is what it was looked at as: "own", "slot" or "victim".
	As string `json:"as"`
	// Chosen marks the one that won.
	Chosen bool `json:"chosen,omitempty"`
	// Why is a short sentence.
	Why string `json:"why"`
}

// View is everything that a decision may look at. It is immutable.
type View struct {
	Snapshot *sessions.Snapshot
	Farm     string
	// Now is the broker's clock.
	Now time.Time
	// Claims are the farm's live reservations, those of the caller left out.
	Claims *Claims
	// Brief asks for the same decision in few words: Decision.Candidates is left out,
	// and Reason does not go into particulars. One's own session and a free slot are
	// then found without looking at every host.
	Brief bool
	// Few leaves out of Candidates, for one's own session and a free slot, the hosts that
	// need not be looked at. It costs as little, but for the words.
	Few bool
	// Unreachable are hosts that could not be dialled lately, and why.
	Unreachable map[string]string
	// Leaving are sessions that were told to log off and are not gone yet.
	Leaving map[sessions.Ref]bool
	// Untouchable are sessions that must not be victims now, and why: refused by
	// their host, stuck, kept by an operator.
	Untouchable map[sessions.Ref]string
	// CannotEvict is why nothing can log a session off a host, "" if something can. Nil:
	// something always can. It must give the same answer each time.
	CannotEvict func(host string) string
	// CannotDisconnect are hosts on which nothing can warn users and disconnect their
	// sessions, and why. It is for DisconnectIdle.
	CannotDisconnect map[string]string
	// Unproven is the host that has let this caller in without asking for a password
	// first, so that there is no proof to wait for; "" if none has. It gives up its
	// own sessions only.
	Unproven string
	// EvictionsByHost are the evictions within the last hour.
	EvictionsByHost map[string]int
	// EvictionsByClient are those that the caller's address set off.
	EvictionsByClient int
	// EvictionsInFarm and EvictionsInAll are those in Farm, and in all farms.
	EvictionsInFarm, EvictionsInAll int
}
