package page

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/rdpbroker/rdpbroker/broker/admin"
	"github.com/rdpbroker/rdpbroker/broker/admin/admintest"
	"github.com/rdpbroker/rdpbroker/broker/admin/auth"
	"github.com/rdpbroker/rdpbroker/broker/audit"
	"github.com/rdpbroker/rdpbroker/sessions"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newPage(t *testing.T, state admin.State) *Page {
	t.Helper()
	p, err := New(state, func(int) []audit.Record { return nil }, auth.New(auth.Config{}))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// changes are those that were published since the last call.
func changes(t *testing.T, p *Page, after uint64) (out []change) {
	t.Helper()
	if p.hub.Last() == after {
		return nil
	}
	r, err := p.hub.Read(after)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	events, _, err := r.Next(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range events {
		var c change
		if err := json.Unmarshal(e.Data(), &c); err != nil {
			t.Fatal(err)
		}
		out = append(out, c)
	}
	return out
}

// TestOnlyWhatChangesIsSent, and it is all that changes: a page that applies every
// change shows what one shows that was loaded afterwards.
func TestOnlyWhatChangesIsSent(t *testing.T) {
	state := admintest.NewState()
	st := admintest.FarmStatus()
	state.StatusFunc = func() admin.Status { return st }
	p := newPage(t, state)
	p.look(0)
	shown := map[string]string{}
	apply := func(c change) {
		for name, html := range c.Rows {
			shown[name] = html
		}
	}
	first := changes(t, p, 0)
	if len(first) != 1 || len(first[0].Rows) != 5 || len(first[0].Order) != 5 || first[0].Summary == "" || first[0].Waiting == "" {
		t.Fatalf("the first look sends %+v", first)
	}
	apply(first[0])

	last := p.hub.Last()
	p.look(0)
	st.Now = st.Now.Add(10 * time.Second) // time alone is no change
	p.look(0)
	if c := changes(t, p, last); len(c) > 0 {
		t.Errorf("nothing has changed, and %+v is sent", c)
	}

	// A new reading of a host of which nothing has changed but the clock, by a bit.
	again := func(change func(*sessions.Report)) {
		all := append([]sessions.HostState{}, st.Snapshot.Hosts...)
		for i := range all {
			if all[i].Host.Name == "ts1" {
				r := *all[i].Report
				r.Sessions = append([]sessions.Session{}, r.Sessions...)
				r.ReadAt, r.HostTime = r.ReadAt.Add(10*time.Second), r.HostTime.Add(11*time.Second)
				change(&r)
				all[i].Report = &r
			}
		}
		st.Snapshot = sessions.NewSnapshot(all)
		st.Now = st.Now.Add(10 * time.Second)
	}
	again(func(*sessions.Report) {})
	p.look(0)
	if c := changes(t, p, last); len(c) > 0 {
		t.Errorf("a new reading with nothing new, and %+v is sent", c)
	}
	again(func(r *sessions.Report) { r.Sessions[1].Account.User = "zoe" })
	p.look(0)
	c := changes(t, p, last)
	if len(c) != 1 || len(c[0].Rows) != 1 || !strings.Contains(c[0].Rows["ts1"], "zoe") || c[0].Order != nil || c[0].Summary != "" {
		t.Errorf("one name has changed, and %+v is sent", c)
	}
	apply(c[0])
	st.Kept = []admin.Kept{{Session: sessions.RefOf("ts1", st.Snapshot.Host("ts1").Report.Sessions[1]), Until: st.Now.Add(time.Hour), By: "anna (socket)"}}
	last = p.hub.Last()
	p.look(0)
	if c = changes(t, p, last); len(c) != 1 || !strings.Contains(c[0].Rows["ts1"], "by anna (socket)") {
		t.Errorf("a session is kept, and %+v is sent", c)
	}
	apply(c[0])

	st.Stuck = st.Leaving
	last = p.hub.Last()
	p.look(0)
	if c = changes(t, p, last); len(c) != 1 || !strings.Contains(c[0].Rows["ts1"], `class="s stuck"`) {
		t.Errorf("a session is stuck, and %+v is sent", c)
	}
	apply(c[0])

	fresh := newPage(t, state)
	fresh.look(0)
	for name, r := range fresh.farm.rows {
		if r.html != shown[name] && name != "ts1" { // whose times since when may differ by a second
			t.Errorf("%s is shown as\n%s\nand to newcomers as\n%s", name, shown[name], r.html)
		}
	}
}

// TestTextFromElsewhereIsText: names from hosts and clients reach no browser as
// anything else.
func TestTextFromElsewhereIsText(t *testing.T) {
	const evil = `<script>alert(1)</script>" onmouseover="x` + admintest.Hostile
	state := admintest.NewState()
	state.StatusFunc = func() admin.Status {
		st := admintest.FarmStatus()
		h := st.Snapshot.Hosts[len(st.Snapshot.Hosts)-2]
		r := *h.Report
		r.Sessions = []sessions.Session{{ID: 7, Account: sessions.Account{Domain: evil, User: evil}, State: sessions.StateActive, ClientName: evil, Program: evil}}
		r.Warnings, r.NoEvict = []string{evil}, evil
		h.Report, h.Problem = &r, evil
		st.Snapshot = sessions.NewSnapshot([]sessions.HostState{h})
		st.Waiting = []admin.Waiting{{Farm: "office", Identity: sessions.Identity{Said: evil}, Reason: evil}}
		st.Version = evil
		return st
	}
	p := newPage(t, state)
	p.Record(audit.Record{}) // nobody reads: it is not kept
	if len(p.pending) > 0 {
		t.Error("a record waits for nobody")
	}
	reader, err := p.hub.Read(0)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	r := audit.Record{Time: time.Now(), Event: audit.Event(evil), Identity: sessions.Identity{Said: evil}, Error: evil, By: evil}
	p.Record(r)
	p.look(0)
	all := fmt.Sprintf("%+v", changes(t, p, 0))
	for _, bad := range []string{"<script", `" onmouseover`, "\x1b", "\u202e"} {
		if strings.Contains(all, bad) {
			t.Errorf("%q reaches the page", bad)
		}
	}
	if !strings.Contains(all, "&lt;script&gt;") {
		t.Error("what was said is not shown at all")
	}
}

func TestPendingRecordsAreBounded(t *testing.T) {
	p := newPage(t, admintest.NewState())
	reader, err := p.hub.Read(0)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	for range maxPending + 7 {
		p.Record(audit.Record{Time: time.Now(), Event: audit.Left})
	}
	p.look(0)
	c := changes(t, p, 0)
	if len(c) != 1 || len(c[0].Decisions) != maxPending || c[0].Lost != 7 {
		t.Errorf("%d decisions are sent, and %d told as lost", len(c[0].Decisions), c[0].Lost)
	}
}

// TestEveryTemplateCanBeMade: render keeps quiet about a template that fails.
func TestEveryTemplateCanBeMade(t *testing.T) {
	p := newPage(t, admintest.NewState())
	st := admintest.FarmStatus()
	r := new(row)
	host := st.HostList().Hosts[3]
	list, err := st.SessionList(admin.Filter{Host: host.Name})
	if err != nil {
		t.Fatal(err)
	}
	many := host
	many.Limit = 100
	for name, v := range map[string]any{
		"summary": st.Overview(), "waiting": viewWaiting(st.WaitingList()), "host": r.view(&host, list, true),
		"sessions": viewSessions(list, true), "record": viewRecord(&audit.Record{Time: time.Now(), Event: audit.Decided}),
		"login.html": loginView{Error: "no"}, "index.html": indexView{Person: auth.Person{Name: "anna"}},
	} {
		if err := p.html.ExecuteTemplate(new(strings.Builder), name, v); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if text := p.render("host", r.view(&many, list, false)); !strings.Contains(text, "<svg") || !strings.Contains(text, `class="lazy"`) {
		t.Errorf("a host with 100 slots is\n%s", text)
	}
}
