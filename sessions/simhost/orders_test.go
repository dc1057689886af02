package simhost

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/rdpbroker/rdpbroker/sessions"
	driver "github.com/rdpbroker/rdpbroker/sessions/winrm"
)

// What the agent can be told besides a logoff, through WinRM, with the broker's own
// driver: on hosts as they should be, and on those that take no standard input.
func TestOrdersOverWinRM(t *testing.T) {
	for name, input := range map[string]Input{"by standard input": "", "where it is refused": InputRefused, "where it is empty": InputEmpty} {
		t.Run(name, func(t *testing.T) {
			events := make(chan Event, 100)
			h := agentHost(t, func(c *Config) {
				c.WinRM.Input = input
				c.OnEvent = func(e Event) { events <- e }
			})
			d, reports, ended := agentOf(t, h, driver.ModeAuto)
			host := sessions.Host{Name: "trier"}
			r := await(t, reports, ended, func(sessions.Report) bool { return true })
			bob, _ := sessionOf(r, "bob")
			jürgen, _ := sessionOf(r, "jürgen")
			if r.Source != "agent" {
				t.Fatalf("read by %s", r.Source)
			}
			if err := d.Message(t.Context(), host, bob, "rdpbroker", "Grüße"); err != nil {
				t.Error(err)
			}
			if e := <-events; e.Kind != EventMessage || e.Session.ID != 4 || e.Text != "rdpbroker: Grüße" {
				t.Errorf("event %+v", e)
			}
			if err := h.Model().Touch(4); err != nil {
				t.Fatal(err)
			}
			var refused *sessions.RefusedError
			if err := d.Disconnect(t.Context(), host, bob); !errors.As(err, &refused) || refused.Why != "the user has done something since" {
				t.Error(err)
			}
			bob.LastInputAt = time.Time{}
			if err := d.Disconnect(t.Context(), host, bob); err != nil {
				t.Error(err)
			}
			await(t, reports, ended, func(r sessions.Report) bool {
				s, _ := sessionOf(r, "bob")
				return s.State == sessions.StateDisconnected
			})
			if err := d.Disconnect(t.Context(), host, bob); !errors.As(err, &refused) || refused.Why != "it is not active but Disconnected" {
				t.Error(err)
			}
			if err := d.Evict(t.Context(), host, jürgen); err != nil {
				t.Error(err)
			}
			await(t, reports, ended, func(r sessions.Report) bool { _, there := sessionOf(r, "jürgen"); return !there })
		})
	}
}

func TestOrdersNeedAnAgent(t *testing.T) {
	h := agentHost(t, func(c *Config) { c.WinRM.ConstrainedLanguage = true })
	d, reports, ended := agentOf(t, h, driver.ModeAuto)
	r := await(t, reports, ended, func(sessions.Report) bool { return true })
	bob, _ := sessionOf(r, "bob")
	var refused *sessions.RefusedError
	if err := d.Message(t.Context(), sessions.Host{Name: "trier"}, bob, "rdpbroker", "hello"); !errors.As(err, &refused) {
		t.Error(err)
	}
	if err := d.Disconnect(t.Context(), sessions.Host{Name: "trier"}, bob); !errors.As(err, &refused) {
		t.Error(err)
	}
}

func TestProgramsAndMarkersOverWinRM(t *testing.T) {
	h := agentHost(t, nil)
	for name, low := range map[string]bool{"as an administrator": false, "without rights": true} {
		t.Run(name, func(t *testing.T) {
			h := h
			if low {
				h = agentHost(t, func(c *Config) { c.WinRM.Managers[0].LowRights = true })
			}
			if err := h.Model().Run(3, 0.5, "winword.exe", "robocopy.exe"); err != nil {
				t.Fatal(err)
			}
			if err := h.Model().Keep(3, "8h"); err != nil {
				t.Fatal(err)
			}
			_, reports, ended := agentOf(t, h, driver.ModeAgent)
			if low {
				r := await(t, reports, ended, func(sessions.Report) bool { return true })
				if s, _ := sessionOf(r, "jürgen"); s.Processes != nil || s.CPUTime != 0 || !s.KeepUntil.IsZero() {
					t.Errorf("session %+v", s)
				}
				return
			}
			r := await(t, reports, ended, func(r sessions.Report) bool { s, _ := sessionOf(r, "jürgen"); return s.Processes != nil })
			s, _ := sessionOf(r, "jürgen")
			// Half a processor for the five hours since the logon.
			if !slices.Equal(s.Processes, []string{"winword.exe", "robocopy.exe"}) || s.CPUTime < 9000e7 || s.IOBytes == 0 {
				t.Errorf("programs %q, CPU %d, I/O %d", s.Processes, s.CPUTime, s.IOBytes)
			}
			if kept := s.KeepUntil.Sub(r.HostTime); kept < 8*time.Hour-patience || kept > 8*time.Hour {
				t.Errorf("kept for %s", kept)
			}
			if bob, _ := sessionOf(r, "bob"); bob.Processes == nil || len(bob.Processes) > 0 || bob.CPUTime != 0 {
				t.Errorf("session %+v", bob)
			}
			if err := h.Model().Unkeep(3); err != nil {
				t.Fatal(err)
			}
			await(t, reports, ended, func(r sessions.Report) bool { s, _ := sessionOf(r, "jürgen"); return s.KeepUntil.IsZero() })
		})
	}
}
