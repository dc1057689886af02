//go:build unix

package soak

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rdpbroker/rdpbroker/broker/config"
	"github.com/rdpbroker/rdpbroker/broker/daemon"
	"github.com/rdpbroker/rdpbroker/sessions"
)

var (
	scaleHosts    = flag.Int("scale-hosts", 20, "how many hosts TestScale has")
	scaleSessions = flag.Int("scale-sessions", 50, "how many sessions each of them has")
	scaleChanges  = flag.Int("scale-changes", 20, "how many sessions of the farm come or go per second")
	scaleFor      = flag.Duration("scale-for", 3*time.Second, "how long TestScale measures")
	scaleHeap     = flag.String("scale-heap", "", "a file for the broker's heap profile")
	scaleOff      = flag.Int("scale-off", 2, "how many hosts lose their WinRM service for a while")
)

// TestScale has one broker watch a large farm in another process and tells what
// that costs. It fails only if hosts are not read, or not read again.
func TestScale(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a farm of hosts in a process of its own")
	}
	began := time.Now()
	f := startFarm(t, farmOrder{Hosts: *scaleHosts, Sessions: *scaleSessions, Changes: *scaleChanges})
	t.Logf("%d hosts, %d sessions each, %d changes a second; the farm took %s to start", *scaleHosts, *scaleSessions, *scaleChanges, time.Since(began).Round(time.Millisecond))
	d := startDaemon(t, f)

	began = time.Now()
	cpu := cpuTime()
	var last time.Time
	for fresh := 0; fresh < *scaleHosts; {
		time.Sleep(20 * time.Millisecond)
		s := d.Snapshot()
		now := time.Now()
		fresh = 0
		for i := range s.Hosts {
			if s.Hosts[i].Problem == "" && s.Hosts[i].Fresh(now) {
				fresh++
			}
		}
		if now.Sub(last) > 10*time.Second {
			last = now
			t.Logf("after %s: %d of %d hosts are read", now.Sub(began).Round(time.Second), fresh, *scaleHosts)
		}
		if now.Sub(began) > 5*time.Minute {
			t.Fatalf("%d of %d hosts are read after %s", fresh, *scaleHosts, now.Sub(began))
		}
	}
	t.Logf("all hosts are read %s after the start, for %s of CPU", time.Since(began).Round(10*time.Millisecond), (cpuTime() - cpu).Round(10*time.Millisecond))

	o := observer{d: d, reports: map[string]*sessions.Report{}}
	o.look(false) // what was before
	began, cpu = time.Now(), cpuTime()
	o.lookFor(*scaleFor)
	busy := (cpuTime() - cpu).Seconds() / time.Since(began).Seconds()
	if len(o.delays) == 0 {
		t.Fatal("no change was seen")
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	t.Logf("CPU of the broker: %.2f cores (the observer's included)", busy)
	t.Logf("memory of the broker: %d MB resident, %d MB heap; %d goroutines", resident()>>20, m.HeapInuse>>20, runtime.NumGoroutine())
	if *scaleHeap != "" {
		writeHeap(t, *scaleHeap)
	}
	t.Logf("%d readings, %d changes; from a change on a host to the broker's snapshot: %s", o.readings, len(o.delays), quantiles(o.delays))

	var off, on []time.Duration
	gone := min(*scaleOff, *scaleHosts)
	began = time.Now()
	for i := range gone {
		f.order(t, "off", i)
	}
	off = awaitEach(t, d, gone, began, func(h *sessions.HostState) bool { return h.Problem != "" })
	time.Sleep(time.Second)
	returned := time.Now()
	for i := range gone {
		f.order(t, "on", i)
	}
	on = awaitEach(t, d, gone, returned, func(h *sessions.HostState) bool { return h.Problem == "" && h.Report.ReadAt.After(returned) })
	t.Logf("%d WinRM servers end: noticed after %s; back: read again after %s", gone, quantiles(off), quantiles(on))
}

func writeHeap(t *testing.T, name string) {
	t.Helper()
	w, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	runtime.GC()
	if err := errors.Join(pprof.WriteHeapProfile(w), w.Close()); err != nil {
		t.Fatal(err)
	}
}

// startDaemon runs a real broker over f, made from a broker.yaml.
func startDaemon(t *testing.T, f *farm) *daemon.Daemon {
	t.Helper()
	dir := t.TempDir()
	ca, password := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "password")
	for file, text := range map[string][]byte{ca: f.CA, password: []byte(managerPassword + "\n")} {
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var y strings.Builder
	fmt.Fprintf(&y, "listen: [{address: '127.0.0.1:0', farm: large}]\naudit: {file: ''}\nstate_file: ''\ndrain_timeout: 1s\nadmin: {socket: '', metrics: ''}\n")
	fmt.Fprintf(&y, "defaults: {winrm: {user: '%s\\%s', password_file: %q, ca_file: %q, server_name: farm.example, mode: agent}}\n", domain, manager, password, ca)
	fmt.Fprintf(&y, "farms:\n  large:\n    hosts:\n")
	for i, addr := range f.Addrs {
		fmt.Fprintf(&y, "      - {name: ts%04d, address: '127.9.%d.%d:3389', winrm: {address: 'https://%s'}}\n", i, i/250, 1+i%250, addr)
	}
	cfg, err := config.Parse("broker.yaml", []byte(y.String()))
	if err != nil {
		t.Fatal(err)
	}
	daemon.SpareMemory(cfg) // as `rdpbroker serve` does
	d, err := daemon.New(cfg, daemon.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Listen(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx, ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the broker: %v", err)
		}
	})
	return d
}

// observer looks at the broker's snapshots for marked sessions.
type observer struct {
	d        *daemon.Daemon
	reports  map[string]*sessions.Report
	seen     map[string]bool
	delays   []time.Duration
	readings int
}

func (o *observer) lookFor(d time.Duration) {
	end := time.After(d)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			o.look(true)
		case <-end:
			return
		}
	}
}

// look takes in the newest snapshot. count: what is new in it counts.
func (o *observer) look(count bool) {
	now := time.Now()
	if o.seen == nil {
		o.seen = map[string]bool{}
	}
	s := o.d.Snapshot()
	for i := range s.Hosts {
		h := &s.Hosts[i]
		if h.Report == nil || o.reports[h.Host.Name] == h.Report {
			continue
		}
		o.reports[h.Host.Name] = h.Report
		o.readings++
		for _, x := range h.Report.Sessions {
			text, marked := strings.CutPrefix(x.ClientName, markPrefix)
			if !marked || o.seen[text] {
				continue
			}
			o.seen[text] = true
			if at, err := strconv.ParseInt(text, 10, 64); err == nil && count {
				o.delays = append(o.delays, now.Sub(time.Unix(0, at)))
			}
		}
	}
}

// awaitEach waits until the first n hosts are as they should be, and tells how
// long after began each was.
func awaitEach(t *testing.T, d *daemon.Daemon, n int, began time.Time, fits func(*sessions.HostState) bool) []time.Duration {
	t.Helper()
	took := make([]time.Duration, n)
	for left := n; left > 0; time.Sleep(10 * time.Millisecond) {
		s := d.Snapshot()
		for i := range n {
			if took[i] == 0 && fits(s.Host(fmt.Sprintf("ts%04d", i))) {
				took[i] = time.Since(began)
				left--
			}
		}
		if time.Since(began) > 3*time.Minute {
			t.Fatalf("%d of %d hosts are not as they should be after %s", left, n, time.Since(began))
		}
	}
	return took
}

func quantiles(ds []time.Duration) string {
	if len(ds) == 0 {
		return "none"
	}
	slices.Sort(ds)
	at := func(q float64) time.Duration {
		return ds[min(len(ds)-1, int(q*float64(len(ds))))].Round(100 * time.Microsecond)
	}
	return fmt.Sprintf("p50 %s, p99 %s, most %s (of %d)", at(0.5), at(0.99), at(1), len(ds))
}

// cpuTime is what this process has used.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// resident is how many bytes of memory this process holds now; 0 if the system
// does not tell.
func resident() int64 {
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(b))
	if len(fields) < 2 {
		return 0
	}
	pages, _ := strconv.ParseInt(fields[1], 10, 64)
	return pages * int64(os.Getpagesize())
}
