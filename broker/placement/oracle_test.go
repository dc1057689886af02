package placement_test

import (
	"slices"
	"strings"
	"time"

	"github.com/rdpbroker/rdpbroker/broker/placement"
	"github.com/rdpbroker/rdpbroker/sessions"
)

// The oracle says the same as the design in the plainest words, without any of
// the code under test: slow, and one rule after the other.

type victim struct {
	host string
	s    sessions.Session
	age  time.Duration
}

func (s situation) host(name string) *sessions.HostState {
	for i := range s.hosts {
		if s.hosts[i].Host.Name == name && s.hosts[i].Host.Farm == s.view.Farm {
			return &s.hosts[i]
		}
	}
	return nil
}

func (s situation) reachable(name string) bool { return s.view.Unreachable[name] == "" }

// usable: up, freshly read, not draining, and with a limit.
func (s situation) usable(h *sessions.HostState) bool {
	return s.reachable(h.Host.Name) && h.Report != nil && now.Sub(h.Report.ReadAt) <= h.FreshFor &&
		!h.Host.Draining && !h.Report.Draining && limitOf(h) != 0 && !s.mineIsLeaving(h)
}

func limitOf(h *sessions.HostState) int {
	if h.Host.Slots != 0 {
		return h.Host.Slots
	}
	return h.Report.Limit
}

func countsDisconnected(h *sessions.HostState) bool {
	answers := []sessions.Tri{h.Host.CountDisconnected, h.Report.CountsDisconnected, sessions.Yes}
	for _, a := range answers {
		if a != sessions.Unknown {
			return a == sessions.Yes
		}
	}
	panic("unreachable")
}

func somebodys(x sessions.Session) bool {
	return x.Account.User != "" && x.State != sessions.StateListen && !strings.EqualFold(x.Name, "services")
}

func holdsSlot(h *sessions.HostState, x sessions.Session) bool {
	services, console := strings.EqualFold(x.Name, "services"), strings.EqualFold(x.Name, "console")
	switch x.State {
	case sessions.StateActive, sessions.StateConnected, sessions.StateConnectQuery, sessions.StateShadow:
		return !services && (x.Account.User != "" || !console)
	case sessions.StateDisconnected:
		return somebodys(x) && countsDisconnected(h)
	case sessions.StateReset, sessions.StateDown, sessions.StateInit:
		return !services
	case sessions.StateListen, sessions.StateIdle:
		return false
	case sessions.StateUnknown:
		return somebodys(x)
	}
	return !services && (somebodys(x) || !console) // a number that is no state
}

func find(h *sessions.HostState, ref sessions.Ref) (sessions.Session, bool) {
	for _, x := range h.Report.Sessions {
		if x.ID == ref.ID && x.Incarnation == ref.Incarnation && x.LogonAt.Equal(ref.LogonAt) {
			return x, true
		}
	}
	return sessions.Session{}, false
}

// used: sessions that count, and promises that no such session stands for.
func (s situation) used(h *sessions.HostState) int {
	n := 0
	for _, x := range h.Report.Sessions {
		if holdsSlot(h, x) {
			n++
		}
	}
	for _, c := range s.claims {
		if c.Host != h.Host.Name || c.Confirmed {
			continue
		}
		stands := c.Own
		if stands == nil {
			stands = c.Victim
		}
		if stands != nil {
			if x, there := find(h, *stands); there && holdsSlot(h, x) {
				continue
			}
		}
		n++
	}
	return n
}

func (s situation) isLeaving(ref sessions.Ref) bool {
	return s.view.Leaving[ref] || slices.ContainsFunc(s.claims, func(c placement.Claim) bool { return c.Victim != nil && *c.Victim == ref })
}

func sameUser(a, b sessions.Account) bool {
	dom := func(a sessions.Account) string { return strings.ToLower(strings.TrimSuffix(a.Domain, ".example")) }
	return a.User != "" && strings.EqualFold(a.User, b.User) && (a.Domain == "" || b.Domain == "" || dom(a) == dom(b))
}

func (s situation) couldBeMine(a sessions.Account) bool {
	return slices.ContainsFunc(s.id.Accounts, func(m sessions.Account) bool { return sameUser(m, a) })
}

func (s situation) mineIsLeaving(h *sessions.HostState) bool {
	return len(s.id.Accounts) == 1 && slices.ContainsFunc(h.Report.Sessions, func(x sessions.Session) bool {
		ref := sessions.RefOf(h.Host.Name, x)
		return somebodys(x) && s.couldBeMine(x.Account) && s.isLeaving(ref) && s.view.Untouchable[ref] == ""
	})
}

// own are the caller's own sessions in this state on hosts that can be reached,
// the ones being logged off left out.
func (s situation) own(state sessions.State) (all []victim) {
	if len(s.id.Accounts) != 1 {
		return nil
	}
	for _, h := range s.hosts {
		if h.Host.Farm != s.view.Farm || h.Report == nil || !s.reachable(h.Host.Name) {
			continue
		}
		for _, x := range h.Report.Sessions {
			if somebodys(x) && x.State == state && sameUser(x.Account, s.id.Accounts[0]) && !s.isLeaving(sessions.RefOf(h.Host.Name, x)) {
				age := now.Sub(x.DisconnectedAt)
				if x.DisconnectedAt.IsZero() || h.Report.ReadAt.Before(x.DisconnectedAt) {
					age = 1 << 62 // not known: like long ago
				}
				all = append(all, victim{h.Host.Name, x, age})
			}
		}
	}
	return all
}

// keptOut are the hosts, among those of own, that would turn the caller away: the
// way back takes a slot there, and none is free.
func (s situation) keptOut(own []victim) (names []string) {
	for _, x := range own {
		h := s.host(x.host)
		if !countsDisconnected(h) && limitOf(h) > 0 && s.used(h) >= limitOf(h) && now.Sub(h.Report.ReadAt) <= h.FreshFor && !slices.Contains(names, x.host) {
			names = append(names, x.host)
		}
	}
	return names
}

func (s situation) hostsWithSlot() (names []string) {
	free := 0
	for i := range s.hosts {
		if h := &s.hosts[i]; h.Host.Farm == s.view.Farm && s.usable(h) && s.used(h) < limitOf(h) {
			names = append(names, h.Host.Name)
			free += limitOf(h) - s.used(h)
		}
	}
	if s.policy.Reserve.Slots > 0 && !s.administrator() && free <= s.policy.Reserve.Slots-s.administratorsSlots() {
		return nil
	}
	return names
}

// administrator: the farm's reserved slots are for the caller. The patterns are
// those of somePolicy.
func (s situation) administrator() bool {
	return len(s.id.Accounts) == 1 && s.id.Known && s.id.Confidence >= sessions.ConfidencePrefix && s.isAdministrator(s.id.Accounts[0])
}

func (s situation) isAdministrator(a sessions.Account) bool {
	return a.User != "" && slices.ContainsFunc(s.policy.Reserve.Users, func(p string) bool { return means(p, a) })
}

// administratorsSlots: how many they hold, by session or by promise.
func (s situation) administratorsSlots() (n int) {
	for i := range s.hosts {
		h := &s.hosts[i]
		if h.Host.Farm != s.view.Farm {
			continue
		}
		if h.Report != nil {
			for _, x := range h.Report.Sessions {
				if holdsSlot(h, x) && somebodys(x) && s.isAdministrator(x.Account) {
					n++
				}
			}
		}
		for _, c := range s.claims {
			if s.isAdministrator(c.Account) && c.Host == h.Host.Name {
				one := s
				one.claims = []placement.Claim{c}
				none := s
				none.claims = nil
				if h.Report != nil {
					n += one.used(h) - none.used(h)
				} else if !c.Confirmed {
					n++
				}
			}
		}
	}
	return n
}

// mayEvict: the caller may have somebody logged off, in evict or shadow mode.
func (s situation) mayEvict() bool {
	e := s.policy.Eviction
	if s.closed() || e.PerFarmPerHour > 0 && s.view.EvictionsInFarm >= e.PerFarmPerHour || e.PerHour > 0 && s.view.EvictionsInAll >= e.PerHour {
		return false
	}
	if e.PerClientPerHour > 0 && s.view.EvictionsByClient >= e.PerClientPerHour {
		return false
	}
	if e.Proof == placement.Credentials {
		switch {
		case s.view.Unproven == "":
			return true
		case e.RefuseUnproven:
			return false
		}
	}
	known := len(s.id.Accounts) == 1 && s.id.Known && s.id.Confidence >= sessions.ConfidencePrefix
	return known || s.id.Trusted
}

func (s situation) protected(x sessions.Session) bool {
	if len(s.policy.Eviction.ProtectProcesses) > 0 { // always "setup*"
		setup := func(p string) bool { return strings.HasPrefix(strings.ToLower(p), "setup") }
		if x.Processes == nil || slices.ContainsFunc(x.Processes, setup) {
			return true
		}
	}
	return slices.ContainsFunc(s.policy.Eviction.Protect, func(p string) bool { return means(p, x.Account) })
}

// means: the pattern, one of somePattern, means the account.
func means(pattern string, a sessions.Account) bool {
	a = a.Folded()
	switch pattern {
	case "*":
		return true
	case "bob":
		return a.User == "bob"
	case "c?rol":
		return a.User == "carol"
	case `CONTOSO\svc-*`:
		return strings.HasPrefix(a.User, "svc-") && (a.Domain == "" || a.Domain == "contoso")
	case `FABRIKAM\*`:
		return a.Domain == "" || a.Domain == "fabrikam"
	case "[": // malformed: means nobody
		return false
	}
	panic("the oracle does not know " + pattern)
}

// tooSoon: not disconnected for as long as it has to be.
func (s situation) tooSoon(x sessions.Session, age time.Duration) bool {
	e := s.policy.Eviction
	return age < e.MinDisconnected || slices.ContainsFunc(e.MinDisconnectedFor, func(g placement.Grace) bool {
		return age < g.For && means(g.Pattern, x.Account)
	})
}

// kept: its user has asked for it, and that counts.
func (s situation) kept(x sessions.Session, age time.Duration) bool {
	e := s.policy.Eviction
	return e.HonourKeepMark && x.KeepUntil.After(now) && (e.KeepMarkMax == 0 || age < e.KeepMarkMax)
}

// works: it is busy, or may be where that must be known.
func (s situation) works(h *sessions.HostState, x sessions.Session) bool {
	e := s.policy.Eviction
	u, ok := h.Usage[x.ID]
	if !ok || now.Sub(u.At) > 10*time.Minute {
		u = sessions.Usage{CPU: -1, IO: -1}
	}
	cpu := e.BusyCPU > 0 && (u.CPU > e.BusyCPU || u.CPU < 0 && e.CPUMustBeKnown)
	io := e.BusyIO > 0 && (u.IO > e.BusyIO || u.IO < 0 && e.IOMustBeKnown)
	return cpu || io
}

// closed: it is no time for evictions. The windows are those of somePolicy.
func (s situation) closed() bool {
	w := s.policy.Eviction.Hours.Windows
	return len(w) > 0 && w[0].From == 22*60
}

// victims are all sessions that policy gives up for the caller.
func (s situation) victims() (all []victim) {
	for i := range s.hosts {
		h := &s.hosts[i]
		if h.Host.Farm != s.view.Farm || !s.usable(h) || !countsDisconnected(h) || h.Report.NoEvict != "" || s.cannot[h.Host.Name] != "" || s.used(h) > limitOf(h) {
			continue
		}
		if s.policy.Eviction.Proof == placement.Credentials && s.view.Unproven != "" && s.view.Unproven != h.Host.Name {
			continue
		}
		if c := s.policy.Eviction.PerHostPerHour; c > 0 && s.view.EvictionsByHost[h.Host.Name] >= c {
			continue
		}
		for _, x := range h.Report.Sessions {
			ref := sessions.RefOf(h.Host.Name, x)
			age := now.Sub(x.DisconnectedAt)
			sameClient := s.id.Client.IsValid() && x.ClientAddr.Unmap() == s.id.Client
			switch {
			case x.State != sessions.StateDisconnected, x.Account.User == "", x.ID <= 0,
				strings.EqualFold(x.Name, "console"), strings.EqualFold(x.Name, "services"):
			case s.couldBeMine(x.Account), sameClient && s.id.Confidence < sessions.ConfidenceName:
			case s.id.Confidence <= sessions.ConfidenceAddress && !s.id.Trusted && !x.ClientAddr.IsValid(): // anybody's, from anywhere
			case s.protected(x), s.view.Untouchable[ref] != "", s.isLeaving(ref):
			case slices.ContainsFunc(s.policy.Pins, func(p placement.Pin) bool { return p.Host == h.Host.Name && sameUser(p.Account, x.Account) }):
			case slices.ContainsFunc(s.claims, func(c placement.Claim) bool {
				return c.Own != nil && *c.Own == ref || !c.Confirmed && sameUser(c.Account, x.Account)
			}):
			case x.DisconnectedAt.IsZero(), age < 0, s.tooSoon(x, age), s.kept(x, age), s.works(h, x):
			default:
				all = append(all, victim{h.Host.Name, x, age})
			}
		}
	}
	return all
}
