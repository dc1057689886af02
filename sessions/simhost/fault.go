package simhost

import (
	"time"
)

// Fault is one way in which the WinRM endpoint misbehaves, see Options.Faults.
type Fault struct {
	Kind FaultKind
	// On is the action that it happens on; "" is any.
	On Action
	// Skip is how many matching requests pass first.
	Skip int
	// Times is how many requests it hits; 0 means all.
	Times int
	// Text replaces the English text of a SOAP fault: hosts speak the language
	// of the client's Locale, and only the code is to be relied on.
	Text string
	// Pause is how long FaultSlowBody waits before each byte.
	Pause time.Duration
	// Size is the length of the body that FaultHugeBody sends.
	Size int64
}

// FaultKind is what a Fault does.
type FaultKind string

// The faults.
const (
	// FaultShellVanishes forgets the request's shell: 2150858843.
	FaultShellVanishes FaultKind = "shell vanishes"
	// FaultShellQuota answers 2150859173, whatever the quota.
	FaultShellQuota FaultKind = "shell quota"
	// FaultOperationQuota answers 2150859174, whatever the quota.
	FaultOperationQuota FaultKind = "operation quota"
	// FaultTimedOut answers 2150858793 at once, as if OperationTimeout had passed.
	FaultTimedOut FaultKind = "timed out"
	// FaultEmpty500 is status 500 without a body, as real hosts answer
	// unencrypted messages that they do not allow.
	FaultEmpty500 FaultKind = "empty 500"
	// FaultUnauthorized is a 401 for a client that was authenticated.
	FaultUnauthorized FaultKind = "401"
	// FaultBadGateway is a 502 with HTML, from a proxy in between.
	FaultBadGateway FaultKind = "502"
	// FaultReset resets the connection without an answer.
	FaultReset FaultKind = "reset"
	// FaultBlackHole never answers; it ends when the client goes or the host stops.
	FaultBlackHole FaultKind = "black hole"
	// FaultInputRefused answers that standard input is not supported; for ActionSend.
	FaultInputRefused FaultKind = "input refused"
	// FaultSlowBody answers correctly, byte by byte.
	FaultSlowBody FaultKind = "slow body"
	// FaultHugeBody sends Size bytes of blanks for an answer.
	FaultHugeBody FaultKind = "huge body"
)

// takeFault is the fault that the next request of this action meets, if any.
func (m *Model) takeFault(action Action) (Fault, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range m.opt.Faults {
		f := &m.opt.Faults[i]
		switch {
		case f.Kind == "" || (f.On != "" && f.On != action):
			continue
		case f.Skip > 0:
			f.Skip--
			continue
		}
		hit := *f
		if f.Times == 1 {
			f.Kind = "" // spent
		} else if f.Times > 1 {
			f.Times--
		}
		return hit, true
	}
	return Fault{}, false
}
