package audit

import (
	"time"

	"github.com/rdpbroker/rdpbroker/broker/placement"
	"github.com/rdpbroker/rdpbroker/sessions"
)

// Filter chooses records. Its zero fields choose all.
type Filter struct {
	// User is a name with * and ?, with or without the domain: of the caller, of who
	// they turned out to be, or of a victim.
	User string
	// Host is the name of a host that the caller goes to or somebody is logged off.
	Host string
	Farm string
	// Kind is an event, or the kind of a decision.
	Kind string
	// Since and Until bound the time, Until being outside.
	Since, Until time.Time
	// Evictions: only what was, or would have been, done to somebody's session.
	Evictions bool
}

// Kinds are the words that Filter.Kind may be.
func Kinds() []string {
	var words []string
	for _, e := range Events() {
		words = append(words, string(e))
	}
	for k := placement.Reconnect; k <= placement.Disconnect; k++ {
		words = append(words, k.String())
	}
	return words
}

// Match reports whether f chooses r.
func (f Filter) Match(r *Record) bool {
	switch {
	case !f.Since.IsZero() && r.Time.Before(f.Since), !f.Until.IsZero() && !r.Time.Before(f.Until):
		return false
	case f.Farm != "" && r.Farm != f.Farm:
		return false
	case f.Kind != "" && f.Kind != string(r.Event) && (r.Event != Decided || f.Kind != r.Decision.Kind.String()):
		return false
	case f.Evictions && !r.IsEviction():
		return false
	case f.Host != "" && !r.touches(f.Host):
		return false
	case f.User != "" && !r.concerns(f.User):
		return false
	}
	return true
}

// IsEviction reports whether r tells of somebody's session: that it was logged off,
// could not be, or would have been.
func (r *Record) IsEviction() bool {
	switch r.Event {
	case Evicting, Evicted, EvictionRefused, EvictionStuck, EvictionFailed:
		return true
	case Decided:
		return r.Decision.Would != nil
	}
	return false
}

// victim is whose session r is about, nil if nobody's.
func (r *Record) victim() *placement.Victim {
	if r.Decision.Victim != nil {
		return r.Decision.Victim
	}
	return r.Decision.Would
}

func (r *Record) touches(host string) bool {
	v := r.victim()
	return r.Decision.Host == host || r.Host == host || v != nil && v.Host == host || r.Session != nil && r.Session.Host == host
}

func (r *Record) concerns(user string) bool {
	is := func(a sessions.Account) bool {
		return !a.IsZero() && (placement.Glob(user, a.String()) || placement.Glob(user, a.User))
	}
	for _, a := range r.Identity.Accounts {
		if is(a) {
			return true
		}
	}
	v := r.victim()
	return is(r.Account) || v != nil && is(v.Session.Account) || r.Identity.Said != "" && placement.Glob(user, r.Identity.Said)
}
