package simhost

import (
	"errors"
	"fmt"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/rdpbroker/rdpbroker/sessions"
)

// What Windows says to a user whom it does not let in.
const (
	// TextFull2003 is the limit of Windows 2000 and 2003.
	TextFull2003 = "The terminal server has exceeded the maximum number of allowed connections."
	// TextFull2008 is the limit of Windows Server 2008 and later.
	TextFull2008 = "The number of connections to this computer is limited and all connections are in use right now. Try connecting later or contact your system administrator."
	// TextBusy meets a user whose own session is stuck on its way out (KB2383928).
	TextBusy = "The task you are trying to do can't be completed because Remote Desktop Services is currently busy. Please try again in a few minutes. Other users should still be able to log on."
	// TextDisabled is ERROR_CTX_WINSTATIONS_DISABLED (7060): logons are disabled,
	// or the host is draining and the user has no session there.
	TextDisabled = "Remote logins are currently disabled."
)

// LogonReason is why a logon was refused, as a word for log lines.
type LogonReason string

// The reasons.
const (
	ReasonFull     LogonReason = "full"
	ReasonBusy     LogonReason = "busy"
	ReasonDraining LogonReason = "draining"
	ReasonDisabled LogonReason = "disabled"
)

// LogonError says that the host did not let a user in.
type LogonError struct {
	Reason LogonReason
	// Text is what the user gets to read.
	Text string
}

func (e *LogonError) Error() string { return fmt.Sprintf("logon refused (%s): %s", e.Reason, e.Text) }

// TextPassword meets whoever has no account or another password.
const TextPassword = "The user name or password is incorrect. Try again."

// passwordRefused tells of a logon that a wrong password has ended.
func (m *Model) passwordRefused(account sessions.Account, client netip.Addr) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.emit(EventRefused, &session{Session: sessions.Session{Account: account, ClientAddr: client}}, "", TextPassword)
}

// AttachmentKind is how a client came to its session.
type AttachmentKind string

// The three ways.
const (
	AttachedNew         AttachmentKind = "new"         // a session was made
	AttachedReconnected AttachmentKind = "reconnected" // back in the user's disconnected session
	AttachedTookOver    AttachmentKind = "took over"   // in the user's active session; the former client was dropped
)

// Room is a slot that a logoff through management freed.
type Room struct {
	// Account and ID are of the session that went.
	Account sessions.Account
	ID      int
	// DisconnectedFor is how long it had been disconnected when it was told to go.
	DisconnectedFor time.Duration
	// At is when it was gone, in the model's clock.
	At time.Time
}

// Attachment is one client's hold on its session. Whoever got it from
// Model.Logon ends it with Disconnect or Logoff, or finds that it was ended
// (Done). All three may come in any order and more than once: an attachment
// that has ended has no power over the session, which may have another client.
type Attachment struct {
	Kind AttachmentKind
	// Session is the session at the moment of the logon.
	Session sessions.Session
	// Room is set if this logon got the slot of a session that had been logged
	// off through management, and would have been refused without it.
	Room *Room

	model *Model
	s     *session
	done  chan struct{}
	cause atomic.Value // Cause, stored before done is closed
}

// Done is closed when the attachment has ended.
func (a *Attachment) Done() <-chan struct{} { return a.done }

// Cause is who ended the attachment; "" while it has not ended.
func (a *Attachment) Cause() Cause {
	c, _ := a.cause.Load().(Cause)
	return c
}

// Disconnect takes the client away; the session lives on.
func (a *Attachment) Disconnect() {
	m := a.model
	m.mu.Lock()
	defer m.mu.Unlock()
	m.advance()
	if a.s.attachment == a {
		m.disconnect(a.s, CauseUser)
	}
}

// Logoff ends the session by its user's wish.
func (a *Attachment) Logoff() {
	m := a.model
	m.mu.Lock()
	defer m.mu.Unlock()
	m.advance()
	if a.s.attachment == a {
		m.beginLogoff(a.s, CauseUser)
	}
}

// Input notes that the user did something.
func (a *Attachment) Input() {
	m := a.model
	m.mu.Lock()
	defer m.mu.Unlock()
	if a.s.attachment == a {
		a.s.LastInputAt = m.hostNow()
		m.version++ // no watcher wakes up for it
	}
}

// Logon is what the host does with a user whose credentials it has accepted.
// The user gets back to their own session with the same initial program (a
// different one means a separate session, KB302883), else gets a new one if
// the host has a slot, else is refused with a *LogonError.
func (m *Model) Logon(account sessions.Account, clientName string, clientAddr netip.Addr, program string) (*Attachment, error) {
	if account.IsZero() {
		return nil, errors.New("logon without a user name")
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.advance()

	own, refusal := m.ownSession(account, program)
	if m.opt.LogonsDisabled {
		refusal = &LogonError{ReasonDisabled, TextDisabled}
	} else if refusal == nil {
		refusal = m.mayLogOn(own)
	}
	if refusal != nil {
		m.emit(EventRefused, &session{Session: sessions.Session{Account: account, ClientName: clientName, ClientAddr: clientAddr}}, "", refusal.Text)
		return nil, refusal
	}

	a := &Attachment{Kind: AttachedNew, model: m, done: make(chan struct{})}
	event := EventLogon
	switch {
	case own == nil:
		a.Room = m.takeRoom()
		own = &session{Session: sessions.Session{ID: m.freeID(), Account: account, LogonAt: m.hostNow(), Program: program}}
		m.byID[own.ID] = own
	case own.State == sessions.StateActive:
		a.Kind, event = AttachedTookOver, EventTookOver
		own.detach(CauseTakeover)
	default:
		a.Kind, event = AttachedReconnected, EventReconnected
	}
	if own.Name == "console" { // a console session that goes remote leaves the console behind
		own.Name = ""
		m.newConsole()
	}
	own.Name = fmt.Sprintf("rdp-tcp#%d", m.stations)
	m.stations++
	own.State = sessions.StateActive
	own.LastInputAt = m.hostNow()
	own.ClientName, own.ClientAddr = clientName, clientAddr
	own.attachment, a.s = a, own
	a.Session = own.Session
	m.emit(event, own, "", "")
	return a, nil
}

// ownSession is the session that account gets back to; nil if it gets a new one.
func (m *Model) ownSession(account sessions.Account, program string) (*session, *LogonError) {
	var active, disconnected *session
	for _, s := range m.ordered() {
		if s.Account.Folded() != account.Folded() || s.Program != program {
			continue
		}
		switch {
		case s.going != nil || s.State == sessions.StateDown:
			if !m.opt.ManySessionsPerUser {
				return nil, &LogonError{ReasonBusy, TextBusy}
			}
		case s.State == sessions.StateActive:
			active = s
		case s.State == sessions.StateDisconnected:
			if disconnected == nil || s.DisconnectedAt.After(disconnected.DisconnectedAt) {
				disconnected = s
			}
		}
	}
	if disconnected != nil {
		return disconnected, nil
	}
	if m.opt.ManySessionsPerUser {
		return nil, nil
	}
	return active, nil
}

// mayLogOn says why a user may not get into own, or into a new session if own is nil.
func (m *Model) mayLogOn(own *session) *LogonError {
	if own == nil && m.opt.Drain != DrainOff {
		return &LogonError{ReasonDraining, TextDisabled}
	}
	needsSlot := own == nil || !m.holdsSlot(own)
	if needsSlot && m.opt.Slots > 0 && m.used() >= m.opt.Slots {
		if m.opt.CountDisconnected {
			return &LogonError{ReasonFull, TextFull2003}
		}
		return &LogonError{ReasonFull, TextFull2008}
	}
	return nil
}

// roomMemory is how long a slot freed by management is remembered as such.
const roomMemory = 10 * time.Minute

// takeRoom takes the slot that management freed last, if the logon that is
// about to be granted would have been refused without it.
func (m *Model) takeRoom() *Room {
	for len(m.rooms) > 0 && m.clock().Sub(m.rooms[0].At) > roomMemory {
		m.rooms = m.rooms[1:]
	}
	n := len(m.rooms)
	if n == 0 || m.opt.Slots == 0 || m.used()+n < m.opt.Slots {
		return nil
	}
	room := m.rooms[n-1]
	m.rooms = m.rooms[:n-1]
	return &room
}

// detach ends the attachment of s, if there is one. It needs the model's lock.
func (s *session) detach(cause Cause) {
	if s.attachment != nil {
		s.attachment.cause.Store(cause)
		close(s.attachment.done)
		s.attachment = nil
	}
}
