package rpc

import "fmt"

// Fault is the server's answer that it did not carry a call out. Faults are
// not signed: they prove nothing about the host, and a caller may only fail on them.
type Fault struct{ Status uint32 }

// Statuses of faults that callers act on.
const (
	FaultAccessDenied = 0x00000005 // ERROR_ACCESS_DENIED: also how a refused logon shows over TCP
	FaultOpRange      = 0x1C010002 // nca_s_op_rng_error: the server's interface has no such operation
	FaultUnknownIf    = 0x1C010003 // nca_s_unk_if
	FaultTooBusy      = 0x1C010014 // nca_s_server_too_busy
)

func (f *Fault) Error() string {
	switch f.Status {
	case FaultAccessDenied:
		return "fault: access denied"
	case FaultOpRange:
		return "fault: no such operation"
	case FaultUnknownIf:
		return "fault: no such interface"
	case FaultTooBusy:
		return "fault: the server is too busy"
	}
	return fmt.Sprintf("fault 0x%08X", f.Status)
}

// BindError is a bind that the server did not accept.
type BindError struct {
	// Interface: the server does not offer the interface. Else Reason is that
	// of its bind_nak, [C706] 12.6.4.5.
	Interface bool
	Reason    uint16
}

func (e *BindError) Error() string {
	if e.Interface {
		return fmt.Sprintf("the server does not offer the interface (result %d)", e.Reason)
	}
	return fmt.Sprintf("the server refused the bind (reason %d)", e.Reason)
}

// SecurityError is a logon or an answer that does not fit the security that was
// asked for. The connection is of no more use.
type SecurityError struct{ Err error }

func (e *SecurityError) Error() string { return "security: " + e.Err.Error() }
func (e *SecurityError) Unwrap() error { return e.Err }

// ReturnError is an answer of a method: its return value when that is not zero.
type ReturnError struct{ Value any }

func (e *ReturnError) Error() string {
	switch v := e.Value.(type) {
	case int32:
		return fmt.Sprintf("0x%08X", uint32(v))
	case uint32:
		return fmt.Sprintf("0x%08X", v)
	}
	return fmt.Sprint(e.Value)
}
