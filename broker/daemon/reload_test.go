package daemon_test

import (
	"errors"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap/zapcore"

	"github.com/rdpbroker/rdpbroker/broker/audit"
	"github.com/rdpbroker/rdpbroker/broker/config"
	"github.com/rdpbroker/rdpbroker/sessions/simhost"
)

const reloadOK = "rdpbroker_config_last_reload_successful"

// TestReloadOfHosts: a new host gets users, one that is gone gets none, and
// whoever is connected notices nothing.
func TestReloadOfHosts(t *testing.T) {
	t.Parallel()
	ts1, ts2 := startWindows(t, "ts1", full(2), away("bob", time.Hour)), startWindows(t, "ts2", full(2))
	o := newOffice(t, ts1)
	s := o.open(t)
	alice := s.call(t, "", "alice")
	alice.connected() // the last slot of ts1
	reserved := s.Status().Reservations

	o.hosts = []*windows{ts1, ts2}
	s.reload(t)
	s.until(t, "the new host is read", func() bool { h := s.Snapshot().Host("ts2"); return h != nil && h.Report != nil })
	carol := s.call(t, "", "carol")
	carol.connected()
	carol.alive(ts2)
	if now := s.Status().Reservations; len(now) != 2 || now[0].ID != reserved[0].ID {
		t.Errorf("reservations: %+v, before %+v", now, reserved)
	}

	o.hosts = []*windows{ts2}
	s.reload(t)
	if s.Snapshot().Host("ts1") != nil {
		t.Error("the host that is gone is still in the picture")
	}
	dave := s.call(t, "", "dave")
	dave.connected()
	dave.alive(ts2)
	alice.alive(ts1)
	if got := s.metric(t, reloadOK); got != 1 {
		t.Errorf("%s is %v", reloadOK, got)
	}
	if strings.Contains(s.get(t, "/metrics"), `rdpbroker_host_up{farm="office",host="ts1"}`) {
		t.Error("the metrics still have the host that is gone")
	}
}

// TestReloadKeepsWhatDidNotChange: the reading of a host, and who reads it. That
// shows while the host answers nobody: a new driver would have no reading.
func TestReloadKeepsWhatDidNotChange(t *testing.T) {
	t.Parallel()
	ts1, ts2 := startWindows(t, "ts1", full(2), away("bob", time.Hour)), startWindows(t, "ts2", full(2))
	o := newOffice(t, ts1, ts2)
	o.mode = "text" // which notices soon that a host is deaf
	s := o.open(t)
	deaf := func(opt *simhost.Options) { opt.Faults = []simhost.Fault{{Kind: simhost.FaultBadGateway}} }
	ts1.Model().Configure(deaf)
	ts2.Model().Configure(deaf)
	s.until(t, "both hosts are deaf", func() bool {
		return s.Snapshot().Host("ts1").Problem != "" && s.Snapshot().Host("ts2").Problem != ""
	})

	// What concerns the broker only is not the driver's business.
	ts1.keys = "weight: 7, drain: true, "
	// A renewed certificate is: files count by what is in them.
	ts2.tls = selfSigned(t)
	before := s.Snapshot()
	s.reload(t)
	one, two := s.Snapshot().Host("ts1"), s.Snapshot().Host("ts2")
	if one.Report == nil || one.Report != before.Host("ts1").Report {
		t.Errorf("ts1 has lost its reading: %+v", one)
	}
	if one.Host.Weight != 7 || !one.Draining() {
		t.Errorf("ts1 is not as configured: %+v", one.Host)
	}
	if two.Report != nil {
		t.Errorf("ts2 has a reading that its new driver cannot have made")
	}
}

// TestReloadOfRules: what a farm allows is as in the newest file, for those who
// wait already as well.
func TestReloadOfRules(t *testing.T) {
	t.Parallel()
	ts1 := startWindows(t, "ts1", full(1), away("alice", time.Hour))
	o := newOffice(t, ts1)
	o.top = "eviction: {mode: 'off'}\nidentity: {users: [bob]}\n"
	s := o.open(t)
	bob := s.call(t, "", "bob")
	s.waiting(t, 1)
	if why := s.whyFirstWaits(); !strings.Contains(why, "eviction is off") {
		t.Errorf("bob waits because %s", why)
	}

	o.top = "eviction: {mode: shadow, proof: known-user, min_disconnected: 5m}\nidentity: {users: [bob]}\n"
	s.reload(t)
	s.until(t, "the shadow mode counts", func() bool {
		return strings.Contains(s.whyFirstWaits(), `shadow mode would have logged off CONTOSO\alice`)
	})

	o.top = "eviction: {mode: evict, proof: known-user, min_disconnected: 5m, protect: [alice]}\nidentity: {users: [bob]}\n"
	s.reload(t)
	if why := s.whyFirstWaits(); !strings.Contains(why, "no session may be logged off") {
		t.Errorf("bob waits because %s", why)
	}

	o.top = "eviction: {mode: evict, proof: known-user, min_disconnected: 5m}\nidentity: {users: [bob]}\n"
	s.reload(t)
	bob.connected()
	if ts1.has("alice") {
		t.Error("alice is still there")
	}
}

// whyFirstWaits is the reason why the first in the queue is there, "" if nobody is.
func (s *stack) whyFirstWaits() string {
	if w := s.Status().Waiting; len(w) > 0 {
		return w[0].Reason
	}
	return ""
}

// TestReloadOfPeople: who is known, and who is trusted.
func TestReloadOfPeople(t *testing.T) {
	t.Parallel()
	ts1 := startWindows(t, "ts1", full(1), away("alice", time.Hour))
	o := newOffice(t, ts1)
	o.wait = "0s"
	rules := o.top
	s := o.open(t)
	s.call(t, "", "bob").closed() // a stranger
	if why := s.recorded(audit.Refused)[0].Decision.Reason; !strings.Contains(why, "not a known account") {
		t.Errorf("refused because %s", why)
	}

	o.top = rules + "identity: {trusted_clients: [127.0.7.0/24]}\n"
	s.reload(t)
	s.call(t, "127.0.8.1", "bob").closed()
	bob := s.call(t, "127.0.7.1", "bob")
	bob.connected() // in the place of alice

	bob.Close()
	ts1.logOn(t, "bob").Disconnect()
	s.until(t, "bob is seen", func() bool { return len(s.recorded(audit.Confirmed)) == 1 })
	o.top = rules + "identity: {users_file: users.txt}\n"
	o.write(t, "users.txt", "# none\n")
	s.reload(t)
	s.call(t, "127.0.7.1", "carol").closed() // no longer trusted

	// The list alone has changed, not the file that names it.
	o.write(t, "users.txt", "carol\n")
	s.reload(t)
	if id := s.explain(t, "carol").Identity; !id.Known {
		t.Errorf("carol is %+v", id)
	}
}

// TestReloadOfLimits: they count for the next connection.
func TestReloadOfLimits(t *testing.T) {
	t.Parallel()
	s := newOffice(t, startWindows(t, "ts1", full(9))).open(t)
	s.call(t, "", "alice").connected()
	s.call(t, "", "bob").connected()
	s.office.top += "limits: {per_client: 2}\n"
	s.reload(t)
	s.dial(t, "").closed()
	s.untilMetric(t, `rdpbroker_refused_total{kind="too-many-from-client"}`, 1)
	s.call(t, "127.0.0.2", "carol").connected()
}

// TestReloadOfABadFile: everything stays as it was, loudly.
func TestReloadOfABadFile(t *testing.T) {
	t.Parallel()
	ts1, ts2 := startWindows(t, "ts1", full(2)), startWindows(t, "ts2", full(2))
	o := newOffice(t, ts1)
	s := o.open(t)
	timestamp := s.metric(t, "rdpbroker_config_last_reload_success_timestamp_seconds")
	for name, bad := range map[string]func(){
		"a mistake in the file": func() { s.Reload(nil, errors.New("broker.yaml:1:2: listen: is missing")) },
		"a file that it names": func() { // found out only when the drivers are made
			o.hosts = []*windows{ts1, ts2}
			cfg := o.parse(t)
			o.write(t, "ts2.pem", "nonsense")
			s.Reload(cfg, nil)
			o.hosts = []*windows{ts1}
		},
		"the audit file": func() {
			cfg := o.parse(t)
			if err := os.Rename(o.path("audit.jsonl"), o.path("moved")); err != nil {
				t.Fatal(err)
			}
			if err := os.Mkdir(o.path("audit.jsonl"), 0o700); err != nil {
				t.Fatal(err)
			}
			s.Reload(cfg, nil)
			if err := os.Remove(o.path("audit.jsonl")); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			loud := len(s.logged(zapcore.ErrorLevel, "NOT reloaded"))
			bad()
			if got := s.metric(t, reloadOK); got != 0 {
				t.Errorf("%s is %v", reloadOK, got)
			}
			if now := len(s.logged(zapcore.ErrorLevel, "NOT reloaded")); now != loud+1 {
				t.Errorf("%d lines say so", now-loud)
			}
			if got := s.metric(t, "rdpbroker_config_last_reload_success_timestamp_seconds"); got != timestamp {
				t.Error("the metrics say that it was read")
			}
			if hosts := s.Snapshot().Hosts; len(hosts) != 1 || hosts[0].Report == nil {
				t.Errorf("hosts: %+v", hosts)
			}
		})
	}
	s.call(t, "", "alice").connected()
	s.reload(t)
	if got := s.metric(t, reloadOK); got != 1 {
		t.Errorf("after a good file %s is %v", reloadOK, got)
	}
	if got := s.metric(t, "rdpbroker_config_last_reload_success_timestamp_seconds"); got <= timestamp {
		t.Error("the metrics do not say that a good file was read")
	}
}

// TestReloadNamesWhatNeedsARestart, each time for as long as it does, and nothing else.
func TestReloadNamesWhatNeedsARestart(t *testing.T) {
	t.Parallel()
	o := newOffice(t, startWindows(t, "ts1", full(2)))
	const listen, admin, log, file, remember = "listen: [{address: '127.0.0.1:0', farm: office}]\n", "admin: {socket: admin.sock, metrics: '127.0.0.1:0'}\n",
		"log: {level: info}\n", "audit: {file: audit.jsonl}\n", "identity: {remember: {entries: 5}}\n"
	o.top = listen + admin + log + file + remember
	s := o.open(t)
	for _, c := range []struct {
		name string
		top  string
		want []string
	}{
		{"nothing", o.top, nil},
		{"what needs none", o.top + "drain_timeout: 1h\nlimits: {pending: 7}\nkeep_alive: {idle: 30s}\neviction: {mode: 'off'}\n", nil},
		{"another address", "listen: [{address: '127.0.0.2:0', farm: office}]\n" + admin + log + file + remember, []string{"listen"}},
		{"the same again", "listen: [{address: '127.0.0.2:0', farm: office}]\n" + admin + log + file + remember, []string{"listen"}},
		{"back", o.top, nil},
		{"one more address", "listen: [{address: '127.0.0.1:0', farm: office}, {address: '127.0.0.2:0', farm: office}]\n" + admin + log + file + remember, []string{"listen"}},
		{"a PROXY header", "listen: [{address: '127.0.0.1:0', farm: office, proxy_protocol: [127.0.0.1/32]}]\n" + admin + log + file + remember, []string{"listen"}},
		{"another socket", listen + "admin: {socket: other.sock, metrics: '127.0.0.1:0'}\n" + log + file + remember, []string{"admin"}},
		{"no metrics", listen + "admin: {socket: admin.sock, metrics: ''}\n" + log + file + remember, []string{"admin"}},
		{"the log level", listen + admin + "log: {level: debug}\n" + file + remember, []string{"log"}},
		{"another audit file", listen + admin + log + "audit: {file: other.jsonl}\n" + remember, []string{"audit.file"}},
		{"no audit file", listen + admin + log + "audit: {file: ''}\n" + remember, []string{"audit.file"}},
		{"the memory", listen + admin + log + file + "identity: {remember: {entries: 6}}\n", []string{"identity.remember"}},
		{"two of them", listen + admin + "log: {format: console}\n" + file + "identity: {remember: {entries: 5, for: 1d}}\n", []string{"log", "identity.remember"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := len(s.logged(zapcore.WarnLevel, "needs a restart"))
			o.top = c.top
			s.reload(t)
			var named []string
			for _, line := range s.logged(zapcore.WarnLevel, "needs a restart")[before:] {
				named = append(named, line.ContextMap()["key"].(string))
			}
			if !slices.Equal(named, c.want) {
				t.Errorf("named: %q, want %q", named, c.want)
			}
		})
	}
	s.call(t, "", "alice").connected() // on the old address, to the old farm
}

// TestReloadOpensTheAuditFileAnew, for logrotate.
func TestReloadOpensTheAuditFileAnew(t *testing.T) {
	t.Parallel()
	o := newOffice(t, startWindows(t, "ts1", full(3)))
	s := o.open(t)
	s.call(t, "", "alice").connected()
	old := s.audited(t, "audit.jsonl", 1)
	if old[0].Event != audit.Decided || old[0].Identity.Said != "alice" || old[0].Decision.Host != "ts1" || len(old[0].Decision.Candidates) == 0 {
		t.Errorf("the first record is %+v", old[0])
	}
	if err := os.Rename(o.path("audit.jsonl"), o.path("audit.jsonl.1")); err != nil {
		t.Fatal(err)
	}
	s.reload(t)
	s.call(t, "", "bob").connected()
	if now := s.audited(t, "audit.jsonl", 2); now[0].Event != audit.Reloaded || now[1].Identity.Said != "bob" {
		t.Errorf("the new file begins with %+v", now[:2])
	}
	if again := s.audited(t, "audit.jsonl.1", 1); len(again) != 1 {
		t.Errorf("the old file has %d records", len(again))
	}
}

// TestReloadAfterAWrongPassword: an operator who has mended it need not wait
// until the driver would try again, which is half an hour.
func TestReloadAfterAWrongPassword(t *testing.T) {
	t.Parallel()
	o := newOffice(t, startWindows(t, "ts1", full(2)))
	o.write(t, "password", "wrong\n")
	s := o.openUnread(t)
	s.until(t, "the password is refused", func() bool { return s.Snapshot().Host("ts1").Problem != "" })
	o.write(t, "password", manager.Password+"\n")
	s.reload(t)
	s.until(t, "the host is read", func() bool { return s.Snapshot().Host("ts1").Report != nil })
}

// TestReloadsBesidesUsers: users come and go, operators ask, and the file is read
// again and again, with an old and a new set of hosts. For the race detector.
func TestReloadsBesidesUsers(t *testing.T) {
	t.Parallel()
	ts1, ts2 := startWindows(t, "ts1", full(50)), startWindows(t, "ts2", full(50))
	o := newOffice(t, ts1, ts2)
	o.top += "identity: {trusted_clients: [127.0.0.0/8]}\n"
	s := o.open(t)
	both := o.parse(t)
	o.hosts = []*windows{ts1}
	one := o.parse(t)

	var users sync.WaitGroup
	for i := range 8 {
		users.Go(func() {
			for range 5 {
				c := s.call(t, "", []string{"anna", "bert", "cara", "dirk", "emma", "fred", "gina", "hugo"}[i])
				if err := c.confirmed(); err != nil {
					t.Error(err)
				}
				c.Close()
			}
		})
	}
	users.Go(func() {
		for range 20 {
			_ = s.get(t, "/metrics")
		}
	})
	gone := make(chan struct{})
	go func() { users.Wait(); close(gone) }()
	for i := 0; ; i++ {
		select {
		case <-gone:
			s.Reload(both, nil)
			return
		default:
		}
		if i%3 == 2 {
			s.Reload(one, nil)
		} else {
			s.Reload(both, nil)
		}
	}
}

// TestReloadReadsTheProtectedAnew: who stands in the list is read with the file, and
// a list that is gone leaves all as it was.
func TestReloadReadsTheProtectedAnew(t *testing.T) {
	t.Parallel()
	ts1 := startWindows(t, "ts1", full(1), away("bob", time.Hour))
	o := newOffice(t, ts1)
	o.wait = "0s"
	o.top = "identity: {users: ['CONTOSO\\alice']}\neviction: {mode: evict, proof: known-user, min_disconnected: 5m, protect_list: protected.txt}\n"
	o.write(t, "protected.txt", "# nobody yet\n")
	s := o.open(t)
	o.write(t, "protected.txt", "CONTOSO\\b*\n")
	s.reload(t)
	s.call(t, "", "alice").closed()
	if err := os.Remove(o.path("protected.txt")); err != nil {
		t.Fatal(err)
	}
	if _, err := config.Parse(o.path("broker.yaml"), []byte(o.yaml(t))); err == nil {
		t.Error("a file whose list of the protected is gone is good")
	}
	s.call(t, "", "alice").closed()
	if !ts1.has("bob") {
		t.Fatal("bob, who is protected, was logged off")
	}
	o.write(t, "protected.txt", "carol\n")
	s.reload(t)
	s.call(t, "", "alice").connected()
}
