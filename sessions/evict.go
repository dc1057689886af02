package sessions

import "fmt"

// RefusedError is a driver's answer that it did not log a session off, or do
// something else to it, because the session is no longer the one that was
// described, or the host said no. Nothing was changed on the host.
type RefusedError struct {
	Ref Ref
	// Act is what was not done to it: "disconnected", "sent a message"; "" means
	// logged off.
	Act string
	// Why is a short sentence for the operator: "the user is connected again".
	Why string
}

func (e *RefusedError) Error() string {
	act := e.Act
	if act == "" {
		act = "logged off"
	}
	return fmt.Sprintf("session %s was not %s: %s", e.Ref, act, e.Why)
}

// StuckError says that a session was told to log off and was still there when
// the time was up. It may still go; its slot does not count as free.
type StuckError struct {
	Ref Ref
	// State is what the host last said of it.
	State State
}

func (e *StuckError) Error() string {
	return fmt.Sprintf("session %s was told to log off but is still there (%s)", e.Ref, e.State)
}
