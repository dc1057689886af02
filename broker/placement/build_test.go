package placement_test

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/rdpbroker/rdpbroker/broker/placement"
	"github.com/rdpbroker/rdpbroker/sessions"
)

var now = time.Date(2026, 3, 2, 9, 0, 0, 0, time.UTC)

const farm = "office"

// host is a host of the farm that was read just now and has limit slots.
func host(name string, limit int, ss ...sessions.Session) sessions.HostState {
	return sessions.HostState{
		Host:     sessions.Host{Name: name, Farm: farm, CountDisconnected: sessions.Yes},
		Report:   &sessions.Report{ReadAt: now, Limit: limit, Sessions: ss, Source: "test"},
		FreshFor: time.Minute,
	}
}

// with is h changed by change; the report is a copy.
func with(h sessions.HostState, change func(*sessions.HostState)) sessions.HostState {
	if h.Report != nil {
		r := *h.Report
		h.Report = &r
	}
	change(&h)
	return h
}

func stale(h sessions.HostState) sessions.HostState {
	return with(h, func(h *sessions.HostState) { h.Report.ReadAt = now.Add(-61 * time.Second) })
}

func disc(id int, account string, ago time.Duration) sessions.Session {
	return sessions.Session{
		ID: id, Account: sessions.ParseAccount(account), State: sessions.StateDisconnected,
		LogonAt: now.Add(-100 * time.Hour), DisconnectedAt: now.Add(-ago),
	}
}

func active(id int, account string) sessions.Session {
	return sessions.Session{
		ID: id, Name: "rdp-tcp#1", Account: sessions.ParseAccount(account), State: sessions.StateActive,
		LogonAt: now.Add(-100 * time.Hour),
	}
}

func view(hosts ...sessions.HostState) placement.View {
	return placement.View{Snapshot: sessions.NewSnapshot(hosts), Farm: farm, Now: now}
}

var client = netip.MustParseAddr("192.0.2.7")

// named is a caller whose cookie was a whole, known name.
func named(account string) sessions.Identity {
	return sessions.Identity{
		Confidence: sessions.ConfidenceName, Said: account, Known: true, Client: client,
		Accounts: []sessions.Account{sessions.ParseAccount(account)},
	}
}

// prefix is a caller whose cookie could stand for each of accounts.
func prefix(accounts ...string) sessions.Identity {
	id := sessions.Identity{Confidence: sessions.ConfidencePrefix, Said: "Administr", Client: client, Known: len(accounts) == 1}
	for _, a := range accounts {
		id.Accounts = append(id.Accounts, sessions.ParseAccount(a))
	}
	return id
}

// nobody is a caller without a cookie whose address is not known either.
func nobody() sessions.Identity { return sessions.Identity{Client: client} }

func trusted(id sessions.Identity) sessions.Identity { id.Trusted = true; return id }

func at(confidence sessions.Confidence, id sessions.Identity) sessions.Identity {
	id.Confidence = confidence
	return id
}

// evicting is a policy that gives up sessions disconnected for an hour.
func evicting() placement.Policy {
	return placement.Policy{
		TakeOverActive: true,
		Eviction:       placement.Eviction{Mode: placement.Evict, MinDisconnected: time.Hour},
	}
}

func changed(p placement.Policy, change func(*placement.Policy)) placement.Policy {
	change(&p)
	return p
}

// summary is a decision in short: kind, host, and the session that it is about.
func summary(d placement.Decision) string {
	s := d.Kind.String()
	if d.Host != "" {
		s += " " + d.Host
	}
	if d.Own != nil {
		s += " own " + d.Own.String()
	}
	if d.Victim != nil {
		s += " victim " + d.Victim.Ref().String()
	}
	if d.Would != nil {
		s += " would " + d.Would.Ref().String()
	}
	return s
}

func explain(t *testing.T, d placement.Decision) {
	t.Helper()
	t.Logf("%s: %s", d.Kind, d.Reason)
	for _, c := range d.Candidates {
		t.Logf("  %+v", c)
	}
}

// why is the reason given for one candidate, "" if it was not looked at as that.
func why(d placement.Decision, as, host string, id int) string {
	var all []string
	for _, c := range d.Candidates {
		if c.As == as && c.Host == host && c.Session == id {
			all = append(all, c.Why)
		}
	}
	return strings.Join(all, "; ")
}

// onlyActive is h on a host that does not count disconnected sessions.
func onlyActive(h sessions.HostState) sessions.HostState {
	return with(h, func(h *sessions.HostState) { h.Host.CountDisconnected = sessions.No })
}
