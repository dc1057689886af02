package admin

import (
	"errors"
	"net/http"
	"net/netip"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/rdpbroker/rdpbroker/broker/placement"
	"github.com/rdpbroker/rdpbroker/sessions"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fake is a State made of functions; calling one that is nil is a mistake.
type fake struct {
	status  func() Status
	explain func(Question) (Explanation, error)
	ready   func() error
}

func (f *fake) Status() Status                          { return f.status() }
func (f *fake) Explain(q Question) (Explanation, error) { return f.explain(q) }
func (f *fake) Ready() error                            { return f.ready() }

var scraped = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
	_, _ = w.Write([]byte("rdpbroker_up 1\n"))
})

var (
	now     = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	alice   = sessions.Account{Domain: "CONTOSO", User: "alice"}
	bob     = sessions.Account{Domain: "CONTOSO", User: "bob"}
	client7 = netip.MustParseAddr("10.1.2.3")
)

// hostile is text that would take over a terminal or a table.
const hostile = "e\x1b[2J\tv\nil\u202e\u009b31m\xff"

// farmStatus is a farm in which most things happen at once.
func farmStatus() Status {
	// The host's own clock is an hour ahead.
	hostTime := now.Add(time.Hour - 10*time.Second)
	stale := sessions.Session{
		ID: 4, Account: bob, State: sessions.StateDisconnected,
		LogonAt: hostTime.Add(-26 * time.Hour), DisconnectedAt: hostTime.Add(-192 * time.Minute),
	}
	return Status{
		Now: now,
		Snapshot: sessions.NewSnapshot([]sessions.HostState{
			{
				Host:     sessions.Host{Name: "ts1", Farm: "office", Addr: "ts1:3389", Slots: 2},
				FreshFor: time.Minute,
				Report: &sessions.Report{
					ReadAt: now.Add(-10 * time.Second), HostTime: hostTime, Source: "quser", NoEvict: "its text tells no exact times",
					Sessions: []sessions.Session{
						{ID: 0, Name: "services", State: sessions.StateDisconnected},
						{ID: 3, Name: "rdp-tcp#3", Account: alice, State: sessions.StateActive, LogonAt: hostTime.Add(-5 * time.Minute), ClientName: "PC7", ClientAddr: client7},
						stale,
						{ID: 65536, Name: "rdp-tcp", State: sessions.StateListen},
					},
				},
			},
			{
				Host:     sessions.Host{Name: "ts2", Farm: "office", Addr: "ts2:3389", CountDisconnected: sessions.No, Draining: true},
				FreshFor: time.Minute, Problem: "no route\nto host",
				Report: &sessions.Report{
					ReadAt: now.Add(-3*time.Hour - 12*time.Minute), Source: "quser",
					Sessions: []sessions.Session{
						{ID: 1, Account: sessions.Account{User: "dave"}, State: sessions.StateDisconnected, Program: "sap.exe"},
						{ID: 2, State: sessions.StateConnected, ClientName: hostile},
					},
				},
			},
			{Host: sessions.Host{Name: "lx1", Farm: "linux", Addr: "lx1:3389"}, Problem: "connection refused"},
			{Host: sessions.Host{Name: "lx2", Farm: "linux", Addr: "lx2:3389"}},
			{
				Host: sessions.Host{Name: "lx3", Farm: "linux", Addr: "lx3:3389"}, FreshFor: time.Minute,
				Report: &sessions.Report{ReadAt: now, Limit: 10, CountsDisconnected: sessions.Yes, Source: "xrdp", Sessions: []sessions.Session{}},
			},
		}),
		Reservations: []Reservation{
			{ID: 7, Farm: "linux", Host: "lx3", Account: alice, Client: client7, Kind: placement.Place, MadeAt: now, ExpiresAt: now.Add(time.Minute)},
			{ID: 8, Farm: "linux", Host: "lx3", Kind: placement.Place, Seen: &sessions.Ref{Host: "lx3", ID: 1}, MadeAt: now, ExpiresAt: now.Add(time.Minute)},
		},
		Waiting: []Waiting{
			{Farm: "office", Identity: sessions.Identity{Confidence: sessions.ConfidenceName, Said: "carol", Accounts: []sessions.Account{{User: "carol"}}, Client: client7}, Since: now.Add(-12 * time.Second), Reason: "all slots are taken"},
			{Farm: "office", Identity: sessions.Identity{Said: hostile}, Since: now, Reason: "all slots are taken"},
			{Farm: "office", Since: now, Reason: "all slots are taken"},
		},
		Leaving: []sessions.Ref{sessions.RefOf("ts1", stale)},
	}
}

// explanation is the answer about alice; of other farms than office there is none.
func explanation(q Question) (Explanation, error) {
	if q.Farm != "office" {
		return Explanation{}, &NotFoundError{What: "a farm of the name " + q.Farm}
	}
	if q.User == "broken" {
		return Explanation{}, errors.New("the ledger does not answer")
	}
	st := farmStatus()
	v := placement.Victim{Host: "ts1", Session: st.Snapshot.Host("ts1").Report.Sessions[2], DisconnectedFor: 192 * time.Minute}
	return Explanation{
		Now: now, Farm: "office", Mode: "evict",
		Identity: sessions.Identity{Confidence: sessions.ConfidenceName, Said: q.User, Accounts: []sessions.Account{alice}, Known: true, Client: q.From, Trusted: true},
		Decision: placement.Decision{
			Kind: placement.MakeRoom, Host: "ts1", Victim: &v, Reason: "no slot is free, and this session has been disconnected longest",
			Candidates: []placement.Candidate{
				{Host: "ts1", As: "slot", Why: "2 of 2 slots are taken"},
				{Host: "ts1", Session: 3, Account: `CONTOSO\alice`, As: "victim", Why: "it is active"},
				{Host: "ts1", Session: 4, Account: `CONTOSO\bob`, As: "victim", Chosen: true, Why: "disconnected for 3h12m0s"},
				{Host: "ts2", As: "slot", Why: hostile},
			},
		},
	}, nil
}

func newFake() *fake {
	return &fake{status: farmStatus, explain: explanation, ready: func() error { return nil }}
}
