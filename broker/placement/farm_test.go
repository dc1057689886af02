package placement_test

import (
	"fmt"
	"net/netip"
	"time"

	"pgregory.net/rapid"

	"github.com/rdpbroker/rdpbroker/broker/placement"
	"github.com/rdpbroker/rdpbroker/sessions"
)

// Generators of small farms in which things meet: few names, few addresses, few
// moments, so that ties, namesakes and coincidences are common.

// situation is everything that a decision depends on.
type situation struct {
	hosts  []sessions.HostState
	view   placement.View    // without Snapshot, Claims and CannotEvict
	cannot map[string]string // CannotEvict
	claims []placement.Claim
	id     sessions.Identity
	policy placement.Policy
}

// whole is the view with all that belongs into it.
func (s situation) whole() placement.View {
	v := s.view
	v.CannotEvict = func(host string) string { return s.cannot[host] }
	v.Snapshot, v.Claims = sessions.NewSnapshot(s.hosts), placement.NewClaims(s.claims...)
	return v
}

func (s situation) decide() placement.Decision { return placement.Decide(s.whole(), s.id, s.policy) }

var (
	someAccount = rapid.SampledFrom([]sessions.Account{
		{Domain: "CONTOSO", User: "alice"}, {User: "alice"}, {Domain: "contoso.example", User: "Alice"},
		{Domain: "FABRIKAM", User: "alice"}, {User: "bob"}, {Domain: "CONTOSO", User: "svc-backup"}, {User: "svc-sql"}, {User: "carol"},
		{User: "dave"}, {Domain: "CONTOSO", User: "erin"}, {User: "frank"}, {Domain: "CONTOSO", User: "grace"}, {User: "heidi"},
	})
	somePattern = rapid.SampledFrom([]string{`CONTOSO\svc-*`, "bob", "*", "c?rol", "[", `FABRIKAM\*`})
	someProgram = rapid.SampledFrom([]string{"setup.exe", "SETUP.exe", "excel.exe"})
	someClient  = rapid.SampledFrom([]netip.Addr{{}, client, netip.AddrFrom16(client.As16()), netip.MustParseAddr("198.51.100.9")})
	someAgo     = rapid.SampledFrom([]time.Duration{-time.Minute, 0, 30 * time.Minute, hour, hour, 2 * hour, 48 * hour})
	someTri     = rapid.SampledFrom([]sessions.Tri{sessions.Unknown, sessions.Yes, sessions.No})
	// Half of all sessions are disconnected: those are what this is about.
	someState = rapid.OneOf(
		rapid.Just(sessions.StateDisconnected),
		rapid.Custom(func(t *rapid.T) sessions.State { return sessions.State(rapid.Uint8Max(12).Draw(t, "state")) }),
	)
)

// chance is true once in n times, and shrinks to false.
func chance(t *rapid.T, n int, label string) bool {
	return rapid.IntRange(0, n-1).Draw(t, label) == n-1
}

func someSession(t *rapid.T, id int) sessions.Session {
	s := sessions.Session{
		ID: id, State: someState.Draw(t, "state"), LogonAt: now.Add(-100 * hour),
		Name: rapid.SampledFrom([]string{"", "", "", "", "", "", "rdp-tcp#1", "console", "Console", "services"}).Draw(t, "name"),
	}
	if !chance(t, 12, "nobody's") {
		s.Account = someAccount.Draw(t, "account")
	}
	if !chance(t, 12, "no time") {
		s.DisconnectedAt = now.Add(-someAgo.Draw(t, "disconnected"))
	}
	if chance(t, 3, "client known") {
		s.ClientAddr = someClient.Draw(t, "from")
	}
	if s.State == sessions.StateActive && !chance(t, 6, "input not told") {
		s.LastInputAt = now.Add(-someAgo.Draw(t, "last input"))
	}
	if chance(t, 6, "marked") {
		s.KeepUntil = now.Add(-someAgo.Draw(t, "kept until"))
	}
	if rapid.Bool().Draw(t, "processes read") {
		s.Processes = rapid.SliceOfN(someProgram, 0, 2).Draw(t, "processes")
		if s.Processes == nil {
			s.Processes = []string{}
		}
	}
	return s
}

var (
	someIDs   = []int{0, 1, 2, 3, 7, 65536}
	someUsage = rapid.Custom(func(t *rapid.T) sessions.Usage {
		return sessions.Usage{
			At:   now.Add(-rapid.SampledFrom([]time.Duration{0, time.Minute, hour}).Draw(t, "measured")),
			Over: time.Minute,
			CPU:  rapid.SampledFrom([]float64{-1, 0, .02, .5}).Draw(t, "CPU"),
			IO:   rapid.SampledFrom([]float64{-1, 0, 1000, 1e6}).Draw(t, "I/O"),
		}
	})
)

func someHost(t *rapid.T, name string) sessions.HostState {
	h := sessions.HostState{Host: sessions.Host{Name: name, Farm: farm}, FreshFor: time.Minute}
	if chance(t, 3, "counting configured") {
		h.Host.CountDisconnected = someTri.Draw(t, "count disconnected")
	}
	h.Host.Weight = rapid.IntRange(0, 3).Draw(t, "weight")
	if chance(t, 4, "slots configured") {
		h.Host.Slots = rapid.IntRange(0, 5).Draw(t, "slots")
	}
	h.Host.Draining = chance(t, 8, "drained by hand")
	if chance(t, 6, "problem") {
		h.Problem = "no route"
	}
	if chance(t, 8, "never read") {
		return h
	}
	r := &sessions.Report{ReadAt: now, Limit: rapid.IntRange(0, 5).Draw(t, "limit")}
	if chance(t, 3, "counting told") {
		r.CountsDisconnected = someTri.Draw(t, "counts disconnected")
	}
	if chance(t, 6, "stale") {
		r.ReadAt = now.Add(-2 * time.Minute)
	}
	r.Draining = chance(t, 8, "draining")
	if chance(t, 8, "no evict") {
		r.NoEvict = "text only"
	}
	ids := rapid.SliceOfNDistinct(rapid.SampledFrom(someIDs), 0, 5, rapid.ID[int]).Draw(t, "ids")
	for _, id := range ids {
		r.Sessions = append(r.Sessions, someSession(t, id))
	}
	h.Report = r
	if chance(t, 2, "usage measured") {
		h.Usage = rapid.MapOfN(rapid.SampledFrom(someIDs), someUsage, 0, 4).Draw(t, "usage")
	}
	return h
}

func someSituation(t *rapid.T) situation {
	var s situation
	for i := range rapid.IntRange(0, 4).Draw(t, "hosts") {
		s.hosts = append(s.hosts, someHost(t, string(rune('a'+i))))
	}
	var refs []sessions.Ref
	for _, h := range s.hosts {
		if h.Report != nil {
			for _, x := range h.Report.Sessions {
				refs = append(refs, sessions.RefOf(h.Host.Name, x))
			}
		}
	}
	refs = append(refs, sessions.Ref{Host: "a", ID: 999}) // one that is gone
	ref := rapid.SampledFrom(refs)
	hostName := rapid.SampledFrom([]string{"a", "b", "c", "d", "z"})

	s.view = placement.View{Farm: farm, Now: now}
	for range rapid.IntRange(0, 3).Draw(t, "claims") {
		c := placement.Claim{Host: hostName.Draw(t, "claim on"), Confirmed: rapid.Bool().Draw(t, "confirmed")}
		if rapid.Bool().Draw(t, "claim named") {
			c.Account = someAccount.Draw(t, "claim for")
		}
		switch rapid.IntRange(0, 2).Draw(t, "claim kind") {
		case 1:
			r := ref.Draw(t, "claim own")
			c.Own, c.Host = &r, r.Host
		case 2:
			r := ref.Draw(t, "claim victim")
			c.Victim, c.Host = &r, r.Host
		}
		s.claims = append(s.claims, c)
	}
	if chance(t, 4, "unreachable") {
		s.view.Unreachable = map[string]string{hostName.Draw(t, "host"): "timeout"}
	}
	if chance(t, 8, "cannot evict") {
		s.cannot = map[string]string{hostName.Draw(t, "host"): "no driver"}
	}
	if chance(t, 4, "leaving") {
		s.view.Leaving = map[sessions.Ref]bool{ref.Draw(t, "leaving session"): true}
	}
	if chance(t, 4, "untouchable") {
		s.view.Untouchable = map[sessions.Ref]string{ref.Draw(t, "untouchable session"): "kept"}
	}
	// Few, as the ceilings are low.
	s.view.EvictionsByHost = rapid.MapOfN(hostName, rapid.IntRange(0, 3), 0, 2).Draw(t, "evictions by host")
	s.view.EvictionsByClient = rapid.IntRange(0, 3).Draw(t, "evictions by client")

	s.view.EvictionsInFarm = rapid.IntRange(0, 3).Draw(t, "evictions in the farm")
	s.view.EvictionsInAll = s.view.EvictionsInFarm + rapid.IntRange(0, 3).Draw(t, "evictions elsewhere")
	if chance(t, 3, "unproven") {
		s.view.Unproven = hostName.Draw(t, "without NLA")
	}

	s.id = someIdentity(t)
	s.policy = somePolicy(t)
	if !chance(t, 4, "at ease") {
		s.fill()
	}
	return s
}

// fill takes away the free slots, so that the question is who has to go.
func (s *situation) fill() {
	for i := range s.hosts {
		h := &s.hosts[i]
		if h.Report == nil {
			continue
		}
		if n := s.used(h); n > 0 {
			h.Host.Slots = n
		}
	}
}

func someIdentity(t *rapid.T) sessions.Identity {
	id := sessions.Identity{
		Confidence: rapid.SampledFrom([]sessions.Confidence{3, 3, 2, 2, 4, 1, 0}).Draw(t, "confidence"),
		Client:     someClient.Draw(t, "client").Unmap(),
		Trusted:    chance(t, 3, "trusted"),
		Known:      !chance(t, 4, "a stranger"),
	}
	// Mostly one account, sometimes none or several.
	n := rapid.SampledFrom([]int{1, 1, 1, 0, 2, 3}).Draw(t, "how many it could be")
	id.Accounts = rapid.SliceOfNDistinct(someAccount, n, n, func(a sessions.Account) sessions.Account { return a.Folded() }).Draw(t, "accounts")
	if chance(t, 6, "token") {
		id.Host = rapid.SampledFrom([]string{"a", "b", "z"}).Draw(t, "token's host")
	}
	return id
}

func somePolicy(t *rapid.T) placement.Policy {
	p := placement.Policy{
		Balance:        placement.Balance(rapid.IntRange(0, 2).Draw(t, "balance")),
		TakeOverActive: rapid.Bool().Draw(t, "take over"),
		Eviction: placement.Eviction{
			Mode:             rapid.SampledFrom([]placement.Mode{placement.Evict, placement.Evict, placement.Shadow, placement.Off}).Draw(t, "mode"),
			MinDisconnected:  rapid.SampledFrom([]time.Duration{hour, 0, 47 * hour}).Draw(t, "min disconnected"),
			PerHostPerHour:   rapid.IntRange(0, 2).Draw(t, "per host"),
			PerClientPerHour: rapid.IntRange(0, 3).Draw(t, "per client"),
		},
	}
	if chance(t, 2, "credentials") {
		p.Eviction.Proof = placement.Credentials
		p.Eviction.RefuseUnproven = chance(t, 3, "refuse")
	}
	if chance(t, 4, "protect") {
		p.Eviction.Protect = rapid.SliceOfN(somePattern, 1, 2).Draw(t, "protected")
	}
	if chance(t, 4, "protect processes") {
		p.Eviction.ProtectProcesses = []string{"setup*"}
	}
	if chance(t, 4, "reserve") {
		p.Reserve = placement.Reserve{Users: []string{somePattern.Draw(t, "for")}, Slots: rapid.IntRange(0, 3).Draw(t, "reserved slots")}
	}
	e := &p.Eviction
	if chance(t, 4, "longer for some") {
		for range rapid.IntRange(1, 2).Draw(t, "how many") {
			e.MinDisconnectedFor = append(e.MinDisconnectedFor, placement.Grace{Pattern: somePattern.Draw(t, "who"), For: rapid.SampledFrom([]time.Duration{time.Minute, 3 * hour}).Draw(t, "for")})
		}
	}
	if chance(t, 8, "hours") { // it is Monday, nine o'clock
		e.Hours.Windows = []placement.Window{rapid.SampledFrom([]placement.Window{
			{Days: placement.EveryDay, From: 8 * 60, To: 18 * 60},
			{Days: placement.EveryDay, From: 22 * 60, To: 6 * 60},
			{Days: 1 << time.Sunday, From: 23 * 60, To: 10 * 60},
		}).Draw(t, "window")}
	}
	if chance(t, 4, "busy") {
		e.BusyCPU = rapid.SampledFrom([]float64{0, .02, .1}).Draw(t, "busy CPU")
		e.BusyIO = rapid.SampledFrom([]float64{0, 1000}).Draw(t, "busy I/O")
		e.CPUMustBeKnown = chance(t, 3, "CPU must be known")
		e.IOMustBeKnown = chance(t, 3, "I/O must be known")
	}
	e.HonourKeepMark = !chance(t, 4, "marks do not count")
	e.KeepMarkMax = rapid.SampledFrom([]time.Duration{24 * hour, 0, hour}).Draw(t, "keep mark max")
	if chance(t, 8, "ceilings of the farm") {
		e.PerFarmPerHour = rapid.IntRange(0, 3).Draw(t, "per farm")
		e.PerHour = rapid.IntRange(0, 4).Draw(t, "per hour")
	}
	if chance(t, 4, "pins") {
		p.Pins = []placement.Pin{{Account: someAccount.Draw(t, "pinned"), Host: rapid.SampledFrom([]string{"a", "b", "z"}).Draw(t, "to")}}
	}
	return p
}

func (s situation) String() string {
	out := fmt.Sprintf("identity %+v\npolicy %+v\nclaims %+v unreachable %v cannot evict %v leaving %v untouchable %v unproven %q\n", s.id, s.policy, s.claims, s.view.Unreachable, s.cannot, s.view.Leaving, s.view.Untouchable, s.view.Unproven)
	for _, h := range s.hosts {
		out += fmt.Sprintf("host %+v problem %q usage %+v\n", h.Host, h.Problem, h.Usage)
		if h.Report != nil {
			out += fmt.Sprintf("  read %s ago, limit %d, counts %s, draining %v, no evict %q\n", now.Sub(h.Report.ReadAt), h.Report.Limit, h.Report.CountsDisconnected, h.Report.Draining, h.Report.NoEvict)
			for _, x := range h.Report.Sessions {
				out += fmt.Sprintf("  %+v\n", x)
			}
		}
	}
	return out
}
