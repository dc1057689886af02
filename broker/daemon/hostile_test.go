package daemon_test

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap/zapcore"
)

// junk is what connects to port 3389 beside RDP clients, with the kind under
// which it is counted.
var junk = []struct{ kind, say string }{
	{"tls", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"},
	{"http", "GET / HTTP/1.1\r\nHost: broker\r\n\r\n"},
	{"http", "POST /wsman HTTP/1.1\r\n\r\n"},
	{"ssh", "SSH-2.0-OpenSSH_9.7\r\n"},
	{"socks", "\x05\x01\x00"},
	{"proxy-header", "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n"},
	{"not-tpkt", "\xff\xff\xff\xff\xff\xff\xff\xff"},
	{"too-long", "\x03\x00\xff\xff\x06\xe0" + strings.Repeat("A", 1<<16)},
	{"too-short", "\x03\x00\x00\x04"},
	{"not-cr", "\x03\x00\x00\x07\x02\xf0\x80"},
	{"bad-blob", "\x12\x00\x00\x00\xff\xff\xff\xff\x02\x00\x00\x00\x00\x00\x00\x00\xff\xff"},
}

// sendJunk sends all of it from one address and returns the counts by kind.
func (s *stack) sendJunk(t *testing.T, from string) map[string]int {
	t.Helper()
	counts := map[string]int{}
	for _, j := range junk {
		c := s.dial(t, from)
		_, _ = c.Write([]byte(j.say)) // it may be closed halfway
		c.ended()
		c.Close()
		counts[j.kind]++
	}
	return counts
}

func refused(kind string) string { return fmt.Sprintf("rdpbroker_refused_total{kind=%q}", kind) }

// TestHalfOpenConnections: as many clients as the limit of descriptors allows say
// nothing, or half a packet. They cost little, a user gets a desktop meanwhile, and
// when they are gone so is what they cost.
func TestHalfOpenConnections(t *testing.T) {
	notShort(t) // not parallel: it measures memory
	const most, spare, perAddress = 10_000, 600, 250
	limit, err := descriptors(2*most + spare)
	if err != nil {
		t.Fatal(err)
	}
	n := most
	if allowed := (int(limit) - spare) / 2; allowed < most {
		n = allowed
		t.Logf("only %d connections: %d descriptors are allowed, and both ends are in this process", n, limit)
	}
	ts1 := startWindows(t, "ts1", full(50))
	o := newOffice(t, ts1)
	o.top += fmt.Sprintf("limits: {connections: %d, pending: %[1]d, pending_per_client: %d, per_client: 1000, first_packet: 5m}\n", most+500, perAddress)
	s := o.open(t)
	s.call(t, "", "first").connected() // whatever is made once, is made

	beginnings := [][]byte{nil, []byte("\x03"), named("somebody")[:20]}
	before, threads := memory(), runtime.NumGoroutine()
	crowd := make([]net.Conn, n)
	defer func() {
		for _, c := range crowd {
			if c != nil {
				c.Close()
			}
		}
	}()
	for i := range crowd {
		from := fmt.Sprintf("127.4.%d.%d", i/perAddress/200, i/perAddress%200+1)
		c, err := (&net.Dialer{Timeout: patience, LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}).Dial("tcp", s.addrs[0].String())
		if err != nil {
			t.Fatalf("connection %d: %v", i, err)
		}
		crowd[i] = c
		if b := beginnings[i%len(beginnings)]; b != nil {
			if _, err := c.Write(b); err != nil {
				t.Fatalf("connection %d: %v", i, err)
			}
		}
	}
	s.untilMetric(t, "rdpbroker_connections_open", float64(n+1))
	bytes, more := int(memory()-before)/n, float64(runtime.NumGoroutine()-threads)/float64(n)
	t.Logf("%d half-open connections: %d bytes and %.2f goroutines for each, both ends counted", n, bytes, more)
	if bytes > 32<<10 || more > 2 {
		t.Errorf("%d bytes and %.2f goroutines for each", bytes, more)
	}

	// One address has had its share; everybody else is served as ever.
	over := s.dial(t, "127.4.0.1")
	over.ended()
	s.untilMetric(t, refused("too-many-pending-from-client"), 1)
	good := s.call(t, "", "alice")
	good.connected()
	good.alive(ts1)
	for kind, want := range s.sendJunk(t, "127.5.0.1") {
		s.untilMetric(t, refused(kind), float64(want))
	}
	if id := s.explain(t, "alice").Identity; id.Said != "alice" {
		t.Errorf("the admin socket answers %+v", id)
	}

	for i, c := range crowd {
		if i%2 == 0 {
			_ = c.(*net.TCPConn).SetLinger(0) // vanishes with a reset
		}
		c.Close()
	}
	s.untilMetric(t, refused("gone"), float64(n))
	s.untilMetric(t, "rdpbroker_connections_open", 2)
	crowd = nil
	s.until(t, "the goroutines are gone", func() bool { return runtime.NumGoroutine() <= threads+50 })
	after := memory()
	t.Logf("memory: %d KiB before, %d KiB after", before>>10, after>>10)
	if after > before+16<<20 {
		t.Errorf("%d KiB of memory have not come back", (after-before)>>10)
	}
	noPanic(t, s)
}

// memory is what the process holds after everything unused was given back.
func memory() uint64 {
	runtime.GC()
	runtime.GC() // pools keep things over one collection
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapInuse + m.StackInuse
}

// noPanic: a panic would have ended the process, but one that somebody catches
// would at least be said.
func noPanic(t *testing.T, s *stack) {
	t.Helper()
	if lines := s.logged(zapcore.ErrorLevel, ""); len(lines) > 0 {
		t.Errorf("errors in the log: %v", lines)
	}
}

// TestSlowClients are turned away when their time is over, however they spend it,
// and nobody waits for them.
func TestSlowClients(t *testing.T) {
	t.Parallel()
	ts1 := startWindows(t, "ts1", full(9))
	o := newOffice(t, ts1)
	o.top += "limits: {first_packet: 1s}\n"
	s := o.open(t)
	const silent, loris = 20, 20
	stop := make(chan struct{})
	var drips sync.WaitGroup
	defer drips.Wait()
	defer close(stop)
	var all []*caller
	for i := range silent + loris {
		c := s.dial(t, fmt.Sprintf("127.6.0.%d", i+1))
		all = append(all, c)
		if i < silent {
			continue
		}
		drips.Go(func() {
			for _, b := range named(strings.Repeat("x", 200)) {
				if _, err := c.Write([]byte{b}); err != nil {
					return
				}
				select {
				case <-stop:
					return
				case <-time.After(50 * time.Millisecond):
				}
			}
		})
	}
	good := s.call(t, "", "alice")
	good.connected()
	good.alive(ts1)
	for _, c := range all {
		c.ended()
	}
	s.untilMetric(t, refused("slow"), silent+loris)
	noPanic(t, s)
}

// TestJunk of all kinds, and requests that are nearly right: every connection is
// accounted for, and users are served meanwhile and afterwards.
func TestJunk(t *testing.T) {
	t.Parallel()
	ts1 := startWindows(t, "ts1", full(500))
	o := newOffice(t, ts1)
	o.wait = "0s"
	o.top += "limits: {first_packet: 1s, per_client: 1000, pending_per_client: 1000}\nidentity: {trusted_clients: [127.0.0.0/8]}\n"
	s := o.open(t)
	for kind, want := range s.sendJunk(t, "") {
		s.untilMetric(t, refused(kind), float64(want))
	}

	const rounds = 400
	random := rand.New(rand.NewPCG(1, 2))
	var clients sync.WaitGroup
	for range rounds {
		b := mutate(random, named("alice"))
		half := random.IntN(2) == 0
		c := s.dial(t, "")
		clients.Go(func() {
			defer c.Close()
			_, _ = c.Write(b)
			if half {
				_ = c.Conn.(*net.TCPConn).CloseWrite()
			}
			_ = c.SetReadDeadline(time.Now().Add(2 * time.Second))
			_, _ = c.Read(make([]byte, 64)) // an answer, or the end
		})
	}
	good := s.call(t, "", "bob")
	good.connected()
	good.alive(ts1)
	clients.Wait()
	s.untilMetric(t, "rdpbroker_connections_open", 1)
	good.Close()
	s.untilMetric(t, "rdpbroker_connections_open", 0)
	if got := s.metric(t, "rdpbroker_connections_accepted_total"); got != float64(len(junk)+rounds+1) {
		t.Errorf("%v connections accepted", got)
	}
	noPanic(t, s)
	last := s.call(t, "", "carol")
	last.connected()
	last.alive(ts1)
}

// mutate makes a few bytes of b wrong, or leaves some out, or puts some in.
func mutate(random *rand.Rand, b []byte) []byte {
	for range 1 + random.IntN(4) {
		i := random.IntN(len(b))
		switch random.IntN(4) {
		case 0:
			b[i] = byte(random.Uint32())
		case 1:
			b[i] ^= 1 << random.IntN(8)
		case 2:
			b = append(b[:i:i], b[min(len(b), i+random.IntN(6)):]...)
		case 3:
			b = append(b[:i:i], append([]byte(strings.Repeat("\xff", random.IntN(300))), b[i:]...)...)
		}
		if len(b) == 0 {
			return []byte{3}
		}
	}
	return b
}

// TestDescriptorsPerConnection: as many as the broker warns of at its start.
func TestDescriptorsPerConnection(t *testing.T) {
	const connections, each = 50, 6
	open := func() int {
		fds, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Skip("this system does not tell: ", err)
		}
		return len(fds)
	}
	o := newOffice(t, startWindows(t, "ts1", full(2*connections)))
	o.top += "limits: {connections: 1000000}\nidentity: {trusted_clients: [127.0.0.0/8]}\n"
	s := o.open(t)
	if said := s.logged(zapcore.WarnLevel, "limits.connections"); len(said) != 1 || said[0].ContextMap()["needed"] != uint64(1000000*each+200) {
		t.Errorf("it says %v", said)
	}
	before := open()
	for i := range connections {
		s.call(t, "", fmt.Sprintf("user%02d", i)).connected()
	}
	s.untilMetric(t, "rdpbroker_connections_open", connections)
	// The client's end and the host's are in this process too.
	if got := float64(open()-before)/connections - 2; got > each+.5 {
		t.Errorf("%.1f descriptors for each connection", got)
	} else {
		t.Logf("%.1f descriptors for each connection", got)
	}
}

// TestTooMany: beyond the limit nobody gets in, and when somebody leaves the next one does.
func TestTooMany(t *testing.T) {
	t.Parallel()
	ts1 := startWindows(t, "ts1", full(9))
	o := newOffice(t, ts1)
	o.top += "limits: {connections: 3}\n"
	s := o.open(t)
	first := s.call(t, "127.0.0.1", "alice")
	first.connected()
	s.call(t, "127.0.0.2", "bob").connected()
	s.call(t, "127.0.0.3", "carol").connected()
	s.dial(t, "127.0.0.4").ended()
	s.untilMetric(t, refused("too-many"), 1)
	first.Close()
	s.untilMetric(t, "rdpbroker_connections_open", 2)
	s.call(t, "127.0.0.4", "dave").connected()
}
