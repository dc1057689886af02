package simhost

import (
	"slices"
	"time"

	"github.com/rdpbroker/rdpbroker/sessions"
)

// Run makes programs run in session id, in place of those before, which keep busy
// processors from now on. Errors are *WinError.
func (m *Model) Run(id int, busy float64, programs ...string) error {
	return m.change(id, func(s *session) {
		s.Processes, s.busy = slices.Clone(programs), busy
	})
}

// Keep sets the marker in session id by which its user wants it kept: "8h", or ""
// for as long as may be. Errors are *WinError.
func (m *Model) Keep(id int, text string) error {
	return m.change(id, func(s *session) { s.marker = &marker{text, m.hostNow()} })
}

// Unkeep takes that marker away. Errors are *WinError.
func (m *Model) Unkeep(id int) error {
	return m.change(id, func(s *session) { s.marker = nil })
}

// Touch is the user of session id who does something. Errors are *WinError.
func (m *Model) Touch(id int) error {
	return m.change(id, func(s *session) { s.LastInputAt = m.hostNow() })
}

func (m *Model) change(id int, do func(*session)) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.advance()
	s, err := m.find(id)
	if err != nil {
		return err
	}
	do(s)
	m.changed()
	return nil
}

// bytesPerBusySecond is what a program that keeps a processor busy reads and writes.
const bytesPerBusySecond = 10 << 20

// told is s as the host tells it now. It needs m.mu.
func (s *session) told(now time.Time) sessions.Session {
	t := s.Session
	if !s.HasUser() {
		return t
	}
	worked := s.busy * now.Sub(s.LogonAt).Seconds()
	t.CPUTime, t.IOBytes = int64(worked*1e7), uint64(max(0, worked*bytesPerBusySecond))
	if s.marker != nil {
		t.KeepUntil = sessions.KeepUntil(s.marker.text, s.marker.at, s.LogonAt, now)
	}
	return t
}
