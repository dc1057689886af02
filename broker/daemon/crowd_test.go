package daemon_test

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rdpbroker/rdpbroker/broker/audit"
	"github.com/rdpbroker/rdpbroker/broker/placement"
	"github.com/rdpbroker/rdpbroker/sessions"
	"github.com/rdpbroker/rdpbroker/sessions/simhost"
)

// crowd is 64 known users who connect at the same moment to two hosts with three
// free slots, and three sessions that may go.
type crowd struct {
	*stack
	hosts map[string]*windows
	// The users who got a host log on there at once, as their clients would.
	mu   sync.Mutex
	in   map[string]guest
	out  []string // whose connection was closed without an answer
	done sync.WaitGroup
}

// guest is somebody who has a session.
type guest struct {
	conn    *caller
	session *simhost.Attachment
}

// leave logs the guest off, which ends the connection too.
func (g guest) leave() {
	g.session.Logoff()
	g.conn.Close()
}

const crowdSize = 64

// gather lets the crowd in. mode is that of winrm, rules are more keys of eviction.
func gather(t *testing.T, mode, wait, rules string) *crowd {
	t.Helper()
	ts1 := startWindows(t, "ts1", full(4), away("a1", time.Hour), away("a2", 2*time.Hour))
	ts2 := startWindows(t, "ts2", full(5), away("b1", 3*time.Hour),
		away("fresh", time.Minute), away("svc-backup", 9*time.Hour), working("boss"))
	o := newOffice(t, ts1, ts2)
	o.mode, o.wait = mode, wait
	var names []string
	for i := range crowdSize {
		names = append(names, fmt.Sprintf("user%02d", i))
	}
	o.top = fmt.Sprintf("eviction: {mode: evict, proof: known-user, min_disconnected: 5m, protect: ['svc-*'], %s}\nidentity: {users: [%s]}\n", rules, strings.Join(names, ", "))
	c := &crowd{stack: o.open(t), hosts: map[string]*windows{"ts1": ts1, "ts2": ts2}, in: map[string]guest{}}

	start := make(chan struct{})
	for i, name := range names {
		conn := c.dial(t, fmt.Sprintf("127.3.0.%d", i+1))
		c.done.Go(func() {
			<-start
			c.arrive(t, conn, name)
		})
	}
	close(start)
	return c
}

// arrive is one user's way from the first packet to the session, or to the end.
func (c *crowd) arrive(t *testing.T, conn *caller, name string) {
	if _, err := conn.Write(named(name)); err != nil {
		t.Error(err)
		return
	}
	err := conn.confirmed()
	if errors.Is(err, io.EOF) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.out = append(c.out, name)
		return
	}
	if err != nil {
		t.Errorf("%s: %v", name, err)
		return
	}
	host := c.hosts[c.sentTo(name)]
	if host == nil {
		t.Errorf("%s got an answer without a decision", name)
		return
	}
	// The host itself counts: one too many, and it says so.
	a, err := host.Model().Logon(sessions.Account{Domain: "CONTOSO", User: name}, "PC", localhost, "")
	if err != nil {
		t.Errorf("%s on %s: %v", name, host.name, err)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.in[name] = guest{conn, a}
}

// sentTo is the host that the audit says a user was sent to.
func (c *crowd) sentTo(name string) (host string) {
	for _, r := range c.recorded(audit.Decided) {
		if r.Identity.Said == name && r.Decision.Host != "" {
			host = r.Decision.Host
		}
	}
	return host
}

// inside are the users who have a session.
func (c *crowd) inside() (names []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for name := range c.in {
		names = append(names, name)
	}
	return names
}

// settled waits until n users are in, all others wait, and the broker's picture
// is the truth; and then for the broker to look at its queue once or twice more,
// which may change nothing.
func (c *crowd) settled(t *testing.T, n, waiting int) {
	t.Helper()
	quiet := func() bool { return len(c.inside()) == n && len(c.Status().Waiting) == waiting }
	c.until(t, fmt.Sprintf("%d are in and %d wait", n, waiting), quiet)
	c.until(t, "every session is seen", func() bool {
		return !slices.ContainsFunc(c.Snapshot().Hosts, func(h sessions.HostState) bool {
			return !slices.Equal(users(h.Report.Sessions), users(c.hosts[h.Host.Name].Model().Sessions()))
		})
	})
	time.Sleep(1500 * time.Millisecond)
	if !quiet() {
		t.Fatalf("%d are in and %d wait, want %d and %d", len(c.inside()), len(c.Status().Waiting), n, waiting)
	}
}

// users are those who have a session, in order.
func users(list []sessions.Session) (names []string) {
	for _, x := range list {
		if x.HasUser() {
			names = append(names, x.Account.User)
		}
	}
	slices.Sort(names)
	return names
}

// victims checks who was logged off: each of these, once.
func (c *crowd) victims(t *testing.T, want ...string) {
	t.Helper()
	var got []string
	for _, r := range c.recorded(audit.Evicting) {
		got = append(got, r.Decision.Victim.Session.Account.User)
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("victims: %q, want %q", got, want)
	}
	if gone := c.recorded(audit.Evicted); len(gone) != len(want) {
		t.Errorf("%d are gone", len(gone))
	}
	for name, h := range c.hosts {
		for _, user := range []string{"fresh", "svc-backup", "boss"} {
			if name == "ts2" && !h.has(user) {
				t.Errorf("%s is gone", user)
			}
		}
		if n := h.happened(simhost.EventRefused); n > 0 {
			t.Errorf("%s had to refuse %d users", name, n)
		}
		if o := h.Model().Overview(); o.Used != o.Options.Slots {
			t.Errorf("%s has %d of %d slots in use", name, o.Used, o.Options.Slots)
		}
	}
}

// TestACrowd: exactly as many get in as there are slots, free or to be freed; the
// others wait, and get what becomes free in the order in which they came.
func TestACrowd(t *testing.T) {
	notShort(t)
	t.Parallel()
	c := gather(t, "auto", "5m", "soft_limit: 60s")
	c.settled(t, 6, crowdSize-6)
	c.victims(t, "a1", "a2", "b1")
	kinds := map[placement.Kind]int{}
	for _, r := range c.recorded(audit.Decided) {
		kinds[r.Decision.Kind]++
	}
	if kinds[placement.Place] != 3 || kinds[placement.MakeRoom] != 3 {
		t.Errorf("decisions: %v", kinds)
	}

	queue := c.Status().Waiting
	leaving := c.inside()
	for i := range 4 {
		c.mu.Lock()
		g := c.in[leaving[i]]
		delete(c.in, leaving[i])
		c.mu.Unlock()
		g.leave()
		next := queue[i].Identity.Said
		c.until(t, next+" is in", func() bool { return slices.Contains(c.inside(), next) })
	}
	c.settled(t, 6, crowdSize-10)
	c.stop()
	c.kill()
	c.done.Wait()
	if out := len(c.out); out != crowdSize-10 {
		t.Errorf("%d were turned away at the end", out)
	}
}

// TestACrowdThatWaitsInVain: within the ceilings, and whoever gets nothing is
// turned away with a reason for the operator.
func TestACrowdThatWaitsInVain(t *testing.T) {
	notShort(t)
	t.Parallel()
	c := gather(t, "text", "2s", "per_host_per_hour: 1")
	c.done.Wait()
	if n := len(c.inside()); n != 5 || len(c.out) != crowdSize-5 {
		t.Errorf("%d are in, and %d were turned away", n, len(c.out))
	}
	c.victims(t, "a2", "b1") // the stalest of each host
	refused := map[string]int{}
	for _, r := range c.recorded(audit.Refused) {
		refused[r.Identity.Said]++
		if !strings.Contains(r.Decision.Reason, "no slot is free") || r.Took < 2*time.Second {
			t.Errorf("after %s: %s", r.Took, r.Decision.Reason)
		}
		var why []string
		for _, x := range r.Decision.Candidates {
			why = append(why, fmt.Sprintf("%s/%d %s: %s", x.Host, x.Session, x.As, x.Why))
		}
		for _, want := range []string{"ts1/0 slot: 4 of 4 slots in use", "ts2/0 slot: 5 of 5 slots in use", "1 evictions there within the hour"} {
			if !strings.Contains(strings.Join(why, "\n"), want) {
				t.Errorf("the reasons lack %q:\n%s", want, strings.Join(why, "\n"))
			}
		}
		if t.Failed() {
			return
		}
	}
	for _, name := range c.out {
		if refused[name] != 1 {
			t.Errorf("the audit has %d refusals of %s", refused[name], name)
		}
	}
	for metric, want := range map[string]float64{
		`rdpbroker_refused_total{kind="refused"}`:                                      crowdSize - 5,
		`rdpbroker_decisions_total{farm="office",kind="place",reason="free-slot"}`:     3,
		`rdpbroker_decisions_total{farm="office",kind="make-room",reason="victim"}`:    2,
		`rdpbroker_decisions_total{farm="office",kind="wait",reason="host-ceiling"}`:   crowdSize - 5,
		`rdpbroker_decisions_total{farm="office",kind="refuse",reason="host-ceiling"}`: crowdSize - 5,
		`rdpbroker_evictions_total{farm="office",outcome="evicted"}`:                   2,
		`rdpbroker_waiting{farm="office"}`:                                             0,
		`rdpbroker_slots{farm="office",host="ts1",state="free"}`:                       0,
		`rdpbroker_confirmed_total{farm="office"}`:                                     5,
		`rdpbroker_dial_failures_total{host="ts1"}`:                                    0,
		`rdpbroker_evictions_total{farm="office",outcome="stuck"}`:                     0,
		`rdpbroker_refused_total{kind="too-many-pending-from-client"}`:                 0,
		`rdpbroker_connections_accepted_total`:                                         crowdSize,
		`rdpbroker_config_last_reload_successful`:                                      1,
		`rdpbroker_admission_seconds_count{farm="office"}`:                             5,
		`rdpbroker_audit_dropped_total{why="slow"}`:                                    0,
		`rdpbroker_slots{farm="office",host="ts2",state="disconnected"}`:               2,
		`rdpbroker_slots_limit{farm="office",host="ts2"}`:                              5,
		`rdpbroker_sessions{farm="office",host="ts2",state="active"}`:                  3,
		`rdpbroker_sessions{farm="office",host="ts1",state="active"}`:                  3,
		`rdpbroker_eviction_seconds_count{farm="office"}`:                              2,
		`rdpbroker_wait_seconds_count{farm="office"}`:                                  crowdSize,
		`rdpbroker_evictions_total{farm="office",outcome="refused"}`:                   0,
		`rdpbroker_evictions_total{farm="office",outcome="failed"}`:                    0,
		`rdpbroker_sessions{farm="office",host="ts1",state="disconnected"}`:            1,
	} {
		c.untilMetric(t, metric, want)
	}
}

// BenchmarkArrivalInACrowd is one more caller who finds every slot taken, and
// leaves again, while others wait already. The farm has ten hosts with twenty
// sessions each, all of which are looked at for a victim.
func BenchmarkArrivalInACrowd(b *testing.B) {
	var hosts []*windows
	for h := range 10 {
		w := startWindows(b, fmt.Sprintf("ts%d", h), full(20))
		for i := range 20 {
			if err := w.Model().Seed(away(fmt.Sprintf("user%d-%d", h, i), time.Minute)); err != nil {
				b.Fatal(err)
			}
		}
		hosts = append(hosts, w)
	}
	for _, others := range []int{0, 100, 300} {
		b.Run(fmt.Sprintf("%d wait", others), func(b *testing.B) {
			o := newOffice(b, hosts...)
			o.wait = "10m"
			o.top += "identity: {trusted_clients: [127.0.0.0/8]}\nlimits: {per_client: 1000, pending_per_client: 1000}\n"
			s := o.open(b)
			for i := range others {
				s.call(b, "", fmt.Sprintf("waiting%d", i))
			}
			s.waiting(b, others)
			for b.Loop() {
				c := s.call(b, "", "newcomer")
				s.waiting(b, others+1)
				c.Close()
				s.waiting(b, others)
			}
		})
	}
}
