package placement

import (
	"path"
	"strings"
	"time"

	"github.com/rdpbroker/rdpbroker/sessions"
)

// Balance says which of several hosts with a free slot a new session goes to.
type Balance uint8

// The ways to balance. Ties are broken by host name.
const (
	LeastSessions Balance = iota // the host with the fewest slots in use
	Weighted                     // the fewest slots in use per Host.Weight
	FillFirst                    // the fullest host that still has a free slot
)

// Mode says what an eviction may do.
type Mode uint8

// The modes. The zero value touches nothing.
const (
	Off    Mode = iota // no eviction is decided
	Shadow             // decided and audited, but nothing is touched
	Evict              // decided and done
)

func (m Mode) String() string { return [...]string{"off", "shadow", "evict"}[m%3] }

// Proof says what must be true of a caller before somebody is logged off for them.
type Proof uint8

const (
	// KnownUser asks for a known account with confidence name or better (or a
	// prefix that exactly one known account matches), or a trusted client.
	KnownUser Proof = iota
	// Credentials asks that the host has accepted the caller's password. A decision
	// for a victim says so (Decision.NeedsProof); the proof comes after it. For
	// callers whom a host lets in without one see Eviction.RefuseUnproven.
	Credentials
)

func (p Proof) String() string { return [...]string{"known-user", "credentials"}[p%2] }

// Policy is how one farm wants its decisions made. It is immutable.
type Policy struct {
	Balance Balance
	// TakeOverActive sends users to their own session even while it is active on
	// another client; Windows then hands it over. False: they get a second session.
	TakeOverActive bool
	// Pins send an account to one host first, when it has a slot.
	Pins     []Pin
	Reserve  Reserve
	Eviction Eviction
}

// Pin is an account's preferred host.
type Pin struct {
	Account sessions.Account
	Host    string
}

// Eviction is when, and whom, a farm may log off. The zero value never does.
type Eviction struct {
	Mode  Mode
	Proof Proof
	// RefuseUnproven: under Credentials nobody is logged off for a caller whose host
	// does not ask for a password before the session begins (View.Unproven). Else such
	// a caller must be what KnownUser asks for.
	RefuseUnproven bool
	// MinDisconnected is how long a session must have been disconnected.
	MinDisconnected time.Duration
	// MinDisconnectedFor is the same for some accounts; the longest that applies counts.
	MinDisconnectedFor []Grace
	// Hours are when somebody may be logged off.
	Hours Hours
	// Protect are glob patterns ("*" and "?", case ignored) of accounts that are
	// never logged off, matched against both DOMAIN\user and the bare user. Where
	// the host does not tell the domain, that of the pattern is not looked at.
	Protect []string
	// ProtectProcesses are glob patterns of program names; a session that runs one
	// is never logged off.
	ProtectProcesses []string
	// PerHostPerHour and PerClientPerHour bound the evictions on one host, and
	// those set off from one client address, within any hour. 0: no ceiling.
	PerHostPerHour   int
	PerClientPerHour int
	// PerFarmPerHour and PerHour bound those in the farm, and in all farms. 0: no
	// ceiling.
	PerFarmPerHour, PerHour int
	// BusyCPU is the share of one core, and BusyIO the bytes a second, above which a
	// session works although nobody is there, and is never logged off. 0: not asked.
	BusyCPU, BusyIO float64
	// CPUMustBeKnown and IOMustBeKnown: a session of which that cannot be told is not
	// logged off either.
	CPUMustBeKnown, IOMustBeKnown bool
	// Headroom is how many slots of the farm are kept free ahead of need; 0: none.
	Headroom int
	// IdleActive is after how long without input an active session may be disconnected,
	// not logged off, when slots are wanting; 0: never. Its user is warned IdleWarning
	// before.
	IdleActive, IdleWarning time.Duration
	// HonourKeepMark: what a user has asked for in their own session
	// (sessions.Session.KeepUntil) counts, until it has been disconnected for
	// KeepMarkMax; 0: for as long as they have asked.
	HonourKeepMark bool
	KeepMarkMax    time.Duration
}

// Grace is how long the sessions of some accounts must have been disconnected.
type Grace struct {
	// Pattern is one as in Eviction.Protect.
	Pattern string
	For     time.Duration
}

// globAccount reports whether pattern means a, by DOMAIN\user or the bare user.
// Where the domain of a is not told, that of the pattern is not looked at: it may
// be the one that is meant.
func globAccount(pattern string, a sessions.Account) bool {
	if Glob(pattern, a.String()) || Glob(pattern, a.User) {
		return true
	}
	i := strings.LastIndexByte(pattern, '\\')
	return i >= 0 && a.Domain == "" && Glob(pattern[i+1:], a.User)
}

// Glob reports whether name matches pattern without regard to case: "*" is any
// text, "?" any one character, "[a-c]" one of a set. A backslash is itself, as in
// CONTOSO\svc-*. A malformed pattern matches nothing; ValidGlob tells beforehand.
func Glob(pattern, name string) bool {
	ok, err := path.Match(prepareGlob(pattern), prepareGlob(name))
	return err == nil && ok
}

// ValidGlob reports whether Glob can use pattern.
func ValidGlob(pattern string) bool {
	_, err := path.Match(prepareGlob(pattern), "")
	return err == nil
}

// prepareGlob folds case and hides the two characters that path.Match treats in
// its own way: the backslash escapes there, and "*" stops at a slash.
func prepareGlob(s string) string { return hideForGlob.Replace(strings.ToLower(s)) }

var hideForGlob = strings.NewReplacer(`\`, "\x01", "/", "\x02")
