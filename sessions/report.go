package sessions

import "time"

// Tri is an answer that may be missing. Its zero value is Unknown.
type Tri uint8

// The three answers.
const (
	Unknown Tri = iota
	Yes
	No
)

func (t Tri) String() string { return [...]string{"unknown", "yes", "no"}[t%3] }

// MarshalText writes unknown, yes or no.
func (t Tri) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// UnmarshalText reads yes or no; anything else is Unknown.
func (t *Tri) UnmarshalText(b []byte) error {
	switch string(b) {
	case "yes":
		*t = Yes
	case "no":
		*t = No
	default:
		*t = Unknown
	}
	return nil
}

// Report is one host's reading: everything that a driver found out at one
// moment. A report is immutable once published. That a host could not be read
// is no report at all, never an empty one.
type Report struct {
	// ReadAt is the broker's clock when the reading was *begun*: whatever
	// happened on the host after it may be missing from Sessions.
	ReadAt time.Time `json:"read_at"`
	// HostTime is the host's own clock at the reading, in which the times of
	// Sessions are written. Zero: the driver already translated them to ReadAt's clock.
	HostTime time.Time `json:"host_time,omitzero"`
	// Sessions are all that the host showed, listeners and services included.
	Sessions []Session `json:"sessions"`
	// Limit is the session limit as the host tells it; 0 when it does not.
	Limit int `json:"limit,omitempty"`
	// CountsDisconnected says whether disconnected sessions hold slots there.
	CountsDisconnected Tri `json:"counts_disconnected"`
	// Draining: the host refuses new sessions but lets users back in to theirs.
	Draining bool `json:"draining,omitempty"`
	// Source is how it was read, for people: "quser", "agent", "xrdp".
	Source string `json:"source"`
	// OS is the host's operating system, for people; "" if the driver does not read it.
	OS string `json:"os,omitempty"`
	// LimitSource says where Limit comes from, for people: "MaxInstanceCount, by
	// policy". "" if the driver does not tell.
	LimitSource string `json:"limit_source,omitempty"`
	// CountsSource says why CountsDisconnected is what it is, for people; "" if
	// it is Unknown or the driver does not tell.
	CountsSource string `json:"counts_source,omitempty"`
	// Warnings are settings of the host that work against a broker, a sentence
	// each: time limits of its own, Remote Desktop switched off.
	Warnings []string `json:"warnings,omitempty"`
	// NoEvict says why this reading must not be used to choose a victim; "" when it may.
	NoEvict string `json:"no_evict,omitempty"`
}

// DisconnectedFor is how long s has been disconnected at the broker's time now:
// by the host's own clock up to the reading, by ours since then. ok is false if
// s is not Disconnected, or the time is unknown, lies in the host's future, or is
// no time that a session can have.
func (r *Report) DisconnectedFor(s Session, now time.Time) (d time.Duration, ok bool) {
	if s.State != StateDisconnected {
		return 0, false
	}
	return r.since(s.DisconnectedAt, now)
}

// IdleFor is how long there has been no input in s at the broker's time now, as
// DisconnectedFor counts it. ok is false if that is not known.
func (r *Report) IdleFor(s Session, now time.Time) (d time.Duration, ok bool) {
	return r.since(s.LastInputAt, now)
}

// HostNow is the host's own clock at the reading.
func (r *Report) HostNow() time.Time {
	if r.HostTime.IsZero() {
		return r.ReadAt
	}
	return r.HostTime
}

// since is how long ago at, a time of the host's, is at the broker's time now.
func (r *Report) since(at, now time.Time) (d time.Duration, ok bool) {
	if at.IsZero() {
		return 0, false
	}
	atReading := r.HostNow().Sub(at)
	if atReading < 0 {
		return 0, false
	}
	d = atReading + max(0, now.Sub(r.ReadAt))
	if d < 0 { // centuries: more than a Duration can hold
		return 0, false
	}
	return d, true
}
