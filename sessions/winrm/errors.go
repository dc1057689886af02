package winrm

import (
	"errors"
	"fmt"
	"strings"

	"github.com/rdpbroker/rdpbroker/sessions/lockout"
)

// Codes of WS-Management faults that mean something to a caller, see Fault.Code.
const (
	// FaultTimedOut: nothing happened within OperationTimeout. Not an error
	// while a command runs; the driver asks again.
	FaultTimedOut = 2150858793
	// FaultShellGone: the shell or the command does not exist (any more).
	FaultShellGone = 2150858843
	// FaultTooManyShells: MaxShellsPerUser is used up.
	FaultTooManyShells = 2150859173
	// FaultTooManyOperations: MaxConcurrentOperationsPerUser is used up.
	FaultTooManyOperations = 2150859174
)

// Fault is a WS-Management fault: the host understood the request and refused it.
type Fault struct {
	// Code is the WSManFault code, a Win32 error or HRESULT; 0 if the fault has none.
	Code uint32
	// Subcode is the SOAP subcode, "w:InvalidSelectors".
	Subcode string
	// Reason is the host's text, at most maxReason bytes. It is localised:
	// for people, never for decisions.
	Reason string
}

func (f *Fault) Error() string {
	return fmt.Sprintf("WS-Management fault %d (%s): %q", f.Code, f.Subcode, f.Reason)
}

// maxReason bounds the texts of a host in errors and logs.
const maxReason = 200

// StatusError is an HTTP answer that is no WS-Management message: from a proxy,
// or from WinRM when it refuses a message before it reads it.
type StatusError struct {
	Status int
	// Detail says what the body was.
	Detail string
}

func (e *StatusError) Error() string {
	return fmt.Sprintf("HTTP status %d: %s", e.Status, e.Detail)
}

// AuthError says that the host does not let the configured account in. Trying
// again would lock the account out, so the driver offers the password no more
// until RetryAt, unless the password has changed or Refresh was called.
type AuthError struct {
	// Endpoint is the URL that refused.
	Endpoint string
	// Reason is a short sentence.
	Reason string
	lockout.Refusal
}

func (e *AuthError) Error() string {
	return fmt.Sprintf("log on to %s: %s", e.Endpoint, e.Reason)
}

var (
	errNoAnswer  = errors.New("no answer in time")
	errTooLarge  = errors.New("the answer is too large")
	errNotSealed = errors.New("the answer is not sealed")
)

// excerpt is untrusted text cut for an error message.
func excerpt(s string) string {
	s = strings.Join(strings.Fields(s), " ")
	if len(s) > maxReason {
		s = s[:maxReason]
	}
	return strings.ToValidUTF8(s, "?")
}
