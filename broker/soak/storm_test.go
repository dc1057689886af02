//go:build unix

package soak

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rdpbroker/rdpbroker/broker/audit"
	"github.com/rdpbroker/rdpbroker/broker/config"
	"github.com/rdpbroker/rdpbroker/broker/daemon"
	"github.com/rdpbroker/rdpbroker/broker/placement"
	"github.com/rdpbroker/rdpbroker/rdpproxy/x224"
)

var (
	stormHostCount = flag.Int("storm-hosts", 12, "how many hosts TestStorm has")
	stormLogons    = flag.Int("storm-logons", 0, "how many users log on; 0: so many that they just fit")
	stormFor       = flag.Duration("storm-for", 4*time.Second, "in which time")
	stormSeed      = flag.Uint64("storm-seed", 1, "what everything is drawn from")
)

// TestStorm is a morning: everybody comes at once, to a farm half of whose slots
// are held by sessions of yesterday. Some of those who come have one of them, and
// must get back to it; most do not, and there is room for all of them if the rest
// of yesterday's sessions is logged off, one by one, as it is needed. The broker
// is the real one, made from a broker.yaml; hosts are simulated, in a process of
// their own, down to WinRM, and count who logs on.
func TestStorm(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a farm of hosts in a process of its own")
	}
	f := startStormHosts(t, stormOrder{Hosts: *stormHostCount, Seed: *stormSeed})
	w := &storm{t: t, began: time.Now(), answered: map[string]time.Duration{}, waited: map[string]bool{}}
	addr, metrics := w.startBroker(f)

	slots := 0
	var homes []string
	for _, h := range f.Hosts {
		slots += h.Slots
		homes = append(homes, h.Users...)
	}
	rng := rand.New(rand.NewPCG(*stormSeed, 2))
	rng.Shuffle(len(homes), func(i, j int) { homes[i], homes[j] = homes[j], homes[i] })
	logons := *stormLogons
	if logons == 0 {
		logons = slots * 86 / 100
	}
	homes = homes[:min(len(homes)/2, logons*3/10)] // the others do not come, and may be logged off
	t.Logf("seed %d: %d hosts with %d slots; %d logons in %s, %d of them by users with a session", *stormSeed, len(f.Hosts), slots, logons, *stormFor, len(homes))

	// Nobody stays so long that all of them, and those who have just disconnected and may
	// not be logged off yet, need more slots than there are.
	stay := min(10*time.Second, *stormFor*2)
	var all sync.WaitGroup
	cpu := cpuTime()
	began := time.Now()
	for i := range logons {
		v := visitor{
			user:   fmt.Sprintf("new-%06d", i), // ten characters
			comes:  time.Duration(rng.Int64N(int64(*stormFor))),
			types:  200*time.Millisecond + time.Duration(rng.Int64N(int64(time.Second))),
			stays:  stay/2 + time.Duration(rng.Int64N(int64(stay))),
			leaves: saySignOut,
		}
		if i < len(homes) {
			v.user = homes[i]
		}
		if rng.IntN(3) == 0 {
			v.leaves = sayDisconnect
		}
		all.Add(1)
		go func() {
			defer all.Done()
			time.Sleep(time.Until(began.Add(v.comes)))
			w.visit(addr, v)
		}()
	}
	all.Wait()
	r := f.report(t)
	t.Logf("%d new sessions, %d back to their own, %d logged off for others; %.2f cores of the broker and all clients", r.New, r.Back, r.Evicted, (cpuTime()-cpu).Seconds()/time.Since(began).Seconds())
	var answered, room []time.Duration
	for user, took := range w.answered {
		if w.waited[user] {
			room = append(room, took)
		} else {
			answered = append(answered, took)
		}
	}
	t.Logf("admission without eviction: %s; a logoff: %s", quantiles(w.straight), quantiles(w.evicted))
	t.Logf("from connecting to the host's answer, without eviction: %s; with: %s", quantiles(answered), quantiles(room))
	t.Logf("what admissions took the broker itself, with finding out who it is and deciding: %s", admissions(t, metrics))
	for _, what := range append(w.wrongs, r.Wrongs...) {
		t.Error(what)
	}
	if r.New+r.Back != logons {
		t.Errorf("%d of %d have logged on", r.New+r.Back, logons)
	}
	if r.Back == 0 || r.Evicted == 0 || len(w.straight) == 0 {
		t.Error("too little has happened to prove anything")
	}
	if n := len(w.evicting); n != r.Evicted {
		t.Errorf("%d sessions were logged off, and the audit knows of %d", r.Evicted, n)
	}
}

// admissions is how many admissions took how long at most, by the broker's own metrics.
func admissions(t *testing.T, metrics string) string {
	t.Helper()
	res, err := http.Get("http://" + metrics + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, m := range regexp.MustCompile(`(?m)^rdpbroker_admission_seconds_bucket\{.*le="([^"]+)"\} (\d+)$`).FindAllSubmatch(text, -1) {
		switch le := string(m[1]); le {
		case "0.0001", "0.001", "0.005", "0.05", "+Inf":
			out = append(out, fmt.Sprintf("%s within %s s", m[2], le))
		}
	}
	if len(out) == 0 {
		t.Error("the broker has measured nothing")
	}
	return strings.Join(out, ", ")
}

// storm is what happens on the broker's side.
type storm struct {
	t     *testing.T
	began time.Time

	mu sync.Mutex
	// straight and evicted are how long admissions took without and with a logoff.
	straight, evicted []time.Duration
	answered          map[string]time.Duration // by user: from connecting to the host's answer
	waited            map[string]bool          // users for whom somebody was logged off
	evicting          []string                 // sessions
	wrongs            []string
}

// visitor is one user who comes.
type visitor struct {
	user                string
	comes, types, stays time.Duration
	leaves              byte
}

func (s *storm) wrong(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wrongs = append(s.wrongs, fmt.Sprintf(format, args...))
}

// visit is one user's visit, from connecting to leaving.
func (s *storm) visit(addr string, v visitor) {
	began := time.Now()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		s.wrong("%s: %v", v.user, err)
		return
	}
	defer c.Close()
	_ = c.SetDeadline(began.Add(2 * time.Minute))
	request := (&x224.Request{Cookie: v.user, Negotiation: &x224.Negotiation{}}).Append(nil)
	answer := make([]byte, len((&x224.Confirm{}).Append(nil)))
	if _, err = c.Write(request); err == nil {
		_, err = io.ReadFull(c, answer)
	}
	if err != nil {
		s.wrong("%s was turned away after %s: %v", v.user, time.Since(began), err)
		return
	}
	took := time.Since(began)
	s.mu.Lock()
	s.answered[v.user] = took
	s.mu.Unlock()
	time.Sleep(v.types)
	var said [1]byte
	_, err = c.Write([]byte{sayLogon})
	if err == nil {
		_, err = io.ReadFull(c, said[:])
	}
	if err != nil || said[0] == sayFull {
		s.wrong("%s was not logged on: %q, %v", v.user, said[0], err)
		return
	}
	time.Sleep(v.stays)
	if _, err := c.Write([]byte{v.leaves}); err != nil {
		s.wrong("%s: %v", v.user, err)
	}
}

// record looks at what the broker says of itself.
func (s *storm) record(r audit.Record) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch r.Event {
	case audit.Decided:
		switch r.Decision.Kind {
		case placement.Reconnect, placement.TakeOver, placement.Place:
			if !s.waited[r.Identity.Said] {
				s.straight = append(s.straight, r.Took)
			}
		default:
			s.waited[r.Identity.Said] = true
		}
	case audit.Evicted:
		s.evicted = append(s.evicted, r.Took)
	case audit.Evicting:
		s.evicting = append(s.evicting, r.Decision.Victim.Ref().String())
	case audit.Refused:
		s.wrongs = append(s.wrongs, fmt.Sprintf("%s was refused: %s", r.Identity.Said, r.Decision.Reason))
	}
}

// startBroker runs a real broker over f, and returns when every host has been read.
func (s *storm) startBroker(f *stormFarm) (addr, metrics string) {
	t := s.t
	t.Helper()
	dir := t.TempDir()
	ca, password := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "password")
	for file, text := range map[string][]byte{ca: f.CA, password: []byte(managerPassword + "\n")} {
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var y strings.Builder
	fmt.Fprintf(&y, "listen: [{address: '127.0.0.1:0', farm: office}]\naudit: {file: %q}\nstate_file: ''\ndrain_timeout: 1s\nadmin: {socket: '', metrics: '127.0.0.1:0'}\n", filepath.Join(dir, "audit.jsonl"))
	fmt.Fprintf(&y, "identity: {trusted_clients: [127.0.0.0/8]}\nlimits: {per_client: 10000, pending: 10000, pending_per_client: 10000}\n")
	fmt.Fprintf(&y, "eviction: {mode: evict, proof: known-user, per_host_per_hour: 0, per_client_per_hour: 0}\n")
	fmt.Fprintf(&y, "defaults: {winrm: {user: '%s\\%s', password_file: %q, ca_file: %q, server_name: farm.example, mode: agent}}\n", domain, manager, password, ca)
	fmt.Fprintf(&y, "farms:\n  office:\n    hosts:\n")
	for i, h := range f.Hosts {
		fmt.Fprintf(&y, "      - {name: ts%03d, slots: %d, address: '%s', winrm: {address: 'https://%s'}}\n", i, h.Slots, h.RDP, h.WinRM)
	}
	cfg, err := config.Parse("broker.yaml", []byte(y.String()))
	if err != nil {
		t.Fatal(err)
	}
	d, err := daemon.New(cfg, daemon.Options{OnRecord: s.record})
	if err != nil {
		t.Fatal(err)
	}
	addrs, err := d.Listen()
	if err != nil {
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
	for read := 0; read < len(f.Hosts); time.Sleep(20 * time.Millisecond) {
		read = 0
		for _, h := range d.Snapshot().Hosts {
			if h.Fresh(time.Now()) {
				read++
			}
		}
		if time.Since(s.began) > 2*time.Minute {
			t.Fatalf("%d of %d hosts are read", read, len(f.Hosts))
		}
	}
	return addrs[0].String(), d.MetricsAddr().String()
}

// stormFarm are the hosts in their process.
type stormFarm struct {
	stormAnswer
	in  io.WriteCloser
	out *json.Decoder
}

func startStormHosts(t *testing.T, o stormOrder) *stormFarm {
	t.Helper()
	order, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), stormVariable+"="+string(order))
	cmd.Stderr = os.Stderr
	f := &stormFarm{}
	if f.in, err = cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(f.in.Close(), cmd.Wait()); err != nil {
			t.Errorf("the hosts: %v", err)
		}
	})
	f.out = json.NewDecoder(bufio.NewReader(out))
	if err := f.out.Decode(&f.stormAnswer); err != nil {
		t.Fatal(err)
	}
	return f
}

// report asks for the report.
func (f *stormFarm) report(t *testing.T) (r stormReport) {
	t.Helper()
	if _, err := fmt.Fprintln(f.in, "report"); err != nil {
		t.Fatal(err)
	}
	if err := f.out.Decode(&r); err != nil {
		t.Fatal(err)
	}
	return r
}
