package tsts

import (
	"errors"
	"fmt"

	"github.com/rdpbroker/rdpbroker/sessions/lockout"
	"github.com/rdpbroker/rdpbroker/sessions/tsts/internal/rpc"
)

// AuthError says that the host, or the domain, does not let the configured
// account in. Trying again would lock the account out, so the driver offers the
// password no more until RetryAt, unless the password has changed or Refresh was
// called.
type AuthError struct {
	// Addr is who refused, host:port.
	Addr string
	// Reason is a short sentence.
	Reason string
	lockout.Refusal
}

func (e *AuthError) Error() string { return fmt.Sprintf("log on to %s: %s", e.Addr, e.Reason) }

// CodeError is a method's answer that it did not do what was asked.
type CodeError struct {
	// Op is the method, "RpcLogoff".
	Op string
	// Code is the HRESULT or NTSTATUS.
	Code uint32
}

func (e *CodeError) Error() string {
	if what := meaningOf(e.Code).text; what != "" {
		return fmt.Sprintf("%s: %s (0x%08X)", e.Op, what, e.Code)
	}
	return fmt.Sprintf("%s: 0x%08X", e.Op, e.Code)
}

// kind is what a code means to the driver.
type kind uint8

const (
	kindOther  kind = iota
	kindGone        // no such session
	kindDenied      // the account lacks a right
	kindBusy        // not now
)

// meaning is a kind and a text for people.
type meaning struct {
	kind kind
	text string
}

// meaningOf knows the codes of [MS-ERREF] that these interfaces are known to
// return: plain Win32 errors, HRESULTs of Win32 errors, NTSTATUS values and
// HRESULTs of those.
func meaningOf(code uint32) meaning {
	switch {
	case code>>16 == 0x8007: // HRESULT_FROM_WIN32
		code &= 0xFFFF
	case code>>28 == 0xD: // HRESULT_FROM_NT
		code = code&^0xF0000000 | 0xC0000000
	}
	switch code {
	case 2, 1168, 7022, 0xC00A0015, 0xC0000034: // ERROR_FILE_NOT_FOUND, ERROR_NOT_FOUND, (STATUS|ERROR)_CTX_WINSTATION_NOT_FOUND, STATUS_OBJECT_NAME_NOT_FOUND
		return meaning{kindGone, "no such session"}
	case 5, 7045, 0xC0000022, 0xC00A002B: // access denied, as ERROR_, ERROR_CTX_WINSTATION_, STATUS_, STATUS_CTX_WINSTATION_
		return meaning{kindDenied, "access denied"}
	case 7024, 0xC00A0017: // (ERROR|STATUS)_CTX_WINSTATION_BUSY
		return meaning{kindBusy, "the session is busy"}
	case 170, 0x139F: // ERROR_BUSY, ERROR_INVALID_STATE
		return meaning{kindBusy, "the session is in no state for it"}
	}
	return meaning{}
}

// answered reports whether err is the host's answer to a call, which leaves the
// connection usable, and what it means. A fault is no answer but for the one that
// denies access: it is not signed.
func answered(err error) (kind, bool) {
	var code *CodeError
	if errors.As(err, &code) {
		return meaningOf(code.Code).kind, true
	}
	var fault *rpc.Fault
	if errors.As(err, &fault) && fault.Status == rpc.FaultAccessDenied {
		return kindDenied, true
	}
	return kindOther, false
}

// result turns the error of a stub into ours: the return value, if there is one.
func result(op string, err error) error {
	var ret *rpc.ReturnError
	if !errors.As(err, &ret) {
		return err
	}
	switch v := ret.Value.(type) {
	case int32:
		return &CodeError{op, uint32(v)}
	case uint32:
		return &CodeError{op, v}
	}
	return err
}

// isAuthError reports whether err is a refused logon.
func isAuthError(err error) bool {
	var refused *AuthError
	return errors.As(err, &refused)
}
