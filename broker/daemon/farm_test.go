package daemon_test

import (
	"cmp"
	"context"
	"crypto/tls"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/rdpbroker/rdpbroker/broker/audit"
	"github.com/rdpbroker/rdpbroker/broker/config"
	"github.com/rdpbroker/rdpbroker/broker/daemon"
	"github.com/rdpbroker/rdpbroker/sessions"
	"github.com/rdpbroker/rdpbroker/sessions/simhost"
)

func TestMain(m *testing.M) {
	// The cache of package identity keeps a goroutine for as long as the process lives.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/hashicorp/golang-lru/v2/expirable.NewLRU[...].func1"))
}

// patience is how long anything may take before it counts as hung.
const patience = 30 * time.Second

func notShort(t testing.TB) {
	t.Helper()
	if testing.Short() {
		t.Skip("takes seconds")
	}
}

// manager is who reads the simulated hosts.
var manager = simhost.Manager{Account: sessions.Account{Domain: "CONTOSO", User: "svc-rdpbroker"}, Password: "correct horse"}

// windows is a simulated Windows host that runs, with its ends in broker.yaml.
type windows struct {
	*simhost.Host
	name       string
	rdp, winrm string      // addresses
	tls        *tls.Config // of its WinRM endpoint
	keys       string      // more keys for broker.yaml, such as "weight: 3, "
	farm       string      // "" is the farm office

	mu     sync.Mutex
	events []simhost.Event
}

// startWindows starts a host with these sessions on it.
func startWindows(t testing.TB, name string, opt simhost.Options, seeds ...simhost.Seed) *windows {
	t.Helper()
	w := &windows{name: name, tls: selfSigned(t)}
	var err error
	w.Host, err = simhost.New(simhost.Config{
		Name: name, Domain: "CONTOSO", Options: opt,
		WinRM: simhost.WinRM{Managers: []simhost.Manager{manager}, TLS: w.tls},
		OnEvent: func(e simhost.Event) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.events = append(w.events, e)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Model().Seed(seeds...); err != nil {
		t.Fatal(err)
	}
	rdp, winrm := listen(t), listen(t)
	w.rdp, w.winrm = rdp.Addr().String(), winrm.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx, rdp, winrm) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return w
}

// unreachable is a host that broker.yaml names and that is not there.
func unreachable(t testing.TB, name string) *windows {
	t.Helper()
	h, err := simhost.New(simhost.Config{Name: name})
	if err != nil {
		t.Fatal(err)
	}
	return &windows{Host: h, name: name, rdp: "127.0.0.1:1", winrm: "127.0.0.1:2", tls: selfSigned(t)}
}

func selfSigned(t testing.TB) *tls.Config {
	t.Helper()
	c, err := simhost.SelfSigned(time.Now(), "127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func listen(t testing.TB) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	return ln
}

// happened counts the events of one kind.
func (w *windows) happened(kind simhost.EventKind) (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range w.events {
		if e.Kind == kind {
			n++
		}
	}
	return n
}

// logOn is what becomes of a user whose password the host has accepted.
func (w *windows) logOn(t testing.TB, user string) *simhost.Attachment {
	t.Helper()
	a, err := w.Model().Logon(sessions.Account{Domain: "CONTOSO", User: user}, "PC", localhost, "")
	if err != nil {
		t.Fatalf("%s on %s: %v", user, w.name, err)
	}
	return a
}

// logOff ends all sessions of a user, as the user.
func (w *windows) logOff(t testing.TB, user string) {
	t.Helper()
	w.logOn(t, user).Logoff()
}

// has reports whether the user has a session.
func (w *windows) has(user string) bool {
	for _, x := range w.Model().Sessions() {
		if x.Account.User == user {
			return true
		}
	}
	return false
}

// away is a session whose user has closed the window some time ago.
func away(user string, ago time.Duration) simhost.Seed {
	return simhost.Seed{
		Account: sessions.Account{Domain: "CONTOSO", User: user}, State: sessions.StateDisconnected,
		LogonAgo: ago + time.Hour, DisconnectedAgo: ago,
	}
}

// working is a session whose user sits in front of it.
func working(user string) simhost.Seed {
	return simhost.Seed{Account: sessions.Account{Domain: "CONTOSO", User: user}, State: sessions.StateActive, LogonAgo: time.Hour}
}

// full is a host with slots of the old kind.
func full(slots int) simhost.Options { return simhost.Options{Slots: slots, CountDisconnected: true} }

// office is a broker.yaml in the making.
type office struct {
	dir    string
	top    string // more keys at the top level, a line each
	wait   string
	listen string
	hosts  []*windows
	poll   string
	mode   string // of winrm
}

// newOffice is a farm of hosts, all of whose users may have room made.
func newOffice(t testing.TB, hosts ...*windows) *office {
	o := &office{
		dir: t.TempDir(), wait: "20s", poll: "1s", mode: "auto", hosts: hosts,
		listen: "listen: [{address: '127.0.0.1:0', farm: office}]\n",
		top:    "eviction: {mode: evict, proof: known-user, min_disconnected: 5m}\n",
	}
	o.write(t, "password", manager.Password+"\n")
	return o
}

func (o *office) path(name string) string { return filepath.Join(o.dir, name) }

func (o *office) write(t testing.TB, name, text string) {
	t.Helper()
	if err := os.WriteFile(o.path(name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// yaml is the file. Keys in top that stand below as well are a mistake, but for
// admin, audit, state_file and listen, which go before those here.
func (o *office) yaml(t testing.TB) string {
	t.Helper()
	var y strings.Builder
	y.WriteString(o.top)
	for key, usual := range map[string]string{
		"listen:":     o.listen,
		"admin:":      "admin: {socket: admin.sock, metrics: '127.0.0.1:0'}\n",
		"audit:":      "audit: {file: audit.jsonl}\n",
		"state_file:": "state_file: state.json\n",
	} {
		if !strings.Contains("\n"+o.top, "\n"+key) {
			y.WriteString(usual)
		}
	}
	y.WriteString("farms:\n")
	farms := map[string][]*windows{}
	for _, w := range o.hosts {
		farm := cmp.Or(w.farm, "office")
		farms[farm] = append(farms[farm], w)
	}
	for farm, hosts := range farms {
		fmt.Fprintf(&y, "  %s:\n    wait: %s\n    hosts:\n", farm, o.wait)
		for _, w := range hosts {
			o.write(t, w.name+".pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: w.tls.Certificates[0].Certificate[0]})))
			fmt.Fprintf(&y, "      - {name: %s, address: '%s', slots: %d, %s", w.name, w.rdp, max(1, w.Model().Options().Slots), w.keys)
			fmt.Fprintf(&y, "winrm: {address: 'https://%s', user: '%s', password_file: password, ca_file: %s.pem, poll: %s, mode: %s, text_eviction: true}}\n",
				w.winrm, manager.Account, w.name, o.poll, o.mode)
		}
	}
	return y.String()
}

// parse is the configuration that the file makes.
func (o *office) parse(t testing.TB) *config.Config {
	t.Helper()
	text := o.yaml(t)
	cfg, err := config.Parse(o.path("broker.yaml"), []byte(text))
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return cfg
}

// stack is a broker that runs, and all that it said.
type stack struct {
	*daemon.Daemon
	office *office
	addrs  []net.Addr // where clients connect
	logs   *observer.ObservedLogs
	stop   context.CancelFunc // the first signal
	kill   context.CancelFunc // the second
	ended  chan error         // Run's answer

	mu      sync.Mutex
	records []audit.Record
	changed chan struct{} // closed and replaced at every record
}

// open starts the broker and waits until it has read every host. It is killed
// when the test ends.
func (o *office) open(t testing.TB) *stack {
	t.Helper()
	s := o.openUnread(t)
	s.until(t, "every host is read", func() bool {
		for _, h := range s.Snapshot().Hosts {
			if h.Report == nil || h.Problem != "" {
				return false
			}
		}
		return true
	})
	return s
}

func (o *office) openUnread(t testing.TB) *stack {
	t.Helper()
	core, logs := observer.New(zapcore.InfoLevel)
	s := &stack{office: o, logs: logs, ended: make(chan error, 1), changed: make(chan struct{})}
	d, err := daemon.New(o.parse(t), daemon.Options{
		Log: zap.New(core), Version: "test", OnRecord: s.record,
		ReadConfig: func() (*config.Config, error) { return config.Load(o.path("broker.yaml")) },
	})
	if err != nil {
		t.Fatal(err)
	}
	s.Daemon = d
	if s.addrs, err = d.Listen(); err != nil {
		t.Fatal(err)
	}
	stop, first := context.WithCancel(context.Background())
	kill, second := context.WithCancel(context.Background())
	s.stop, s.kill = first, second
	over := make(chan struct{})
	go func() {
		defer close(over)
		s.ended <- d.Run(stop, kill)
	}()
	t.Cleanup(func() {
		first()
		second()
		<-over
		select {
		case err := <-s.ended:
			if err != nil {
				t.Errorf("Run: %v", err)
			}
		default: // the test has looked
		}
		if t.Failed() {
			all := logs.Filter(func(e observer.LoggedEntry) bool { return !strings.HasPrefix(e.Message, "configuration: ") }).All()
			for _, e := range all[max(0, len(all)-40):] {
				t.Logf("%s %s %v", e.Level, e.Message, e.ContextMap())
			}
		}
	})
	return s
}

func (s *stack) record(r audit.Record) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.records = append(s.records, r)
	close(s.changed)
	s.changed = make(chan struct{})
}

// recorded are the records of one kind so far.
func (s *stack) recorded(e audit.Event) (found []audit.Record) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.records {
		if r.Event == e {
			found = append(found, r)
		}
	}
	return found
}

// until waits for something.
func (s *stack) until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	late := time.After(patience)
	for !ok() {
		s.mu.Lock()
		changed := s.changed
		s.mu.Unlock()
		select {
		case <-changed:
		case <-time.After(10 * time.Millisecond): // not everything is a record
		case <-late:
			t.Fatalf("it never came about that %s; status: %.2000s", what, fmt.Sprintf("%+v", s.Status()))
		}
	}
}

// waiting waits until n callers wait.
func (s *stack) waiting(t testing.TB, n int) {
	t.Helper()
	s.until(t, fmt.Sprintf("%d callers wait", n), func() bool { return len(s.Status().Waiting) == n })
}

// finish waits for the end of Run.
func (s *stack) finish(t testing.TB) {
	t.Helper()
	select {
	case err := <-s.ended:
		if err != nil {
			t.Errorf("Run: %v", err)
		}
	case <-time.After(patience):
		t.Fatal("Run does not return")
	}
}

// reload reads the file as it is now made, as SIGHUP does.
func (s *stack) reload(t testing.TB) {
	t.Helper()
	s.Reload(s.office.parse(t), nil)
}

// logged are the lines of at least this level whose text holds message.
func (s *stack) logged(level zapcore.Level, message string) []observer.LoggedEntry {
	return s.logs.Filter(func(e observer.LoggedEntry) bool {
		return e.Level >= level && strings.Contains(e.Message, message)
	}).All()
}
