package metrics

import (
	"flag"
	"fmt"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/rdpbroker/rdpbroker/broker/audit"
	"github.com/rdpbroker/rdpbroker/broker/placement"
	"github.com/rdpbroker/rdpbroker/sessions"
)

var update = flag.Bool("update", false, "write the golden file anew")

var now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// scrape is what Prometheus reads from reg.
func scrape(t *testing.T, reg *prometheus.Registry) string {
	t.Helper()
	rec := httptest.NewRecorder()
	h := promhttp.HandlerFor(reg, promhttp.HandlerOpts{ErrorHandling: promhttp.HTTPErrorOnError})
	h.ServeHTTP(rec, httptest.NewRequest("GET", "/metrics", nil))
	if rec.Code != 200 {
		t.Fatalf("a scrape answers %d: %s", rec.Code, rec.Body)
	}
	return rec.Body.String()
}

// expect fails t for each line that a scrape does not hold.
func expect(t *testing.T, reg *prometheus.Registry, lines ...string) {
	t.Helper()
	text := scrape(t, reg)
	for _, l := range lines {
		if !strings.Contains("\n"+text, "\n"+l+"\n") {
			name, _, _ := strings.Cut(l, "{")
			t.Errorf("no line %s among\n%s", l, strings.Join(regexp.MustCompile(`(?m)^`+name+`.*$`).FindAllString(text, -1), "\n"))
		}
	}
}

// TestEveryMetric holds names, labels, types and help of all metrics against
// testdata/metrics.txt: dashboards and alerts depend on them.
func TestEveryMetric(t *testing.T) {
	reg := prometheus.NewRegistry()
	m := New(reg)
	m.Prepare([]string{"office"}, []string{"ts1"}, []string{"tls"})
	m.Watch(func() State { return farmState() })
	m.AuditLosses(func() (uint64, uint64) { return 1, 2 })
	m.Accepted()
	m.Refused("tls")
	m.Reloaded(true, now)
	m.Version("1.2.3")

	got := regexp.MustCompile(`(?m)^rdpbroker_\w+_bucket.*\n`).ReplaceAllString(scrape(t, reg), "")
	const golden = "testdata/metrics.txt"
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	for _, l := range strings.Split(strings.TrimSpace(got), "\n") {
		if !strings.HasPrefix(strings.TrimPrefix(strings.TrimPrefix(l, "# HELP "), "# TYPE "), "rdpbroker_") {
			t.Errorf("not one of ours: %s", l)
		}
	}
}

func farmState() State {
	session := func(id int, user string, s sessions.State) sessions.Session {
		return sessions.Session{ID: id, Account: sessions.Account{User: user}, State: s}
	}
	gone := func(id int, user string, ago time.Duration) sessions.Session {
		s := session(id, user, sessions.StateDisconnected)
		s.DisconnectedAt = now.Add(-ago)
		return s
	}
	return State{
		Now: now,
		Snapshot: sessions.NewSnapshot([]sessions.HostState{
			{
				Host:     sessions.Host{Name: "ts1", Farm: "office", Slots: 5},
				FreshFor: time.Minute,
				Report: &sessions.Report{ReadAt: now.Add(-10 * time.Second), Sessions: []sessions.Session{
					{ID: 0, Name: "services", State: sessions.StateDisconnected},
					session(1, "alice", sessions.StateActive),
					session(2, "bob", sessions.StateDisconnected),
					session(3, "", sessions.StateConnected),
					{ID: 65536, Name: "rdp-tcp", State: sessions.StateListen},
				}},
			},
			{
				Host:     sessions.Host{Name: "ts2", Farm: "office", Slots: 1, CountDisconnected: sessions.No, Draining: true},
				FreshFor: time.Minute,
				Report: &sessions.Report{ReadAt: now.Add(-2 * time.Minute), Sessions: []sessions.Session{
					session(1, "carol", sessions.StateActive), session(2, "dave", sessions.StateDisconnected), session(3, "erin", sessions.StateActive),
				}},
			},
			{Host: sessions.Host{Name: "ts3", Farm: "office"}, Problem: "no answer"},
			{
				Host: sessions.Host{Name: "ts4", Farm: "office"}, Problem: "no answer any more", FreshFor: time.Minute,
				Report: &sessions.Report{ReadAt: now.Add(-10 * time.Minute), Limit: 7},
			},
			{
				Host:     sessions.Host{Name: "ts5", Farm: "office", Slots: 4, CountDisconnected: sessions.Yes, Draining: true},
				FreshFor: time.Minute,
				Report: &sessions.Report{ReadAt: now, HostTime: now, Source: "agent", Sessions: []sessions.Session{
					gone(1, "frank", 5*time.Hour), gone(2, "grace", time.Hour),
				}},
			},
		}),
		Stuck: map[sessions.Ref]bool{sessions.RefOf("ts5", gone(1, "frank", 5*time.Hour)): true},
		Modes: map[string]placement.Mode{"office": placement.Shadow},
		Claims: placement.NewClaims([]placement.Claim{
			{Host: "ts1"},
			{Host: "ts1", Confirmed: true}, // its session holds the slot
			{Host: "ts1", Own: &sessions.Ref{Host: "ts1", ID: 2}},    // and so does this one
			{Host: "ts1", Victim: &sessions.Ref{Host: "ts1", ID: 2}}, // the victim's slot is counted with it
		}...),
		Waiting: map[string]int{"office": 3, "linux": 0},
	}
}

func TestState(t *testing.T) {
	reg := prometheus.NewRegistry()
	state := farmState()
	New(reg).Watch(func() State { return state })
	expect(t, reg,
		`rdpbroker_waiting{farm="office"} 3`,
		`rdpbroker_waiting{farm="linux"} 0`,
		`rdpbroker_sessions{farm="office",host="ts1",state="active"} 1`,
		`rdpbroker_sessions{farm="office",host="ts1",state="disconnected"} 1`,
		`rdpbroker_sessions{farm="office",host="ts1",state="other"} 0`,
		`rdpbroker_slots{farm="office",host="ts1",state="active"} 1`,
		`rdpbroker_slots{farm="office",host="ts1",state="disconnected"} 1`,
		`rdpbroker_slots{farm="office",host="ts1",state="other"} 1`,
		`rdpbroker_slots{farm="office",host="ts1",state="reserved"} 1`,
		`rdpbroker_slots{farm="office",host="ts1",state="free"} 1`,
		`rdpbroker_slots_limit{farm="office",host="ts1"} 5`,
		`rdpbroker_host_up{farm="office",host="ts1"} 1`,
		`rdpbroker_host_draining{farm="office",host="ts1"} 0`,
		`rdpbroker_report_age_seconds{farm="office",host="ts1"} 10`,
		// Disconnected sessions hold no slots there, and it was read too long ago.
		`rdpbroker_sessions{farm="office",host="ts2",state="disconnected"} 1`,
		`rdpbroker_slots{farm="office",host="ts2",state="disconnected"} 0`,
		`rdpbroker_slots{farm="office",host="ts2",state="free"} 0`,
		`rdpbroker_slots{farm="office",host="ts2",state="draining"} 0`, // it was read too long ago
		`rdpbroker_slots{farm="office",host="ts5",state="draining"} 2`,
		`rdpbroker_slots{farm="office",host="ts5",state="stuck"} 1`,
		`rdpbroker_slots{farm="office",host="ts5",state="disconnected"} 1`,
		`rdpbroker_slots{farm="office",host="ts5",state="free"} 0`,
		`rdpbroker_sessions{farm="office",host="ts5",state="stuck"} 1`,
		`rdpbroker_host_source{farm="office",host="ts5",source="agent"} 1`,
		`rdpbroker_disconnected_oldest_seconds{farm="office",host="ts5"} 18000`,
		`rdpbroker_disconnected_oldest_seconds{farm="office",host="ts1"} 0`, // it is not known
		`rdpbroker_disconnected_sessions{at_least="0s",farm="office"} 4`,
		`rdpbroker_disconnected_sessions{at_least="1h",farm="office"} 2`,
		`rdpbroker_disconnected_sessions{at_least="4h",farm="office"} 1`,
		`rdpbroker_disconnected_sessions{at_least="8h",farm="office"} 0`,
		`rdpbroker_eviction_mode{farm="office",mode="shadow"} 1`,
		`rdpbroker_eviction_mode{farm="office",mode="evict"} 0`,
		`rdpbroker_host_up{farm="office",host="ts2"} 0`,
		`rdpbroker_host_draining{farm="office",host="ts2"} 1`,
		`rdpbroker_host_up{farm="office",host="ts3"} 0`,
		`rdpbroker_host_up{farm="office",host="ts4"} 0`,
		`rdpbroker_slots_limit{farm="office",host="ts4"} 7`,
		`rdpbroker_slots{farm="office",host="ts4",state="free"} 0`,
		`rdpbroker_report_age_seconds{farm="office",host="ts4"} 600`,
	)
	if text := scrape(t, reg); strings.Contains(text, `rdpbroker_slots{farm="office",host="ts3"`) || strings.Contains(text, `age_seconds{farm="office",host="ts3"`) {
		t.Error("there are numbers of a host that was never read")
	}

	state = State{}
	if text := scrape(t, reg); strings.Contains(text, "ts1") {
		t.Error("a host that is gone still has metrics")
	}
}

func TestRecord(t *testing.T) {
	reg := prometheus.NewRegistry()
	m := New(reg)
	m.Prepare([]string{"office"}, nil, nil)
	record := func(e audit.Event, k placement.Kind, took time.Duration) audit.Record {
		return audit.Record{Event: e, Farm: "office", Took: took, Decision: placement.Decision{Kind: k, Class: k.Classes()[0]}}
	}
	m.Record(record(audit.Decided, placement.Place, 0))
	m.Record(record(audit.Decided, placement.WaitForSlot, 0))
	m.Record(record(audit.Decided, placement.MakeRoom, 4*time.Second))
	m.Record(record(audit.Evicting, placement.MakeRoom, 0))
	m.Record(record(audit.Evicted, placement.MakeRoom, 3*time.Second))
	m.Record(record(audit.EvictionRefused, placement.MakeRoom, time.Second))
	m.Record(record(audit.EvictionStuck, placement.MakeRoom, 300*time.Second))
	m.Record(record(audit.EvictionFailed, placement.MakeRoom, time.Second))
	m.Record(record(audit.Refused, placement.WaitForSlot, 30*time.Second))
	m.Record(record(audit.Left, placement.WaitForSlot, 7*time.Second))
	m.Record(record(audit.Confirmed, placement.Place, 20*time.Second))
	m.Record(record(audit.SecondSession, placement.Place, 20*time.Second))
	m.Token("office", "expired")
	shadow := record(audit.Decided, placement.WaitForSlot, 0)
	shadow.Decision.Would, shadow.Decision.Class = &placement.Victim{}, placement.ClassShadow
	m.Record(shadow)
	m.Record(audit.Record{Event: "something new", Farm: "office"})
	elsewhere := record(audit.Decided, placement.Place, 0)
	elsewhere.Farm = "gone"
	m.Record(elsewhere)
	expect(t, reg,
		`rdpbroker_decisions_total{farm="office",kind="place",reason="free-slot"} 1`,
		`rdpbroker_decisions_total{farm="office",kind="wait",reason="eviction-off"} 1`,
		`rdpbroker_decisions_total{farm="office",kind="wait",reason="shadow"} 1`,
		`rdpbroker_decisions_total{farm="office",kind="wait",reason="internal"} 0`,
		`rdpbroker_decisions_total{farm="office",kind="make-room",reason="victim"} 1`,
		`rdpbroker_decisions_total{farm="office",kind="refuse",reason="eviction-off"} 1`,
		`rdpbroker_evictions_total{farm="office",outcome="evicted"} 1`,
		`rdpbroker_evictions_total{farm="office",outcome="refused"} 1`,
		`rdpbroker_evictions_total{farm="office",outcome="stuck"} 1`,
		`rdpbroker_evictions_total{farm="office",outcome="failed"} 1`,
		`rdpbroker_evictions_total{farm="office",outcome="shadow"} 1`,
		`rdpbroker_eviction_seconds_sum{farm="office"} 3`,
		`rdpbroker_eviction_seconds_count{farm="office"} 1`,
		`rdpbroker_wait_seconds_count{farm="office"} 4`,
		`rdpbroker_wait_seconds_sum{farm="office"} 41`,
		`rdpbroker_left_total{farm="office"} 1`,
		`rdpbroker_confirmed_total{farm="office"} 1`,
		`rdpbroker_second_sessions_total{farm="office"} 1`,
		`rdpbroker_tokens_total{farm="office",verdict="expired"} 1`,
	)
}

func TestProxy(t *testing.T) {
	reg := prometheus.NewRegistry()
	m := New(reg)
	m.Prepare([]string{"office"}, []string{"ts1"}, nil)
	for range 3 {
		m.Accepted()
	}
	m.Closed()
	m.RelayBegan("ts1")
	m.RelayBegan("ts1")
	m.RelayEnded("ts1", 10, 20)
	m.RelayEnded("gone", 1, -1)
	m.DialFailed("ts1")
	m.Admitted("office", 3*time.Millisecond)
	expect(t, reg,
		`rdpbroker_connections_accepted_total 3`,
		`rdpbroker_connections_open 2`,
		`rdpbroker_relay_bytes_total{direction="to_host"} 11`,
		`rdpbroker_relay_bytes_total{direction="to_client"} 20`,
		`rdpbroker_dial_failures_total{host="ts1"} 1`,
		`rdpbroker_relays_open{host="ts1"} 1`,
		`rdpbroker_admission_seconds_count{farm="office"} 1`,
	)
}

func TestKindsAreBounded(t *testing.T) {
	reg := prometheus.NewRegistry()
	m := New(reg)
	m.Refused("tls")
	for i := range 1000 {
		m.Refused(fmt.Sprintf("kind-%d", i))
	}
	for _, bad := range []string{"", "a\nb", "UPPER", "a b", strings.Repeat("x", 33), "ü"} {
		m.Refused(bad)
	}
	m.Refused("tls")
	expect(t, reg,
		`rdpbroker_refused_total{kind="tls"} 2`,
		fmt.Sprintf(`rdpbroker_refused_total{kind="other"} %d`, 1000-(maxKinds-1)+6),
	)
	if n := strings.Count(scrape(t, reg), "rdpbroker_refused_total{"); n != maxKinds+1 {
		t.Errorf("there are %d kinds", n)
	}
}

func TestReloads(t *testing.T) {
	reg := prometheus.NewRegistry()
	m := New(reg)
	m.Reloaded(true, time.Unix(1000, 0))
	m.Reloaded(false, time.Unix(2000, 0))
	expect(t, reg,
		`rdpbroker_config_last_reload_successful 0`,
		`rdpbroker_config_last_reload_success_timestamp_seconds 1000`)
	m.Reloaded(true, time.Unix(3000, 0))
	expect(t, reg,
		`rdpbroker_config_last_reload_successful 1`,
		`rdpbroker_config_last_reload_success_timestamp_seconds 3000`)
	m.Version("1")
	m.Version("2")
	expect(t, reg, `rdpbroker_build_info{version="2"} 1`)
	if strings.Contains(scrape(t, reg), `version="1"`) {
		t.Error("two versions run")
	}
}

func TestFromEverywhereAtOnce(t *testing.T) {
	reg := prometheus.NewRegistry()
	m := New(reg)
	m.Watch(farmState)
	m.Prepare([]string{"office"}, []string{"ts1"}, []string{"tls"})
	var wg sync.WaitGroup
	wg.Go(func() {
		for range 50 { // reloads
			m.Prepare([]string{"office"}, []string{"ts1"}, []string{"tls"})
		}
	})
	for i := range 8 {
		wg.Go(func() {
			for j := range 200 {
				m.Accepted()
				m.Refused(fmt.Sprint(i, "-", j))
				m.Record(audit.Record{Event: audit.Decided, Farm: "office", Decision: placement.Decision{Kind: placement.Place}})
				m.Closed()
			}
		})
	}
	wg.Go(func() {
		for range 20 {
			scrape(t, reg)
		}
	})
	wg.Wait()
	expect(t, reg, `rdpbroker_connections_accepted_total 1600`, `rdpbroker_connections_open 0`)
}

func TestTwiceOnOneRegistryPanics(t *testing.T) {
	reg := prometheus.NewRegistry()
	New(reg)
	defer func() {
		if recover() == nil {
			t.Error("the same metrics were registered twice")
		}
	}()
	New(reg)
}

// TestReloadForgets: farms and hosts that are gone leave no metrics behind, and
// those that stay go on counting.
func TestReloadForgets(t *testing.T) {
	reg := prometheus.NewRegistry()
	m := New(reg)
	m.Prepare([]string{"office", "linux"}, []string{"ts1", "lx1"}, nil)
	m.Token("office", "valid")
	m.Token("office", "made up")
	m.DialFailed("ts1")
	m.Prepare([]string{"office"}, []string{"ts1"}, nil)
	expect(t, reg, `rdpbroker_tokens_total{farm="office",verdict="valid"} 1`, `rdpbroker_dial_failures_total{host="ts1"} 1`)
	if text := scrape(t, reg); strings.Contains(text, `"linux"`) || strings.Contains(text, `"lx1"`) || strings.Contains(text, "made up") {
		t.Errorf("what is gone is still there:\n%s", text)
	}
}

// BenchmarkRecord counts one decision and the bytes of one connection from many
// goroutines at once: nothing may be looked up, allocated, or locked.
func BenchmarkRecord(b *testing.B) {
	m := New(prometheus.NewRegistry())
	m.Prepare([]string{"office"}, []string{"ts1"}, []string{"tls"})
	r := audit.Record{Event: audit.Decided, Farm: "office", Decision: placement.Decision{Kind: placement.Place, Class: placement.ClassFreeSlot}}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			m.Accepted()
			m.Record(r)
			m.Admitted("office", time.Millisecond)
			m.RelayBegan("ts1")
			m.RelayEnded("ts1", 1000, 2000)
			m.Closed()
		}
	})
}

// BenchmarkRefused counts what a flood of strangers is refused for.
func BenchmarkRefused(b *testing.B) {
	m := New(prometheus.NewRegistry())
	m.Prepare(nil, nil, []string{"tls"})
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			m.Accepted()
			m.Refused("tls")
			m.Closed()
		}
	})
}

// TestCountingAllocatesNothing, as it is done for every connection.
func TestCountingAllocatesNothing(t *testing.T) {
	m := New(prometheus.NewRegistry())
	m.Prepare([]string{"office"}, []string{"ts1"}, []string{"tls"})
	r := audit.Record{Event: audit.Decided, Farm: "office", Decision: placement.Decision{Kind: placement.Place, Class: placement.ClassFreeSlot}}
	if n := testing.AllocsPerRun(100, func() {
		m.Accepted()
		m.Record(r)
		m.Admitted("office", time.Millisecond)
		m.RelayBegan("ts1")
		m.RelayEnded("ts1", 1, 2)
		m.Refused("tls")
		m.DialFailed("ts1")
		m.Closed()
	}); n > 0 {
		t.Errorf("%v allocations for one connection", n)
	}
}
