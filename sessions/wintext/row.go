package wintext

import (
	"time"

	"github.com/rdpbroker/rdpbroker/sessions"
)

// Row is one session as quser or qwinsta prints it. Fields that the tool does
// not print, or prints empty, are zero.
type Row struct {
	// Own: the row is marked with ">" as the caller's own session.
	Own bool
	// SessionName is the WinStation name, "console" or "rdp-tcp#3"; empty for
	// disconnected sessions. The tools cut long names: to 12 characters and
	// "..." (quser), 13 and "..." (qwinsta), or 20 (the wide qwinsta of newer
	// Windows 11).
	SessionName string
	// User is the logon name. quser prints it in lower case, qwinsta as it is.
	User string
	// ID is the session ID; sessions.FirstListenerID and above are listeners.
	ID int
	// State is what StateText means, StateUnknown if that word is not known.
	State sessions.State
	// StateText is the state word as printed.
	StateText string
	// Idle is the time since the last input, in whole minutes; for a
	// disconnected session that is the time since the disconnect or the last
	// input before it. Only quser prints it. It means nothing unless HasIdle.
	Idle time.Duration
	// HasIdle: IdleText was understood.
	HasIdle bool
	// IdleText is the idle column as printed.
	IdleText string
	// LogonText is the logon time as quser prints it, in the host's local time
	// and date format, which the text does not name. Fit for comparing only.
	LogonText string
	// Type and Device are qwinsta's last columns, mostly empty.
	Type, Device string
}
