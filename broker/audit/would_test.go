package audit

import (
	"fmt"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/rdpbroker/rdpbroker/broker/placement"
	"github.com/rdpbroker/rdpbroker/sessions"
)

var monday = time.Date(2026, 3, 2, 8, 0, 0, 0, time.UTC)

// shadow is a decision of shadow mode that would log off session id on host.
func shadow(minutes int, caller, host string, id int, away time.Duration) *Record {
	return &Record{
		Time: monday.Add(time.Duration(minutes) * time.Minute), Event: Decided, Farm: "office", Mode: "shadow",
		Identity: sessions.Identity{Accounts: []sessions.Account{{User: caller}}, Client: netip.MustParseAddr("10.0.0.1")},
		Decision: placement.Decision{
			Kind: placement.WaitForSlot,
			Would: &placement.Victim{
				Host: host, DisconnectedFor: away,
				Session: sessions.Session{ID: id, Account: sessions.Account{User: fmt.Sprintf("user%d", id)}, State: sessions.StateDisconnected},
			},
			Candidates: []placement.Candidate{
				{Host: host, As: "slot", Why: "full"},
				{Host: host, Session: 77, As: "victim", Why: "protected by svc-*"},
				{Host: host, Session: 78, As: "victim", Why: "disconnected for 3m only, less than 15m"},
				{Host: host, Session: 79, As: "victim", Why: "disconnected for 20m"},
				{Host: host, Session: id, As: "victim", Chosen: true, Why: "disconnected for 2h"},
			},
		},
	}
}

func TestWould(t *testing.T) {
	s := NewSummary(func(farm string) Ceilings {
		if farm != "office" {
			t.Errorf("it asks for farm %q", farm)
		}
		return Ceilings{PerHost: 2, PerClient: 3}
	})
	evict := shadow(0, "zoe", "ts9", 9, time.Hour)
	evict.Mode = "evict"
	refused := shadow(0, "zoe", "ts9", 9, time.Hour)
	refused.Event = Refused // the same caller, some time after its decision
	served := &Record{Time: monday, Event: Decided, Farm: "office", Mode: "shadow", Decision: placement.Decision{Kind: placement.Place}}
	full := &Record{Time: monday.Add(time.Minute), Event: Decided, Farm: "office", Mode: "shadow", Decision: placement.Decision{Kind: placement.WaitForSlot}}
	for _, r := range []*Record{
		evict, refused, served, full,
		shadow(2, "alice", "ts1", 1, 20*time.Minute),
		shadow(3, "alice", "ts1", 1, 21*time.Minute), // comes again
		shadow(4, "bob", "ts1", 2, 5*time.Hour),
		shadow(5, "carol", "ts1", 3, 25*time.Hour),  // the third on ts1 within the hour
		shadow(6, "dave", "ts2", 4, time.Hour),      // the third of this client
		shadow(7, "erin", "ts2", 5, 48*time.Hour),   // the fourth
		shadow(70, "frank", "ts1", 6, 30*time.Hour), // an hour later
	} {
		s.Add(r)
	}
	w := s.Would()
	want := Would{
		From: monday, To: monday.Add(70 * time.Minute), Decisions: 9, Full: 8, Wanted: 7, Done: 4,
		Hosts:   []Count{{"ts1", 3}, {"ts2", 1}},
		Users:   []Count{{"user1", 1}, {"user2", 1}, {"user4", 1}, {"user6", 1}},
		Older:   []Older{{15 * time.Minute, 6}, {time.Hour, 5}, {4 * time.Hour, 4}, {8 * time.Hour, 3}, {24 * time.Hour, 3}, {7 * 24 * time.Hour, 0}},
		Spared:  []Count{{"another one was staler", 7}, {"not disconnected for long enough", 7}, {"protected", 7}},
		Stopped: []Count{{"per_client_per_hour", 1}, {"per_host_per_hour", 1}},
	}
	if d := cmp.Diff(want, w, cmpopts.IgnoreFields(Would{}, "Logoffs")); d != "" {
		t.Error(d)
	}
	var got []string
	for _, l := range w.Logoffs {
		got = append(got, fmt.Sprintf("%s/%d for %s x%d %s", l.Host, l.Session, l.For, l.Times, l.Stopped))
	}
	if d := cmp.Diff([]string{
		"ts1/1 for alice x2 ", "ts1/2 for bob x1 ", "ts1/3 for carol x1 per_host_per_hour",
		"ts2/4 for dave x1 ", "ts2/5 for erin x1 per_client_per_hour", "ts1/6 for frank x1 ",
	}, got); d != "" {
		t.Error(d)
	}
}

// TestWouldMeetsEachCeiling: three would go, one ceiling allows two.
func TestWouldMeetsEachCeiling(t *testing.T) {
	for _, c := range []struct {
		ceilings Ceilings
		stopped  string
	}{
		{Ceilings{}, ""},
		{Ceilings{PerHost: 2}, "per_host_per_hour"},
		{Ceilings{PerClient: 2}, "per_client_per_hour"},
		{Ceilings{PerFarm: 2}, "per_farm_per_hour"},
		{Ceilings{All: 2}, "per_hour"},
	} {
		s := NewSummary(func(string) Ceilings { return c.ceilings })
		for id := range 3 {
			s.Add(shadow(id, "alice", "ts1", id+1, time.Hour))
		}
		w := s.Would()
		if got := w.Logoffs[2].Stopped; got != c.stopped || w.Logoffs[1].Stopped != "" {
			t.Errorf("%+v stops %q", c.ceilings, got)
		}
	}
}

func TestFilter(t *testing.T) {
	r := full()
	would := *shadow(0, "alice", "ts2", 7, time.Hour)
	order := Record{Time: monday, Event: KeepSet, By: "olga", Account: sessions.Account{Domain: "CONTOSO", User: "carol"}, Session: &sessions.Ref{Host: "ts3", ID: 4}}
	for _, c := range []struct {
		f    Filter
		want [3]bool
	}{
		{Filter{}, [3]bool{true, true, true}},
		{Filter{User: "ALICE"}, [3]bool{true, true, false}},
		{Filter{User: `contoso\alice`}, [3]bool{true, false, false}},
		{Filter{User: "bob"}, [3]bool{true, false, false}},
		{Filter{User: "user?"}, [3]bool{false, true, false}},
		{Filter{User: "car*"}, [3]bool{false, false, true}},
		{Filter{Host: "ts1"}, [3]bool{true, false, false}},
		{Filter{Host: "ts2"}, [3]bool{false, true, false}},
		{Filter{Host: "ts3"}, [3]bool{false, false, true}},
		{Filter{Farm: "office"}, [3]bool{true, true, false}},
		{Filter{Kind: "evicting"}, [3]bool{true, false, false}},
		{Filter{Kind: "decided"}, [3]bool{false, true, false}},
		{Filter{Kind: "wait"}, [3]bool{false, true, false}},
		{Filter{Kind: "make-room"}, [3]bool{false, false, false}}, // of decisions only
		{Filter{Evictions: true}, [3]bool{true, true, false}},
		{Filter{Since: monday}, [3]bool{false, true, true}},
		{Filter{Until: monday}, [3]bool{true, false, false}},
	} {
		if got := [3]bool{c.f.Match(&r), c.f.Match(&would), c.f.Match(&order)}; got != c.want {
			t.Errorf("%+v: %v, want %v", c.f, got, c.want)
		}
	}
	seen := map[string]bool{}
	for _, k := range Kinds() {
		if k == "" || k == "none" || seen[k] {
			t.Errorf("kind %q", k)
		}
		seen[k] = true
	}
}

// TestEveryEventIsInTheList: a filter and a webhook take what is there.
func TestEveryEventIsInTheList(t *testing.T) {
	source, err := os.ReadFile("record.go")
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`(?m)^\t\w+ +Event = "([a-z-]+)"$`).FindAllStringSubmatch(string(source), -1)
	if len(found) < 10 {
		t.Fatalf("only %d events were found", len(found))
	}
	for _, f := range found {
		if !slices.Contains(Events(), Event(f[1])) {
			t.Errorf("%s is not in Events", f[1])
		}
	}
}

// What is done ahead of need is summed up too, but is no decision for a caller.
func TestWouldOfHeadroomAndIdleUsers(t *testing.T) {
	at := time.Date(2026, 3, 2, 9, 0, 0, 0, time.UTC)
	v := placement.Victim{Host: "ts1", Session: sessions.Session{ID: 3, Account: sessions.Account{User: "bob"}}, DisconnectedFor: time.Hour}
	s := NewSummary(func(string) Ceilings { return Ceilings{PerClient: 1} })
	other := v
	other.Session.ID = 4
	for _, d := range []placement.Decision{
		{Kind: placement.KeepFree, Would: &v}, {Kind: placement.KeepFree, Would: &other},
		{Kind: placement.Disconnect, Idle: &placement.Idle{Host: "ts1"}},
	} {
		s.Add(&Record{Time: at, Event: Decided, Farm: "office", Mode: "shadow", Decision: d})
	}
	w := s.Would()
	if w.Decisions != 0 || w.Full != 0 || w.Wanted != 0 || w.Idle != 1 || w.Done != 2 || len(w.Logoffs) != 2 || w.Logoffs[0].For != "headroom" {
		t.Errorf("%+v", w)
	}
}
