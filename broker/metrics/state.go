package metrics

import (
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

	waiting, sessions, slots, limit, up, age, draining *prometheus.Desc
}

func newStateCollector(get func() State) *stateCollector {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(namespace+"_"+name, help, labels, nil)
	}
	return &stateCollector{
		get:      get,
		waiting:  desc("waiting", "Callers that wait for a slot now.", "farm"),
		sessions: desc("sessions", "Sessions of users, whether they hold a slot or not, by state: active, disconnected, other.", "farm", "host", "state"),
		slots:    desc("slots", "Slots, by what they are taken for: active, disconnected and other sessions, reserved; or free, where a user could be placed.", "farm", "host", "state"),
		limit:    desc("slots_limit", "Slots that a host has: the configured number, or what it reports.", "farm", "host"),
		up:       desc("host_up", "1 if a host could be read lately, else 0.", "farm", "host"),
		age:      desc("report_age_seconds", "Age of the last reading of a host; absent before the first one.", "farm", "host"),
		draining: desc("host_draining", "1 if a host takes no new users, else 0.", "farm", "host"),
	}
}

func (c *stateCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.waiting, c.sessions, c.slots, c.limit, c.up, c.age, c.draining} {
		ch <- d
	}
}

func (c *stateCollector) Collect(ch chan<- prometheus.Metric) {
	s := c.get()
	for farm, n := range s.Waiting {
		ch <- prometheus.MustNewConstMetric(c.waiting, prometheus.GaugeValue, float64(n), farm)
	}
	if s.Snapshot == nil {
		return
	}
	for i := range s.Snapshot.Hosts {
		c.host(ch, &s.Snapshot.Hosts[i], &s)
	}
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
	all, holding := count(h)
	reserved := placement.Used(placement.View{Snapshot: s.Snapshot, Now: s.Now, Claims: s.Claims}, h)
	for _, n := range holding { // what decisions count beyond the sessions
		reserved -= n
	}
	for state := range numStates {
		send(c.sessions, float64(all[state]), stateWords[state])
		send(c.slots, float64(holding[state]), stateWords[state])
	}
	send(c.slots, float64(reserved), "reserved")
	free := 0
	if h.Fresh(s.Now) && !h.Draining() { // else nobody is placed there
		free = max(0, h.Limit()-holding[active]-holding[disconnected]-holding[other]-reserved)
	}
	send(c.slots, float64(free), "free")
}

// The states that sessions are counted by.
const (
	active = iota
	disconnected
	other // on the way up or down, or in a state that could not be read
	numStates
)

var stateWords = [numStates]string{"active", "disconnected", "other"}

// count counts the sessions of users on h, all of them and those that hold a slot.
func count(h *sessions.HostState) (all, holding [numStates]int) {
	for _, x := range h.Report.Sessions {
		state := other
		switch x.State {
		case sessions.StateActive:
			state = active
		case sessions.StateDisconnected:
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
