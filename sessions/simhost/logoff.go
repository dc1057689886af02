package simhost

import (
	"fmt"

	"github.com/rdpbroker/rdpbroker/sessions"
)

// Win32 error codes of session management, from winerror.h.
const (
	errAccessDenied        = 5    // ERROR_ACCESS_DENIED
	errStationNotFound     = 7022 // ERROR_CTX_WINSTATION_NOT_FOUND
	errStationBusy         = 7024 // ERROR_CTX_WINSTATION_BUSY
	errStationAccessDenied = 7045 // ERROR_CTX_WINSTATION_ACCESS_DENIED
)

// WinError is a Win32 error of the simulated host.
type WinError struct {
	Code int
	Text string
}

func errBusy() error {
	return &WinError{errStationBusy, "The requested operation cannot be completed because the terminal connection is currently processing a connect, disconnect, reset, or delete operation."}
}

func (e *WinError) Error() string { return fmt.Sprintf("Error [%d]:%s", e.Code, e.Text) }

// Logoff tells session id to go, as WTSLogoffSession without waiting does.
// A nil error means that it was told, not that it is gone. It ends connected
// sessions as well: to ask first is the caller's business. Errors are *WinError.
func (m *Model) Logoff(id int) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.advance()
	s, err := m.find(id)
	if err != nil {
		return err
	}
	switch {
	case s.Name == "console":
		return &WinError{errAccessDenied, "Access is denied."}
	case s.going != nil:
		return errBusy()
	case m.planOf(s).Refused:
		return &WinError{errStationAccessDenied, "The requested session access is denied."}
	}
	m.beginLogoff(s, CauseManagement)
	return nil
}

// Disconnect takes the client of session id away, as tsdiscon does. Errors are *WinError.
func (m *Model) Disconnect(id int) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.advance()
	s, err := m.find(id)
	if err != nil {
		return err
	}
	if s.State != sessions.StateActive {
		return errBusy()
	}
	m.disconnect(s, CauseManagement)
	return nil
}

// SetState forces session id into any state, which no user or administrator can
// do; for tests that need to see an odd one. Its client is dropped unless the
// state is Active. Errors are *WinError.
func (m *Model) SetState(id int, state sessions.State) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.advance()
	s, err := m.find(id)
	if err != nil {
		return err
	}
	if state != sessions.StateActive {
		s.detach(CauseManagement)
	}
	s.State = state
	m.changed()
	return nil
}

// Reboot ends everything on the host. IDs start over, and DrainUntilRestart ends.
func (m *Model) Reboot() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, s := range m.ordered() {
		s.detach(CauseShutdown)
	}
	clear(m.byID)
	m.rooms, m.stations = nil, 0
	if m.opt.Drain == DrainUntilRestart {
		m.opt.Drain = DrainOff
	}
	m.newConsole()
	m.emit(EventRebooted, &session{}, CauseShutdown, "")
}

// The rest of this file needs m.mu held.

func (m *Model) find(id int) (*session, error) {
	if s, ok := m.byID[id]; ok {
		return s, nil
	}
	if id == 0 || id == ListenerID {
		return nil, &WinError{errAccessDenied, "Access is denied."}
	}
	return nil, &WinError{errStationNotFound, "The specified session cannot be found."}
}

func (m *Model) planOf(s *session) LogoffPlan {
	if s.plan != nil {
		return *s.plan
	}
	return m.opt.Logoff
}

func (m *Model) disconnect(s *session, cause Cause) {
	s.detach(cause)
	wasConsole := s.Name == "console"
	s.Name, s.State, s.DisconnectedAt = "", sessions.StateDisconnected, m.hostNow()
	if wasConsole {
		m.newConsole()
	}
	m.emit(EventDisconnected, s, cause, "")
}

// beginLogoff starts the departure of s. If it takes no time, s is gone on return.
func (m *Model) beginLogoff(s *session, cause Cause) {
	plan, now := m.planOf(s), m.clock()
	s.going = &departure{
		until: now.Add(plan.Takes),
		stuck: plan.Sticks,
		cause: cause,
		held:  m.holdsSlot(s),
		room:  Room{Account: s.Account, ID: s.ID},
	}
	if s.State == sessions.StateDisconnected && !s.DisconnectedAt.IsZero() {
		s.going.room.DisconnectedFor = m.hostNow().Sub(s.DisconnectedAt)
	}
	s.detach(cause)
	if s.Name == "console" {
		s.Name = ""
		m.newConsole()
	}
	if s.State == sessions.StateActive {
		s.Name, s.DisconnectedAt = "", m.hostNow()
	}
	s.State = plan.Shows
	if s.State == sessions.StateUnknown {
		s.State = sessions.StateDown
	}
	m.emit(EventLogoffBegan, s, cause, "")
	if plan.Takes <= 0 && !plan.Sticks {
		m.remove(s)
	}
}

func (m *Model) remove(s *session) {
	delete(m.byID, s.ID)
	if s.going.held && s.going.cause == CauseManagement {
		room := s.going.room
		room.At = m.clock()
		m.rooms = append(m.rooms, room)
	}
	m.emit(EventGone, s, s.going.cause, "")
}
