package simhost

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/rdpbroker/rdpbroker/sessions"
)

// Seed describes a session that is on the host before anybody connects.
type Seed struct {
	Account sessions.Account
	// State is the session's state; StateUnknown means Disconnected.
	State sessions.State
	// ID asks for an ID; 0 takes the lowest free one.
	ID int
	// Console puts the user on the physical console, which moves to this ID.
	Console bool
	// LogonAgo is how long ago the user logged on.
	LogonAgo time.Duration
	// DisconnectedAgo is how long ago the client went, for Disconnected
	// sessions. Negative: the host does not know (its DisconnectTime is 0).
	DisconnectedAgo time.Duration
	// IdleFor is how long ago the user last did something; for a Disconnected
	// session, 0 means DisconnectedAgo.
	IdleFor time.Duration
	Program string
	// Programs are what runs in the session, beside what runs in every one.
	Programs []string
	// Busy is how many processors these programs keep busy, since the logon; they
	// read and write 10 MB/s for each.
	Busy float64
	// Keep is the user's marker as they have set it, at KeepAgo before now; nil: none.
	Keep       *string
	KeepAgo    time.Duration
	ClientName string
	ClientAddr netip.Addr
	// Hidden leaves the session out of what callers without rights see.
	Hidden bool
	// Logoff is how this session logs off; nil means Options.Logoff.
	Logoff *LogoffPlan
}

// Seed puts sessions on the host, whatever its limit. An error means that an ID
// is taken or impossible, or that a session has no user; those before it stand.
func (m *Model) Seed(seeds ...Seed) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.advance()
	defer m.changed()
	for _, seed := range seeds {
		if err := m.seed(seed); err != nil {
			return fmt.Errorf("seed session of %s: %w", seed.Account, err)
		}
	}
	return nil
}

func (m *Model) seed(x Seed) error {
	if x.ID < 0 || x.ID >= ListenerID {
		return fmt.Errorf("ID %d is not a session's", x.ID)
	}
	if old, taken := m.byID[x.ID]; x.ID != 0 && taken && (x.ID != m.console || old.HasUser()) {
		return fmt.Errorf("ID %d is taken", x.ID)
	}
	if x.Console { // the console that nobody has logged on to gives way
		if c := m.byID[m.console]; c.HasUser() {
			return fmt.Errorf("%s is on the console", c.Account)
		}
		delete(m.byID, m.console)
	}
	if x.ID == 0 {
		x.ID = m.freeID()
	}
	delete(m.byID, x.ID) // a console at most, which nobody has logged on to
	if x.State == sessions.StateUnknown {
		x.State = sessions.StateDisconnected
	}
	now := m.hostNow()
	s := &session{hidden: x.Hidden, plan: x.Logoff, Session: sessions.Session{
		ID: x.ID, Account: x.Account, State: x.State, Program: x.Program,
		ClientName: x.ClientName, ClientAddr: x.ClientAddr,
		LogonAt: now.Add(-x.LogonAgo), LastInputAt: now.Add(-x.IdleFor),
		Processes: slices.Clone(x.Programs),
	}, busy: x.Busy}
	if x.Keep != nil {
		s.marker = &marker{*x.Keep, now.Add(-x.KeepAgo)}
	}
	if x.State == sessions.StateDisconnected && x.DisconnectedAgo >= 0 {
		s.DisconnectedAt = now.Add(-x.DisconnectedAgo)
		if x.IdleFor == 0 {
			s.LastInputAt = s.DisconnectedAt
		}
	}
	m.byID[x.ID] = s
	switch {
	case x.Console:
		s.Name, m.console = "console", x.ID
		if x.IdleFor == 0 {
			s.LastInputAt = time.Time{} // as hosts have it: quser prints "none"
		}
	case x.ID == m.console:
		m.newConsole()
	}
	if s.Name == "" && (x.State == sessions.StateActive || x.State == sessions.StateConnected) {
		s.Name = fmt.Sprintf("rdp-tcp#%d", m.stations)
		m.stations++
	}
	return nil
}
