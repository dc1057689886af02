package placement

import (
	"fmt"
	"strings"
	"time"

	"github.com/rdpbroker/rdpbroker/sessions"
)

// spared is why s, which has a user, may not be a victim; if it may, why is ""
// and since is how long it has been disconnected.
func (d *decider) spared(h *hostView, s sessions.Session) (since time.Duration, why string) {
	e := &d.policy.Eviction
	if s.State != sessions.StateDisconnected {
		return 0, "not disconnected: " + s.State.String()
	}
	if strings.EqualFold(s.Name, "console") || s.ID <= 0 {
		return 0, "the console"
	}
	if why := d.mayBeTheCallers(&s); why != "" {
		return 0, why
	}
	if why := d.untouched(h, &s); why != "" {
		return 0, why
	}
	since, ok := h.Report.DisconnectedFor(s, d.view.Now)
	if !ok {
		return 0, "it is not known since when it is disconnected"
	}
	if least := e.leastDisconnected(s.Account); since < least {
		return 0, fmt.Sprintf("disconnected for %s only, less than %s", short(since), short(least))
	}
	if why := e.marked(h.Report, &s, since, d.view.Now); why != "" {
		return 0, why
	}
	if why := e.busy(h.HostState, s.ID, d.view.Now); why != "" {
		return 0, why
	}
	return since, ""
}

// mayBeTheCallers is why s could be the work of the very caller whom room is made
// for, "" if it cannot.
func (d *decider) mayBeTheCallers(s *sessions.Session) string {
	if d.nobody {
		return ""
	}
	if d.id.CouldBe(s.Account) {
		return "it may be the caller's own"
	}
	if d.id.Confidence < sessions.ConfidenceName && s.ClientAddr.IsValid() && s.ClientAddr.Unmap() == d.id.Client.Unmap() {
		return "it was last used from the caller's address"
	}
	if d.id.Confidence < sessions.ConfidencePrefix && !d.id.Trusted && !s.ClientAddr.IsValid() {
		return "it may be the caller's own: nothing tells who is coming, nor from where it was last used"
	}
	return ""
}

// untouched is why s is left alone whoever it is for and however long nobody has
// been there, "" if it is not.
func (d *decider) untouched(h *hostView, s *sessions.Session) string {
	e := &d.policy.Eviction
	if p := e.protects(s); p != "" {
		return "protected by " + p
	}
	if len(e.ProtectProcesses) > 0 && s.Processes == nil {
		return "its processes are not known, and some are protected"
	}
	if d.pinned(s.Account, h.Host.Name) {
		return "pinned to this host"
	}
	ref := sessions.RefOf(h.Host.Name, *s)
	if d.leaving(ref) {
		return "already being logged off"
	}
	if why := d.view.Untouchable[ref]; why != "" {
		return why
	}
	if d.view.Claims.awaits(ref, s) {
		return "its user is on the way back"
	}
	return ""
}

func (d *decider) pinned(a sessions.Account, host string) bool {
	for _, p := range d.policy.Pins {
		if p.Host == host && p.Account.Matches(a) {
			return true
		}
	}
	return false
}

// protects returns the pattern that protects s, "" if none does.
func (e *Eviction) protects(s *sessions.Session) string {
	for _, p := range e.Protect {
		if globAccount(p, s.Account) {
			return p
		}
	}
	for _, p := range e.ProtectProcesses {
		for _, name := range s.Processes {
			if Glob(p, name) {
				return p
			}
		}
	}
	return ""
}

// leastDisconnected is for how long a session of a must have been disconnected.
func (e *Eviction) leastDisconnected(a sessions.Account) time.Duration {
	least := e.MinDisconnected
	for _, g := range e.MinDisconnectedFor {
		if g.For > least && globAccount(g.Pattern, a) {
			least = g.For
		}
	}
	return least
}

// marked is that the user of s, disconnected for since, has asked to keep it; ""
// if they have not, or too long ago.
func (e *Eviction) marked(r *sessions.Report, s *sessions.Session, since time.Duration, now time.Time) string {
	if !e.HonourKeepMark || s.KeepUntil.IsZero() || e.KeepMarkMax > 0 && since >= e.KeepMarkMax {
		return ""
	}
	left := s.KeepUntil.Sub(r.HostNow()) - max(0, now.Sub(r.ReadAt))
	if left <= 0 {
		return ""
	}
	return "its user has marked it to be kept for another " + short(left)
}

// usageFreshFor is how long after it was measured a session's usage counts.
const usageFreshFor = 10 * time.Minute

// busy is that session id of h works although nobody is there, or that nothing
// tells whether it does where that must be known; "" if neither is so.
func (e *Eviction) busy(h *sessions.HostState, id int, now time.Time) string {
	if e.BusyCPU <= 0 && e.BusyIO <= 0 {
		return ""
	}
	u, measured := h.Usage[id]
	measured = measured && now.Sub(u.At) <= usageFreshFor
	if e.BusyCPU > 0 {
		switch known := measured && u.CPU >= 0; {
		case known && u.CPU > e.BusyCPU:
			return fmt.Sprintf("busy: it has used %.0f%% of a core over %s", 100*u.CPU, short(u.Over))
		case !known && e.CPUMustBeKnown:
			return "it is not known how much CPU it uses"
		}
	}
	if e.BusyIO > 0 {
		switch known := measured && u.IO >= 0; {
		case known && u.IO > e.BusyIO:
			return fmt.Sprintf("busy: it has read and written %.0f kB/s over %s", u.IO/1000, short(u.Over))
		case !known && e.IOMustBeKnown:
			return "it is not known how much it reads and writes"
		}
	}
	return ""
}
