package sessions

import (
	"fmt"
	"net/netip"
	"strings"
	"time"
)

// State is a session's connection state, WTS_CONNECTSTATE_CLASS plus Unknown.
type State uint8

// The states of a session. The zero value is StateUnknown: a state word that
// could not be read. Unknown is never treated as Disconnected.
const (
	StateUnknown      State = iota
	StateActive             // WTSActive: a user is logged on and a client is connected
	StateConnected          // WTSConnected: a client is connected, nobody has logged on yet
	StateConnectQuery       // WTSConnectQuery
	StateShadow             // WTSShadow
	StateDisconnected       // WTSDisconnected: the session lives, no client is connected
	StateIdle               // WTSIdle: waiting for a client; not "a user does nothing"
	StateListen             // WTSListen: a listener, not a session of anybody
	StateReset              // WTSReset
	StateDown               // WTSDown: stuck on its way up or down
	StateInit               // WTSInit
)

var stateNames = [...]string{"Unknown", "Active", "Connected", "ConnectQuery", "Shadow", "Disconnected", "Idle", "Listen", "Reset", "Down", "Init"}

func (s State) String() string {
	if int(s) < len(stateNames) {
		return stateNames[s]
	}
	return fmt.Sprintf("State(%d)", uint8(s))
}

// MarshalText writes the state by name.
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads the name that MarshalText writes; any other text is
// StateUnknown, because a word that we do not know must never become a state
// that allows an eviction.
func (s *State) UnmarshalText(b []byte) error {
	*s = StateUnknown
	for i, n := range stateNames {
		if n == string(b) {
			*s = State(i)
		}
	}
	return nil
}

// FirstListenerID is the lowest ID that Windows gives to listeners. Resetting a
// listener resets every session on it, so a Windows driver reports whatever has
// such an ID as StateListen and refuses to touch it. (On xrdp hosts IDs are
// process IDs and may be larger.)
const FirstListenerID = 65536

// Session is one session on one host, as the host reported it. Its key in the
// farm is host and ID, but IDs are reused: Incarnation and LogonAt tell one
// holder of an ID from the next.
type Session struct {
	// ID is the host's session ID: a WTS session ID, or the process ID of the
	// session's sesman child on an xrdp host.
	ID int `json:"id"`
	// Name is the WinStation name: "console", "services", "rdp-tcp#3".
	// Disconnected sessions have none.
	Name string `json:"name,omitempty"`
	// Account is who is logged on; zero when nobody is.
	Account Account `json:"account,omitzero"`
	State   State   `json:"state"`
	// LogonAt, DisconnectedAt and LastInputAt are in the host's own clock, see
	// Report.HostTime. Zero means that the host did not tell. DisconnectedAt
	// may keep an old value after a reconnect: look at State first.
	LogonAt        time.Time `json:"logon_at,omitzero"`
	DisconnectedAt time.Time `json:"disconnected_at,omitzero"`
	LastInputAt    time.Time `json:"last_input_at,omitzero"`
	// Incarnation tells this session from another one with the same ID, in the
	// driver's own terms; compare for equality only. "" if the driver cannot tell.
	Incarnation string `json:"incarnation,omitempty"`
	// ClientName and ClientAddr are the last client's, as the host knows them.
	ClientName string     `json:"client_name,omitempty"`
	ClientAddr netip.Addr `json:"client_addr,omitzero"`
	// Program is the initial program (alternate shell) of the session, "" for a
	// desktop. Windows keeps a separate session per program (KB302883).
	Program string `json:"program,omitempty"`
	// Processes are the names of running programs, as far as the driver reads
	// them. Nil means not read, which is not the same as none.
	Processes []string `json:"processes,omitzero"`
	// CPUTime counts up what the session's processes have used, those left out
	// that every session has (explorer.exe, dwm.exe, …), in CPUTicks: compare two
	// readings (Meter). It falls when processes end. 0: not read.
	CPUTime int64 `json:"cpu_time,omitempty"`
	// IOBytes counts up what the same processes have read and written, as far as
	// the driver may ask them; in readings of disconnected sessions only. 0: not read.
	IOBytes uint64 `json:"io_bytes,omitempty"`
	// WorkAt is when the three above were read, in the host's clock; a driver may
	// read them less often than the rest. Zero: with the rest, or not at all.
	WorkAt time.Time `json:"work_at,omitzero"`
	// KeepUntil is how long the user has asked, from within the session, that it be
	// kept; in the host's clock like LogonAt. Once it has passed it says nothing any
	// more. Zero: they have not asked, or the driver may not or cannot read it.
	KeepUntil time.Time `json:"keep_until,omitzero"`
}

// HasUser reports whether somebody is logged on to s, so that it can hold a
// slot: not a listener, not the services session.
func (s Session) HasUser() bool {
	return !s.Account.IsZero() && s.State != StateListen && !s.isNamed("services")
}

// isNamed compares s.Name without regard to case: query session prints
// "services" and "console", WTSEnumerateSessions gives "Services" and "Console".
func (s Session) isNamed(name string) bool { return strings.EqualFold(s.Name, name) }

// SameIncarnation reports whether t is still the session that s describes: same
// ID, account, logon time and incarnation. Disconnect time and state may have
// changed.
func (s Session) SameIncarnation(t Session) bool {
	return s.ID == t.ID && s.Account.Folded() == t.Account.Folded() &&
		s.LogonAt.Equal(t.LogonAt) && s.Incarnation == t.Incarnation
}

// Ref names one session of the farm for keys and logs.
type Ref struct {
	Host        string    `json:"host"`
	ID          int       `json:"id"`
	Incarnation string    `json:"incarnation,omitempty"`
	LogonAt     time.Time `json:"logon_at,omitzero"`
}

// RefOf is the reference of s on host. Two readings of one session have equal
// references; a session that reuses the ID has another one.
func RefOf(host string, s Session) Ref {
	return Ref{Host: host, ID: s.ID, Incarnation: s.Incarnation, LogonAt: s.LogonAt.Round(0).UTC()}
}

// String is host/ID, as the command line takes it.
func (r Ref) String() string { return fmt.Sprintf("%s/%d", r.Host, r.ID) }
