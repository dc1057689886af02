package metrics

import (
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rdpbroker/rdpbroker/broker/placement"
	"github.com/rdpbroker/rdpbroker/sessions"
)

// State is the farm at the moment of a scrape.
type State struct {
	// Now is the broker's clock.
	Now      time.Time
	Snapshot *sessions.Snapshot
	// Claims are the live reservations of all farms.
	Claims *placement.Claims
	// Waiting are, by farm, the callers without a slot. A farm where nobody waits
	// should be there with 0.
	Waiting map[string]int
	// Stuck are the sessions that were told to log off and are still there.
	Stuck map[sessions.Ref]bool
	// Modes are the eviction modes in force, by farm.
	Modes map[string]placement.Mode
}

// Watch has get called at every scrape for the metrics that tell how things
// stand. It may be called once.
func (m *Metrics) Watch(get func() State) {
	m.reg.MustRegister(newStateCollector(get))
}

// AuditLosses has get called at every scrape for the audit records that were
// lost: dropped because the disk was too slow, or failed to be written. It may
// be called once.
func (m *Metrics) AuditLosses(get func() (dropped, failed uint64)) {
	m.reg.MustRegister(auditCollector{
		get:  get,
		desc: prometheus.NewDesc(namespace+"_audit_dropped_total", "Audit records that were lost: slow, because the file takes them too slowly, or error.", []string{"why"}, nil),
	})
}

type auditCollector struct {
	get  func() (dropped, failed uint64)
	desc *prometheus.Desc
}

func (c auditCollector) Describe(ch chan<- *prometheus.Desc) { ch <- c.desc }

func (c auditCollector) Collect(ch chan<- prometheus.Metric) {
	dropped, failed := c.get()
	ch <- prometheus.MustNewConstMetric(c.desc, prometheus.CounterValue, float64(dropped), "slow")
	ch <- prometheus.MustNewConstMetric(c.desc, prometheus.CounterValue, float64(failed), "error")
}

// stateCollector makes metrics of a State when it is asked, so that hosts and
// farms that are gone from the configuration are gone from the answer too.
type stateCollector struct {
	get func() State

	waiting, mode, sessions, slots, limit, up, age, draining, source, away, oldest *prometheus.Desc
}

func newStateCollector(get func() State) *stateCollector {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(namespace+"_"+name, help, labels, nil)
	}
	return &stateCollector{
		get:      get,
		waiting:  desc("waiting", "Callers that wait for a slot now.", "farm"),
		sessions: desc("sessions", "Sessions of users, whether they hold a slot or not, by state: active, disconnected, stuck, other.", "farm", "host", "state"),
		slots:    desc("slots", "Slots, by what they are taken for: active, disconnected and other sessions, stuck ones (told to log off, and still there), reserved; or free, where a user could be placed; or draining, free where nobody is placed.", "farm", "host", "state"),
		limit:    desc("slots_limit", "Slots that a host has: the configured number, or what it reports.", "farm", "host"),
		up:       desc("host_up", "1 if a host could be read lately, else 0.", "farm", "host"),
		age:      desc("report_age_seconds", "Age of the last reading of a host; absent before the first one.", "farm", "host"),
		draining: desc("host_draining", "1 if a host takes no new users, else 0.", "farm", "host"),
		source:   desc("host_source", "1 for the way in which a host was last read, 0 for the others: agent, quser, rpc, xrdp, other.", "farm", "host", "source"),
		away:     desc("disconnected_sessions", "Disconnected sessions of users that have been so for at least this long.", "farm", "at_least"),
		oldest:   desc("disconnected_oldest_seconds", "For how long the stalest disconnected session on a host has been so; 0 if there is none.", "farm", "host"),
		mode:     desc("eviction_mode", "1 for the eviction mode in force, 0 for the others.", "farm", "mode"),
	}
}

func (c *stateCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.waiting, c.mode, c.sessions, c.slots, c.limit, c.up, c.age, c.draining, c.source, c.away, c.oldest} {
		ch <- d
	}
}

func (c *stateCollector) Collect(ch chan<- prometheus.Metric) {
	s := c.get()
	for farm, n := range s.Waiting {
		ch <- prometheus.MustNewConstMetric(c.waiting, prometheus.GaugeValue, float64(n), farm)
	}
	for farm, mode := range s.Modes {
		for _, m := range []placement.Mode{placement.Off, placement.Shadow, placement.Evict} {
			ch <- prometheus.MustNewConstMetric(c.mode, prometheus.GaugeValue, number(m == mode), farm, m.String())
		}
	}
	if s.Snapshot == nil {
		return
	}
	away := map[string]*[len(ages)]int{} // by farm
	for i := range s.Snapshot.Hosts {
		h := &s.Snapshot.Hosts[i]
		if away[h.Host.Farm] == nil {
			away[h.Host.Farm] = new([len(ages)]int)
		}
		c.host(ch, h, &s)
		c.disconnected(ch, h, s.Now, away[h.Host.Farm])
	}
	for farm, counts := range away {
		for i, n := range counts {
			ch <- prometheus.MustNewConstMetric(c.away, prometheus.GaugeValue, float64(n), farm, ages[i].label)
		}
	}
}

// ages are what disconnected sessions are counted by.
var ages = [...]struct {
	label string
	least time.Duration
}{
	{"0s", 0}, {"15m", 15 * time.Minute}, {"1h", time.Hour}, {"4h", 4 * time.Hour}, {"8h", 8 * time.Hour}, {"1d", 24 * time.Hour}, {"7d", 7 * 24 * time.Hour},
}

// disconnected adds h's disconnected sessions to counts, and tells of the stalest.
// One of which it is not known since when has only just been disconnected.
func (c *stateCollector) disconnected(ch chan<- prometheus.Metric, h *sessions.HostState, now time.Time, counts *[len(ages)]int) {
	if h.Report == nil {
		return
	}
	var oldest time.Duration
	for _, x := range h.Report.Sessions {
		if x.State != sessions.StateDisconnected || !x.HasUser() {
			continue
		}
		since, _ := h.Report.DisconnectedFor(x, now)
		oldest = max(oldest, since)
		for i := range ages {
			if since >= ages[i].least {
				counts[i]++
			}
		}
	}
	ch <- prometheus.MustNewConstMetric(c.oldest, prometheus.GaugeValue, oldest.Seconds(), h.Host.Farm, h.Host.Name)
}

func (c *stateCollector) host(ch chan<- prometheus.Metric, h *sessions.HostState, s *State) {
	send := func(d *prometheus.Desc, v float64, state ...string) {
		labels := append([]string{h.Host.Farm, h.Host.Name}, state...)
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	send(c.up, number(h.Problem == "" && h.Fresh(s.Now)))
	send(c.draining, number(h.Draining()))
	send(c.limit, float64(h.Limit()))
	if h.Report == nil {
		return
	}
	send(c.age, max(0, s.Now.Sub(h.Report.ReadAt)).Seconds())
	for _, w := range sources {
		send(c.source, number(w == source(h.Report.Source)), w)
	}
	all, holding := count(h, s.Stuck)
	reserved := placement.Used(placement.View{Snapshot: s.Snapshot, Now: s.Now, Claims: s.Claims}, h)
	for _, n := range holding { // what decisions count beyond the sessions
		reserved -= n
	}
	left := h.Limit() - reserved
	for state := range numStates {
		send(c.sessions, float64(all[state]), stateWords[state])
		send(c.slots, float64(holding[state]), stateWords[state])
		left -= holding[state]
	}
	send(c.slots, float64(reserved), "reserved")
	free, draining := max(0, left), 0
	switch {
	case !h.Fresh(s.Now): // nobody is placed there, and nobody knows
		free = 0
	case h.Draining():
		free, draining = 0, free
	}
	send(c.slots, float64(free), "free")
	send(c.slots, float64(draining), "draining")
}

// sources are the ways in which hosts are read.
var sources = []string{"agent", "quser", "rpc", "xrdp", otherSource}

const otherSource = "other"

// source is one of sources.
func source(s string) string {
	if slices.Contains(sources, s) {
		return s
	}
	return otherSource
}

// The states that sessions are counted by.
const (
	active = iota
	disconnected
	stuck // told to log off, and still there
	other // on the way up or down, or in a state that could not be read
	numStates
)

var stateWords = [numStates]string{"active", "disconnected", "stuck", "other"}

// count counts the sessions of users on h, all of them and those that hold a slot.
func count(h *sessions.HostState, isStuck map[sessions.Ref]bool) (all, holding [numStates]int) {
	for _, x := range h.Report.Sessions {
		state := other
		switch {
		case len(isStuck) > 0 && isStuck[sessions.RefOf(h.Host.Name, x)]:
			state = stuck
		case x.State == sessions.StateActive:
			state = active
		case x.State == sessions.StateDisconnected:
			state = disconnected
		}
		if x.HasUser() {
			all[state]++
		}
		if h.Counted(x) {
			holding[state]++
		}
	}
	return all, holding
}

func number(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
