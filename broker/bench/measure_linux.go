package bench

import (
	"fmt"
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
	rounds                         int
	warm, connect, paced, bulk, pp time.Duration
	connections                    int // that a proxy may hold
	idle                           int // of them
	settle                         time.Duration
}

var (
	full = effort{rounds: 5, warm: 2 * time.Second, connect: 5 * time.Second, paced: 6 * time.Second, bulk: 3 * time.Second, pp: 3 * time.Second, idle: 10_000, settle: 3 * time.Second}
	// quick is done in under three minutes.
	quick = effort{rounds: 2, warm: time.Second, connect: 1500 * time.Millisecond, paced: 2500 * time.Millisecond, bulk: 800 * time.Millisecond, pp: 1200 * time.Millisecond, idle: 3_000, settle: 1500 * time.Millisecond}
)

// measureAll measures c, which has just been started.
func measureAll(c *contestant, e effort) (values, error) {
	v := values{}
	load := &loadgen.Client{To: c.to, User: user}
	var failed int
	var err error
	do := func(what string, f func() (loadgen.Result, error), take func(loadgen.Result)) {
		if err != nil {
			return
		}
		r, e := f()
		if e != nil {
			err = fmt.Errorf("%s: %s: %w", c.name, what, e)
			return
		}
		failed += r.Failed
		take(r)
	}
	// What is made once, is made; and for the broker: every host has been read.
	do("warming up", func() (loadgen.Result, error) { return load.Connect(8, e.warm) }, func(loadgen.Result) { failed = 0 })
	if err == nil {
		err = idle(c, load, e, v)
	}
	before := cpuOf(c.pid())
	do("connections", func() (loadgen.Result, error) { return load.Connect(64, e.connect) }, func(r loadgen.Result) {
		v["connect_rate"], v["connect_cpu"] = r.Rate(), (cpuOf(c.pid())-before).Seconds()/float64(r.Done)
	})
	do("connections at a pace", func() (loadgen.Result, error) { return load.ConnectAt(200, e.paced) }, func(r loadgen.Result) {
		v["connect_p50"], v["connect_p99"] = r.P50.Seconds(), r.P99.Seconds()
	})
	for _, streams := range []int{1, 8, 64} {
		var cpu time.Duration
		around := func() { cpu = cpuOf(c.pid()) - cpu }
		do("bulk", func() (loadgen.Result, error) { return load.Bulk(streams, e.bulk, around) }, func(r loadgen.Result) {
			v[fmt.Sprintf("bulk_%d", streams)] = r.BytesPerSecond()
			v[fmt.Sprintf("cpu_%d", streams)] = cpu.Seconds() / (float64(r.Bytes) / 1e9)
		})
	}
	do("ping-pong", func() (loadgen.Result, error) { return load.PingPong(1, 0, e.pp) }, func(r loadgen.Result) {
		v["ping_p50"], v["ping_p99"] = r.P50.Seconds(), r.P99.Seconds()
	})
	do("ping-pong at a pace", func() (loadgen.Result, error) { return load.PingPong(1, 100, e.pp) }, func(r loadgen.Result) {
		v["ping_paced_p50"], v["ping_paced_p99"] = r.P50.Seconds(), r.P99.Seconds()
	})
	do("many ping-pongs", func() (loadgen.Result, error) { return load.PingPong(200, 0, e.pp) }, func(r loadgen.Result) {
		v["pings_rate"], v["pings_p99"] = r.Rate(), r.P99.Seconds()
	})
	cpu := cpuOf(c.pid())
	do("many ping-pongs at a pace", func() (loadgen.Result, error) { return load.PingPong(200, 2000, e.pp) }, func(r loadgen.Result) {
		v["pings_paced_p50"], v["pings_paced_p99"] = r.P50.Seconds(), r.P99.Seconds()
		// With the tenth before what was measured, and with opening the connections.
		v["pings_paced_cpu"] = (cpuOf(c.pid()) - cpu).Seconds() / (1.1 * float64(r.Done))
	})
	if err == nil && failed > 0 {
		err = fmt.Errorf("%s: %d connections or exchanges failed", c.name, failed)
	}
	return v, err
}

// idle measures what connections cost that nothing is sent on.
func idle(c *contestant, load *loadgen.Client, e effort, v values) error {
	time.Sleep(e.settle)
	user, kernel := userMemory(c.pid()), kernelMemory()
	return load.Idle(e.idle, func() error {
		time.Sleep(e.settle)
		v["idle_user"] = float64(userMemory(c.pid())-user) / float64(e.idle)
		v["idle_kernel"] = float64(kernelMemory()-kernel) / float64(e.idle)
		began, woken, cpu := time.Now(), switches(c.pid()), cpuOf(c.pid())
		time.Sleep(e.settle)
		passed := time.Since(began).Seconds()
		v["idle_wakeups"] = float64(switches(c.pid())-woken) / passed
		v["idle_cpu"] = (cpuOf(c.pid()) - cpu).Seconds() / passed
		return nil
	})
}
