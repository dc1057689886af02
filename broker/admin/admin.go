// Package admin answers operators and monitoring over HTTP: health and metrics
// for anybody who may connect, hosts, sessions and explanations for those who
// may open the broker's Unix socket. It also holds the client of the latter, and
// the tables that the command line prints.
//
// Nothing here changes anything.
package admin

import (
	"net/netip"
	"time"

	"github.com/rdpbroker/rdpbroker/broker/placement"
	"github.com/rdpbroker/rdpbroker/sessions"
)

// State is what the handlers ask of the broker. Its methods are called at any
// time from many goroutines, and must not wait for the network.
type State interface {
	// Status is how things stand now.
	Status() Status
	// Explain is the decision that a caller would get, with nothing done about it.
	// The error is *NotFoundError if there is no such farm.
	Explain(q Question) (Explanation, error)
	// Ready is nil if the broker can place users, else it says why not.
	Ready() error
}

// NotFoundError says that something that a request names does not exist.
type NotFoundError struct{ What string }

func (e *NotFoundError) Error() string { return e.What + " does not exist" }

// Status is the broker at one moment. Its parts are not changed afterwards.
type Status struct {
	// Now is the broker's clock.
	Now          time.Time
	Snapshot     *sessions.Snapshot
	Reservations []Reservation
	// Waiting are the callers without a slot, by farm and then by time.
	Waiting []Waiting
	// Leaving are the sessions that were told to log off and are not gone yet.
	Leaving []sessions.Ref
}

// Reservation is a slot that was promised to somebody.
type Reservation struct {
	ID   uint64 `json:"id"`
	Farm string `json:"farm"`
	Host string `json:"host"`
	// Account is who it is for, zero if that is not known.
	Account sessions.Account `json:"account,omitzero"`
	Client  netip.Addr       `json:"client,omitzero"`
	// Kind is the decision that it carries out.
	Kind placement.Kind `json:"kind"`
	// Own is the session that they go back to, nil for a new one.
	Own *sessions.Ref `json:"own,omitempty"`
	// Victim is the session that is logged off for it, nil if none.
	Victim *sessions.Ref `json:"victim,omitempty"`
	// Seen is their session once it has appeared; from then on that holds the slot.
	Seen      *sessions.Ref `json:"seen,omitempty"`
	MadeAt    time.Time     `json:"made_at"`
	ExpiresAt time.Time     `json:"expires_at"`
}

// claim is r as the count of slots in use sees it.
func (r *Reservation) claim() placement.Claim {
	return placement.Claim{Account: r.Account, Host: r.Host, Own: r.Own, Victim: r.Victim, Confirmed: r.Seen != nil}
}

// Waiting is a caller without a slot.
type Waiting struct {
	Farm     string            `json:"farm"`
	Identity sessions.Identity `json:"identity"`
	Since    time.Time         `json:"since"`
	// Reason is why there was no slot when it was last tried.
	Reason string `json:"reason"`
}

// Question asks what would become of a caller.
type Question struct {
	// User is what the client would say: a name, whole or cut, or "".
	User string
	// From is the client's address; the zero value for one that nothing is known of.
	From netip.Addr
	// Farm may be empty where there is only one.
	Farm string
}

// Explanation is the answer to a Question.
type Explanation struct {
	Now      time.Time          `json:"now"`
	Farm     string             `json:"farm"`
	Identity sessions.Identity  `json:"identity"`
	Decision placement.Decision `json:"decision"`
	// Mode is the farm's eviction mode: off, shadow or evict.
	Mode string `json:"mode,omitempty"`
}
