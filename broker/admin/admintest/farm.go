package admintest

import (
	"errors"
	"net/http"
	"net/netip"
	"time"

	"github.com/rdpbroker/rdpbroker/broker/admin"
	"github.com/rdpbroker/rdpbroker/broker/placement"
	"github.com/rdpbroker/rdpbroker/sessions"
)

// State is an admin.State made of functions; calling one that is nil is a mistake.
type State struct {
	StatusFunc  func() admin.Status
	ExplainFunc func(admin.Question) (admin.Explanation, error)
	ReadyFunc   func() error
}

// Status implements admin.State.
func (f *State) Status() admin.Status { return f.StatusFunc() }

// Explain implements admin.State.
func (f *State) Explain(q admin.Question) (admin.Explanation, error) { return f.ExplainFunc(q) }

// Ready implements admin.State.
func (f *State) Ready() error { return f.ReadyFunc() }

// Scraped stands for the handler of /metrics.
var Scraped = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
	_, _ = w.Write([]byte("rdpbroker_up 1\n"))
})

// Who and when.
var (
	Now     = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	Alice   = sessions.Account{Domain: "CONTOSO", User: "alice"}
	Bob     = sessions.Account{Domain: "CONTOSO", User: "bob"}
	Client7 = netip.MustParseAddr("10.1.2.3")
)

// Hostile is text that would take over a terminal or a table.
const Hostile = "e\x1b[2J\tv\nil\u202e\u009b31m\xff"

// FarmStatus is a farm in which most things happen at once.
func FarmStatus() admin.Status {
	// The host's own clock is an hour ahead.
	hostTime := Now.Add(time.Hour - 10*time.Second)
	stale := sessions.Session{
		ID: 4, Account: Bob, State: sessions.StateDisconnected,
		LogonAt: hostTime.Add(-26 * time.Hour), DisconnectedAt: hostTime.Add(-192 * time.Minute),
	}
	return admin.Status{
		Now: Now,
		Snapshot: sessions.NewSnapshot([]sessions.HostState{
			{
				Host:     sessions.Host{Name: "ts1", Farm: "office", Addr: "ts1:3389", Slots: 2},
				FreshFor: time.Minute,
				Report: &sessions.Report{
					ReadAt: Now.Add(-10 * time.Second), HostTime: hostTime, Source: "quser", NoEvict: "its text tells no exact times",
					Sessions: []sessions.Session{
						{ID: 0, Name: "services", State: sessions.StateDisconnected},
						{ID: 3, Name: "rdp-tcp#3", Account: Alice, State: sessions.StateActive, LogonAt: hostTime.Add(-5 * time.Minute), ClientName: "PC7", ClientAddr: Client7},
						stale,
						{ID: 65536, Name: "rdp-tcp", State: sessions.StateListen},
					},
				},
			},
			{
				Host:     sessions.Host{Name: "ts2", Farm: "office", Addr: "ts2:3389", CountDisconnected: sessions.No, Draining: true},
				FreshFor: time.Minute, Problem: "no route\nto host",
				Report: &sessions.Report{
					ReadAt: Now.Add(-3*time.Hour - 12*time.Minute), Source: "quser",
					Sessions: []sessions.Session{
						{ID: 1, Account: sessions.Account{User: "dave"}, State: sessions.StateDisconnected, Program: "sap.exe"},
						{ID: 2, State: sessions.StateConnected, ClientName: Hostile},
					},
				},
			},
			{Host: sessions.Host{Name: "lx1", Farm: "linux", Addr: "lx1:3389"}, Problem: "connection refused"},
			{Host: sessions.Host{Name: "lx2", Farm: "linux", Addr: "lx2:3389"}},
			{
				Host: sessions.Host{Name: "lx3", Farm: "linux", Addr: "lx3:3389"}, FreshFor: time.Minute,
				Report: &sessions.Report{ReadAt: Now, Limit: 10, CountsDisconnected: sessions.Yes, Source: "xrdp", Sessions: []sessions.Session{}},
			},
		}),
		Reservations: []admin.Reservation{
			{ID: 7, Farm: "linux", Host: "lx3", Account: Alice, Client: Client7, Kind: placement.Place, MadeAt: Now, ExpiresAt: Now.Add(time.Minute)},
			{ID: 8, Farm: "linux", Host: "lx3", Kind: placement.Place, Seen: &sessions.Ref{Host: "lx3", ID: 1}, MadeAt: Now, ExpiresAt: Now.Add(time.Minute)},
		},
		Waiting: []admin.Waiting{
			{Farm: "office", Identity: sessions.Identity{Confidence: sessions.ConfidenceName, Said: "carol", Accounts: []sessions.Account{{User: "carol"}}, Client: Client7}, Since: Now.Add(-12 * time.Second), Reason: "all slots are taken"},
			{Farm: "office", Identity: sessions.Identity{Said: Hostile}, Since: Now, Reason: "all slots are taken"},
			{Farm: "office", Since: Now, Reason: "all slots are taken"},
		},
		Version: "1.2.3", StartedAt: Now.Add(-time.Hour),
		Farms: []admin.Farm{{Name: "linux", Mode: "off"}, {Name: "office", Mode: "evict", Configured: "shadow"}},
		Connections: []admin.Connection{
			{ID: 1, Farm: "office", Host: "ts1", Client: "10.1.2.3:50123", Account: Alice, Said: "alice", Kind: placement.Reconnect, Since: Now.Add(-5 * time.Minute)},
			{ID: 2, Farm: "linux", Host: "lx3", Client: "[2001:db8::7]:50124", Said: Hostile, Kind: placement.Place, Since: Now.Add(-time.Second)},
		},
		Leaving: []sessions.Ref{sessions.RefOf("ts1", stale)},
	}
}

// Explain is the answer about alice; of other farms than office there is none.
func Explain(q admin.Question) (admin.Explanation, error) {
	if q.Farm != "office" {
		return admin.Explanation{}, &admin.NotFoundError{What: "a farm of the name " + q.Farm}
	}
	if q.User == "broken" {
		return admin.Explanation{}, errors.New("the ledger does not answer")
	}
	st := FarmStatus()
	v := placement.Victim{Host: "ts1", Session: st.Snapshot.Host("ts1").Report.Sessions[2], DisconnectedFor: 192 * time.Minute}
	return admin.Explanation{
		Now: Now, At: q.At, WhatIf: q.WhatIf, Farm: "office", Mode: "evict",
		Identity: sessions.Identity{Confidence: sessions.ConfidenceName, Said: q.User, Accounts: []sessions.Account{Alice}, Known: true, Client: q.From, Trusted: true},
		Decision: placement.Decision{
			Kind: placement.MakeRoom, Host: "ts1", Victim: &v, Reason: "no slot is free, and this session has been disconnected longest",
			Candidates: []placement.Candidate{
				{Host: "ts1", As: "slot", Why: "2 of 2 slots are taken"},
				{Host: "ts1", Session: 3, Account: `CONTOSO\alice`, As: "victim", Why: "it is active"},
				{Host: "ts1", Session: 4, Account: `CONTOSO\bob`, As: "victim", Chosen: true, Why: "disconnected for 3h12m0s"},
				{Host: "ts2", As: "slot", Why: Hostile},
			},
		},
	}, nil
}

// NewState is a broker in front of the farm of FarmStatus.
func NewState() *State {
	return &State{StatusFunc: FarmStatus, ExplainFunc: Explain, ReadyFunc: func() error { return nil }}
}
