package bench

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rdpbroker/rdpbroker/broker/config"
)

// made are results in which everything of HAProxy plain is 2, of HAProxy tuned 4,
// and ours 1 in one round and 3 in the other.
func made() *results {
	r := &results{names: contestants, of: map[string][]values{}}
	all := func(x float64) values {
		v := values{}
		for _, m := range measures {
			v[m.key] = x
		}
		return v
	}
	for _, ours1 := range []float64{1, 3} {
		r.of[direct] = append(r.of[direct], all(8))
		r.of[plain] = append(r.of[plain], all(2))
		r.of[tuned] = append(r.of[tuned], all(4))
		r.of[ours] = append(r.of[ours], all(ours1))
	}
	return r
}

// Each measure is compared with whichever HAProxy is the better one at it.
func TestRatios(t *testing.T) {
	r := made()
	for _, m := range measures {
		want, least, most := 1.0, 0.5, 1.5 // of 2, the lower one
		if m.more {
			want, least, most = 0.5, 0.25, 0.75 // of 4
		}
		if got := r.ratio(r.rival(m), m); got != want {
			t.Errorf("%s: %v, not %v", m.key, got, want)
		}
		if a, b := r.span(r.rival(m), m); a != least || b != most {
			t.Errorf("%s: from %v to %v", m.key, a, b)
		}
	}
	want := map[string]float64{
		"connections_per_second": 0.5, "connect_latency_p50": 1, "connect_latency_p99": 1, "bulk_throughput": 0.5, "bulk_cpu_per_gb": 1,
		"pingpong_p50": 1, "pingpong_paced_p99": 1, "pingpong_saturated_rate": 0.5, "memory_per_idle_connection": 1,
	}
	got := r.ratios()
	if len(got) != len(want) {
		t.Errorf("%v", got)
	}
	for name, x := range want {
		if got[name] != x {
			t.Errorf("%s: %v, not %v", name, got[name], x)
		}
	}
}

func TestMedian(t *testing.T) {
	if a, b := median([]float64{3, 1, 2}), median([]float64{4, 1, 3, 2}); a != 2 || b != 2.5 {
		t.Errorf("%v and %v", a, b)
	}
	if !math.IsNaN(median(nil)) {
		t.Error("the median of nothing is a number")
	}
}

// What is written can be read, and what stands around it stays.
func TestWrite(t *testing.T) {
	dir := t.TempDir()
	o := Options{JSON: filepath.Join(dir, "bench.json"), Markdown: filepath.Join(dir, "benchmarks.md"), Out: &strings.Builder{}}
	if err := os.WriteFile(o.Markdown, []byte("before\n"+sectionBegin+"\nold\n"+sectionEnd+"\nafter\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	r := made()
	r.of[ours][0]["idle_user"] = math.NaN() // of nothing
	for range 2 {
		if err := r.write(o); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(o.Markdown)
	if err != nil {
		t.Fatal(err)
	}
	s := string(text)
	if !strings.HasPrefix(s, "before\n"+sectionBegin+"\n") || !strings.HasSuffix(s, sectionEnd+"\nafter\n") || strings.Contains(s, "old") || !strings.Contains(s, "`bulk_throughput`: 0.50 (higher is better)") {
		t.Errorf("%s", s)
	}
	b, err := os.ReadFile(o.JSON)
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Ratios map[string]float64 `json:"ratios_to_haproxy"`
	}
	if err := json.Unmarshal(b, &file); err != nil || file.Ratios["connections_per_second"] != 0.5 {
		t.Errorf("%s: %v", b, err)
	}
	if err := os.WriteFile(o.Markdown, []byte("no marks"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := made().write(o); err == nil {
		t.Error("a file without marks was written to")
	}
}

// The broker is run with a configuration that it takes, and without warnings.
func TestTheBrokersConfiguration(t *testing.T) {
	c := &contestant{dir: t.TempDir()}
	s := setting{Listen: loopback(13389), Metrics: loopback(13390), Hosts: rdpAddrs(), Connections: 1000, Slots: 2 * usersPerHost, Manager: manager.String(), ServerName: serverName}
	for range s.Hosts {
		s.WinRM = append(s.WinRM, "127.0.0.1:5986")
	}
	if err := c.config("broker.yaml", s); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"ca.pem", "password"} {
		if err := os.WriteFile(filepath.Join(c.dir, name), []byte("x\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cfg, err := config.Load(filepath.Join(c.dir, "broker.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if len(cfg.Warnings) > 0 || len(cfg.Farms) != 1 || len(cfg.Farms[0].Hosts) != hostCount {
		t.Errorf("%v, %+v", cfg.Warnings, cfg.Farms)
	}
	for _, name := range []string{"haproxy-plain.cfg", "haproxy-tuned.cfg"} {
		if err := c.config(name, s); err != nil {
			t.Error(err)
		}
	}
}

// A name of nine characters could be the beginning of another one.
func TestUsersAreKnownByTheirNames(t *testing.T) {
	homes, news := 0, 0
	for n := range 10_000 {
		switch name := user(n); {
		case len(name) == 9:
			t.Fatalf("%s may have been cut", name)
		case strings.HasPrefix(name, "new"):
			news++
		default:
			homes++
		}
	}
	if news != 1000 || homes != 9000 {
		t.Errorf("%d with a session, %d without", homes, news)
	}
}

func TestUsage(t *testing.T) {
	pid := os.Getpid()
	if userMemory(pid) == 0 || kernelMemory() == 0 || switches(pid) == 0 {
		t.Errorf("user %d, kernel %d, switches %d", userMemory(pid), kernelMemory(), switches(pid))
	}
	if cpuOf(0) != 0 || userMemory(0) != 0 {
		t.Error("nobody uses something")
	}
}
