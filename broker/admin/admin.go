// Package admin holds the words in which the broker speaks with operators: what
// there is to see (hosts, sessions, connections, people who wait), what may be
// done about it (Actions), and the sockets on which it is served. The rooms below
// it serve it: api to programs, page to people; auth says who may; site joins them.
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
	// The error is *NotFoundError if there is no such farm, *InvalidError
	// if a change makes no sense.
	Explain(q Question) (Explanation, error)
	// Ready is nil if the broker can place users, else it says why not.
	Ready() error
}

// NotFoundError says that something that a request names does not exist.
type NotFoundError struct{ What string }

func (e *NotFoundError) Error() string { return e.What + " does not exist" }

// InvalidError says that something in a request makes no sense.
type InvalidError struct{ Why string }

func (e *InvalidError) Error() string { return e.Why }

// Status is the broker at one moment. Its parts are not changed afterwards.
type Status struct {
	// Now is the broker's clock.
	Now time.Time
	// Version is the program's; StartedAt is when it was started.
	Version   string
	StartedAt time.Time
	// Farms are sorted by name.
	Farms []Farm
	// Connections are those that are relayed now, the oldest first.
	Connections []Connection
	// Kept are the sessions that an operator keeps from eviction.
	Kept         []Kept
	Snapshot     *sessions.Snapshot
	Reservations []Reservation
	// Waiting are the callers without a slot, by farm and then by time.
	Waiting []Waiting
	// Leaving are the sessions that were told to log off and are not gone yet.
	Leaving []sessions.Ref
	// Stuck are those of Leaving that should have been gone long ago.
	Stuck []sessions.Ref
}

// Farm is how one farm is run.
type Farm struct {
	Name string
	// Mode is the eviction mode in force: off, shadow or evict.
	Mode string
	// Configured is the mode that broker.yaml says, where an operator has said
	// otherwise; else "".
	Configured string
}

// Connection is one client's connection that is relayed to a host.
type Connection struct {
	// ID is unique as long as the broker runs.
	ID     uint64 `json:"id"`
	Farm   string `json:"farm"`
	Host   string `json:"host"`
	Client string `json:"client"` // address and port
	// Account is who the client is taken for, zero if that is not known.
	Account sessions.Account `json:"account,omitzero"`
	// Said is what the client wrote, for people.
	Said string `json:"said,omitempty"`
	// Kind is the decision that led there.
	Kind  placement.Kind `json:"kind"`
	Since time.Time      `json:"since"`
	// ToHost and ToClient are the bytes so far, nil if they are not counted before
	// the connection ends.
	ToHost   *int64 `json:"to_host_bytes,omitempty"`
	ToClient *int64 `json:"to_client_bytes,omitempty"`
}

// Kept is a session that is no victim for some time because an operator says so.
type Kept struct {
	Session sessions.Ref `json:"session"`
	Until   time.Time    `json:"until"`
	By      string       `json:"by"`
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
	// At is when they would come, with the sessions as they are now; zero for now.
	At time.Time
	// WhatIf are changes to the policy, KEY=VALUE as in broker.yaml.
	WhatIf []string
}

// Explanation is the answer to a Question.
type Explanation struct {
	Now time.Time `json:"now"`
	// At is the time that was asked about; zero for now.
	At time.Time `json:"at,omitzero"`
	// WhatIf are the changes to the policy that were supposed.
	WhatIf   []string           `json:"what_if,omitempty"`
	Farm     string             `json:"farm"`
	Identity sessions.Identity  `json:"identity"`
	Decision placement.Decision `json:"decision"`
	// Headroom is what the farm does to have slots free ahead of need; nil where it
	// does nothing of the kind.
	Headroom *placement.Decision `json:"headroom,omitempty"`
	// Mode is the farm's eviction mode: off, shadow or evict.
	Mode string `json:"mode,omitempty"`
}
