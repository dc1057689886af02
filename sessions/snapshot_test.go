package sessions_test

import (
	"slices"
	"testing"
	"time"

	"github.com/rdpbroker/rdpbroker/sessions"
)

func TestCounted(t *testing.T) {
	alice := sessions.Account{User: "alice"}
	for _, c := range []struct {
		name         string
		s            sessions.Session
		counts       bool // where the host counts disconnected sessions
		countsActive bool // where it does not
	}{
		{"active", sessions.Session{ID: 2, Name: "rdp-tcp#0", Account: alice, State: sessions.StateActive}, true, true},
		{"active at the console", sessions.Session{ID: 1, Name: "console", Account: alice, State: sessions.StateActive}, true, true},
		{"disconnected", sessions.Session{ID: 2, Account: alice, State: sessions.StateDisconnected}, true, false},
		{"disconnected, nobody's", sessions.Session{ID: 0, State: sessions.StateDisconnected}, false, false},
		{"somebody about to log on", sessions.Session{ID: 5, Name: "rdp-tcp#4", State: sessions.StateConnected}, true, true},
		{"somebody about to log on, asked for", sessions.Session{ID: 5, Name: "rdp-tcp#4", State: sessions.StateConnectQuery}, true, true},
		{"shadowing", sessions.Session{ID: 5, Name: "rdp-tcp#4", Account: alice, State: sessions.StateShadow}, true, true},
		{"the console with nobody at it", sessions.Session{ID: 1, Name: "console", State: sessions.StateConnected}, false, false},
		{"the Console, as WTSEnumerateSessions spells it", sessions.Session{ID: 1, Name: "Console", State: sessions.StateConnected}, false, false},
		{"services", sessions.Session{ID: 0, Name: "services", State: sessions.StateDisconnected}, false, false},
		{"Services, as WTSEnumerateSessions spells it", sessions.Session{ID: 0, Name: "Services", State: sessions.StateDown}, false, false},
		{"listener", sessions.Session{ID: 65536, Name: "rdp-tcp", State: sessions.StateListen}, false, false},
		{"waiting for a client", sessions.Session{ID: 9, State: sessions.StateIdle}, false, false},
		{"stuck on its way down", sessions.Session{ID: 2, State: sessions.StateDown}, true, true},
		{"being reset", sessions.Session{ID: 2, State: sessions.StateReset}, true, true},
		{"on its way up", sessions.Session{ID: 2, State: sessions.StateInit}, true, true},
		{"a state word that is not known, somebody's", sessions.Session{ID: 2, Account: alice}, true, true},
		{"a state word that is not known, nobody's", sessions.Session{ID: 2}, false, false},
	} {
		yes := sessions.HostState{Host: sessions.Host{CountDisconnected: sessions.Yes}}
		no := sessions.HostState{Host: sessions.Host{CountDisconnected: sessions.No}}
		if got := yes.Counted(c.s); got != c.counts {
			t.Errorf("%s: %v where disconnected sessions count", c.name, got)
		}
		if got := no.Counted(c.s); got != c.countsActive {
			t.Errorf("%s: %v where disconnected sessions do not count", c.name, got)
		}
	}
}

func TestCountsDisconnected(t *testing.T) {
	report := func(tri sessions.Tri) *sessions.Report { return &sessions.Report{CountsDisconnected: tri} }
	for _, c := range []struct {
		name          string
		h             sessions.HostState
		counts, known bool
	}{
		{"never read", sessions.HostState{}, true, false},
		{"the host does not tell", sessions.HostState{Report: report(sessions.Unknown)}, true, false},
		{"the host counts", sessions.HostState{Report: report(sessions.Yes)}, true, true},
		{"the host does not", sessions.HostState{Report: report(sessions.No)}, false, true},
		{"the operator knows better: no", sessions.HostState{Host: sessions.Host{CountDisconnected: sessions.No}, Report: report(sessions.Yes)}, false, true},
		{"the operator knows better: yes", sessions.HostState{Host: sessions.Host{CountDisconnected: sessions.Yes}, Report: report(sessions.No)}, true, true},
	} {
		if counts, known := c.h.CountsDisconnected(); counts != c.counts || known != c.known {
			t.Errorf("%s: %v, %v", c.name, counts, known)
		}
	}
}

func TestHostStateLimitDrainingFresh(t *testing.T) {
	var never sessions.HostState
	if never.Limit() != 0 || never.Draining() || never.Fresh(t0) {
		t.Error("of a host that was never read nothing is known")
	}
	h := sessions.HostState{Report: &sessions.Report{ReadAt: t0, Limit: 2, Draining: true}, FreshFor: time.Minute}
	if h.Limit() != 2 || !h.Draining() {
		t.Error("the host's word does not count")
	}
	if !h.Fresh(t0.Add(time.Minute)) || h.Fresh(t0.Add(time.Minute+1)) {
		t.Error("fresh for a minute means up to a minute")
	}
	h.Problem = "no route"
	if !h.Fresh(t0) {
		t.Error("a problem does not make a reading older")
	}
	h.Host = sessions.Host{Slots: 5}
	h.Report.Draining = false
	if h.Limit() != 5 || h.Draining() {
		t.Error("the operator's number comes first")
	}
	h.Host.Draining = true
	if !h.Draining() {
		t.Error("the operator's drain does not count")
	}
}

func TestSnapshot(t *testing.T) {
	alice := sessions.Session{ID: 1, Account: sessions.Account{User: "alice"}, LogonAt: t0, State: sessions.StateActive}
	bob := sessions.Session{ID: 2, Account: sessions.Account{User: "bob"}, LogonAt: t0, State: sessions.StateDisconnected}
	hosts := []sessions.HostState{
		{Host: sessions.Host{Name: "ts2"}, Report: &sessions.Report{Sessions: []sessions.Session{bob, {ID: 65536, State: sessions.StateListen}}}},
		{Host: sessions.Host{Name: "ts3"}},
		{Host: sessions.Host{Name: "ts1"}, Report: &sessions.Report{Sessions: []sessions.Session{alice}}},
	}
	s := sessions.NewSnapshot(hosts)
	hosts[0].Host.Name = "changed behind its back"

	var names []string
	for _, h := range s.Hosts {
		names = append(names, h.Host.Name)
	}
	if !slices.Equal(names, []string{"ts1", "ts2", "ts3"}) {
		t.Errorf("hosts in the order %q", names)
	}
	if s.Host("ts2") == nil || s.Host("ts4") != nil {
		t.Error("hosts are not found by name")
	}
	if got, ok := s.Find(sessions.RefOf("ts2", bob)); !ok || got.Account.User != "bob" {
		t.Errorf("bob's session: %+v, %v", got, ok)
	}
	for name, ref := range map[string]sessions.Ref{
		"on another host":          sessions.RefOf("ts1", bob),
		"on a host never read":     sessions.RefOf("ts3", bob),
		"on a host that is no one": sessions.RefOf("ts4", bob),
		"an earlier holder's ID":   sessions.RefOf("ts2", sessions.Session{ID: 2, LogonAt: t0.Add(-time.Hour)}),
	} {
		if _, ok := s.Find(ref); ok {
			t.Errorf("found a session %s", name)
		}
	}

	var users []string
	s.Accounts(func(a sessions.Account) bool { users = append(users, a.User); return true })
	if !slices.Equal(users, []string{"alice", "bob"}) {
		t.Errorf("accounts %q", users)
	}
	n := 0
	s.Accounts(func(sessions.Account) bool { n++; return false })
	if n != 1 {
		t.Errorf("went on for %d accounts after being told to stop", n)
	}
}

func TestAnOperatorsWordOnDraining(t *testing.T) {
	s := sessions.NewSnapshot([]sessions.HostState{
		{Host: sessions.Host{Name: "ts1", Draining: true}},
		{Host: sessions.Host{Name: "ts2"}},
		{Host: sessions.Host{Name: "ts3"}, Report: &sessions.Report{Draining: true}},
		{Host: sessions.Host{Name: "ts4", Draining: true}},
	})
	if s.WithDraining(nil) != s {
		t.Error("without a word it is another snapshot")
	}
	got := s.WithDraining(map[string]bool{"ts1": false, "ts2": true, "ts3": false, "ts9": true})
	for name, want := range map[string]bool{"ts1": false, "ts2": true, "ts3": true, "ts4": true} {
		if h := got.Host(name); h == nil || h.Draining() != want {
			t.Errorf("%s is drained: %v", name, !want)
		}
	}
	if !s.Host("ts1").Draining() || s.Host("ts2").Draining() {
		t.Error("the snapshot that it was made from has changed")
	}
}

// As time goes by all that lasts lasts longer, and the readings stay fresh.
func TestShifted(t *testing.T) {
	at := time.Date(2026, 3, 2, 9, 0, 0, 0, time.UTC)
	s := sessions.Session{ID: 1, Account: sessions.Account{User: "a"}, State: sessions.StateDisconnected, DisconnectedAt: at.Add(-time.Hour)}
	for _, hostTime := range []time.Time{{}, at} {
		was := sessions.NewSnapshot([]sessions.HostState{{
			Host: sessions.Host{Name: "ts1"}, FreshFor: time.Minute,
			Report: &sessions.Report{ReadAt: at, HostTime: hostTime, Sessions: []sessions.Session{s}},
			Usage:  map[int]sessions.Usage{1: {At: at}},
		}, {Host: sessions.Host{Name: "ts2"}}})
		for _, d := range []time.Duration{0, 3 * time.Hour, -30 * time.Minute} {
			h := was.Shifted(d).Host("ts1")
			if got, ok := h.Report.DisconnectedFor(s, at.Add(d)); !ok || got != time.Hour+d || !h.Fresh(at.Add(d)) || !h.Usage[1].At.Equal(at.Add(d)) {
				t.Errorf("%s later it has been disconnected for %s (%v); usage %+v", d, got, ok, h.Usage)
			}
		}
		if h := was.Host("ts1"); !h.Report.ReadAt.Equal(at) || !h.Report.HostTime.Equal(hostTime) || !h.Usage[1].At.Equal(at) {
			t.Errorf("the snapshot itself has changed: %+v", h)
		}
	}
}
