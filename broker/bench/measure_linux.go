package bench

import (
	"fmt"
	"slices"
	"time"

	"github.com/rdpbroker/rdpbroker/rdpproxy/loadgen"
)

// measure is one number of each contestant.
type measure struct {
	key, title string
	unit       string
	scale      float64 // from the value to unit
	more       bool    // more is better
	// ratio is the name under which its ratio stands in bench.json, alone or as a part
	// of the geometric mean of all with that name. "" leaves it out.
	ratio string
}

var measures = []measure{
	{"connect_rate", "connections/s to the end of X.224, 64 workers", "/s", 1, true, "connections_per_second"},
	{"connect_cpu", "CPU per connection at that", "µs", 1e6, false, ""},
	{"connect_p50", "to the end of X.224 at 200/s, p50", "µs", 1e6, false, "connect_latency_p50"},
	{"connect_p99", "p99", "µs", 1e6, false, "connect_latency_p99"},
	{"bulk_1", "bulk, 1 stream", "GB/s", 1e-9, true, "bulk_throughput"},
	{"bulk_8", "8 streams", "GB/s", 1e-9, true, "bulk_throughput"},
	{"bulk_64", "64 streams", "GB/s", 1e-9, true, "bulk_throughput"},
	{"cpu_1", "CPU per GB, 1 stream", "s", 1, false, "bulk_cpu_per_gb"},
	{"cpu_8", "8 streams", "s", 1, false, "bulk_cpu_per_gb"},
	{"cpu_64", "64 streams", "s", 1, false, "bulk_cpu_per_gb"},
	{"ping_p50", "100 B up, 1,200 B down, 1 connection, saturated, p50", "µs", 1e6, false, "pingpong_p50"},
	{"ping_p99", "p99", "µs", 1e6, false, ""},
	{"ping_paced_p50", "1 connection, 100/s, p50", "µs", 1e6, false, ""},
	{"ping_paced_p99", "p99", "µs", 1e6, false, ""},
	{"pings_rate", "200 connections, saturated", "/s", 1, true, "pingpong_saturated_rate"},
	{"pings_p99", "p99", "ms", 1e3, false, ""},
	{"pings_paced_p50", "200 connections, 2,000/s, p50", "µs", 1e6, false, ""},
	{"pings_paced_p99", "p99", "µs", 1e6, false, "pingpong_paced_p99"},
	{"pings_paced_cpu", "CPU per exchange at that", "µs", 1e6, false, ""},
	{"idle_user", "memory per idle connection, of the process", "bytes", 1, false, "memory_per_idle_connection"},
	{"idle_kernel", "of the kernel (both ends of all connections)", "bytes", 1, false, ""},
	{"idle_wakeups", "with so many idle connections: wake-ups of the process", "/s", 1, false, ""},
	{"idle_cpu", "CPU of the process", "ms/s", 1e3, false, ""},
}

// values are what one contestant was measured at, by measure.key.
type values map[string]float64

// effort is how long things are measured.
type effort struct {
	rounds, idleRounds             int
	warm, connect, paced, bulk, pp time.Duration
	lead                           time.Duration // before connect
	connections                    int           // that a proxy may hold
	idle                           int           // of them
	settle                         time.Duration
}

// Many short rounds say more than a few long ones: what is compared has been measured
// within seconds.
var (
	full = effort{rounds: 15, idleRounds: 3, warm: 2 * time.Second, lead: 700 * time.Millisecond, connect: 2 * time.Second, paced: 2500 * time.Millisecond, bulk: 700 * time.Millisecond, pp: 1200 * time.Millisecond, idle: 10_000, settle: 3 * time.Second}
	// quick is done in under three minutes.
	quick = effort{rounds: 4, idleRounds: 1, warm: time.Second, lead: 500 * time.Millisecond, connect: 800 * time.Millisecond, paced: 1200 * time.Millisecond, bulk: 400 * time.Millisecond, pp: 500 * time.Millisecond, idle: 3_000, settle: 1500 * time.Millisecond}
)

// part is something to be measured, under the name that it is asked for by.
type part struct {
	name    string
	measure func(*measuring) error
}

// idlePart is measured with nobody else running.
var idlePart = part{"idle", (*measuring).idle}

// otherParts are measured in this order.
var otherParts = []part{
	{"connect", (*measuring).connect},
	{"bulk", bulk(1)},
	{"bulk", bulk(8)},
	{"bulk", bulk(64)},
	{"ping", ping("ping", 1, 0)},
	{"ping", ping("ping_paced", 1, 100)},
	{"ping", ping("pings", 200, 0)},
	{"ping", ping("pings_paced", 200, 2000)},
}

// Parts are the names of what can be measured.
func Parts() (names []string) {
	for _, p := range append([]part{idlePart}, otherParts...) {
		if !slices.Contains(names, p.name) {
			names = append(names, p.name)
		}
	}
	return names
}

// parts are those of the given names, or all if there are none.
func parts(names []string) (alone, together []part) {
	not := func(p part) bool { return len(names) > 0 && !slices.Contains(names, p.name) }
	return slices.DeleteFunc([]part{idlePart}, not), slices.DeleteFunc(slices.Clone(otherParts), not)
}

// measuring is a contestant under measurement.
type measuring struct {
	*contestant
	effort
	load   *loadgen.Client
	values values
	failed int
}

func newMeasuring(c *contestant, e effort) *measuring {
	return &measuring{contestant: c, effort: e, load: &loadgen.Client{To: c.to, User: user}}
}

// warmUp has made what is made once; and of the broker, every host has been read.
func (m *measuring) warmUp() error {
	if _, err := m.load.Connect(8, m.warm); err != nil {
		return fmt.Errorf("%s: warming up: %w\n%s", m.name, err, m.lastWords())
	}
	return nil
}

// measure measures parts, and writes what it has found to v.
func (m *measuring) measure(parts []part, v values) error {
	m.values = v
	for _, p := range parts {
		if err := p.measure(m); err != nil {
			return fmt.Errorf("%s: %s: %w\n%s", m.name, p.name, err, m.lastWords())
		}
	}
	if m.failed > 0 {
		return fmt.Errorf("%s: %d connections or exchanges failed\n%s", m.name, m.failed, m.lastWords())
	}
	return nil
}

// took notes the times of r.
func (m *measuring) took(key string, r loadgen.Result) {
	m.failed += r.Failed
	m.values[key+"_p50"], m.values[key+"_p99"] = r.P50.Seconds(), r.P99.Seconds()
}

// connect measures connections of people who come again and again: after the lead
// everybody has been there, and the broker has a slot promised to each.
func (m *measuring) connect() error {
	r, err := m.load.Connect(64, m.lead)
	if err != nil {
		return err
	}
	m.failed += r.Failed
	before := cpuOf(m.pid())
	if r, err = m.load.Connect(64, m.effort.connect); err != nil {
		return err
	}
	m.failed += r.Failed
	m.values["connect_rate"], m.values["connect_cpu"] = r.Rate(), (cpuOf(m.pid())-before).Seconds()/float64(r.Done)
	r, err = m.load.ConnectAt(200, m.paced)
	m.took("connect", r)
	return err
}

func bulk(streams int) func(*measuring) error {
	return func(m *measuring) error {
		var cpu time.Duration
		around := func() { cpu = cpuOf(m.pid()) - cpu }
		r, err := m.load.Bulk(streams, m.effort.bulk, around)
		if err != nil {
			return err
		}
		m.failed += r.Failed
		m.values[fmt.Sprintf("bulk_%d", streams)] = r.BytesPerSecond()
		m.values[fmt.Sprintf("cpu_%d", streams)] = cpu.Seconds() / (float64(r.Bytes) / 1e9)
		return nil
	}
}

// ping measures exchanges on so many connections; perSecond 0: as fast as it goes.
func ping(key string, connections, perSecond int) func(*measuring) error {
	return func(m *measuring) error {
		cpu := cpuOf(m.pid())
		r, err := m.load.PingPong(connections, perSecond, m.pp)
		if err != nil {
			return err
		}
		m.took(key, r)
		m.values[key+"_rate"] = r.Rate()
		// With the tenth before what was measured, and with opening the connections.
		m.values[key+"_cpu"] = (cpuOf(m.pid()) - cpu).Seconds() / (1.1 * float64(r.Done))
		return nil
	}
}

// idle measures what connections cost that nothing is sent on.
func (m *measuring) idle() error {
	n := m.effort.idle
	time.Sleep(m.settle)
	user, kernel := userMemory(m.pid()), kernelMemory()
	return m.load.Idle(n, func() error {
		time.Sleep(m.settle)
		m.values["idle_user"] = float64(userMemory(m.pid())-user) / float64(n)
		m.values["idle_kernel"] = float64(kernelMemory()-kernel) / float64(n)
		began, woken, cpu := time.Now(), switches(m.pid()), cpuOf(m.pid())
		time.Sleep(m.settle)
		passed := time.Since(began).Seconds()
		m.values["idle_wakeups"] = float64(switches(m.pid())-woken) / passed
		m.values["idle_cpu"] = (cpuOf(m.pid()) - cpu).Seconds() / passed
		return nil
	})
}
