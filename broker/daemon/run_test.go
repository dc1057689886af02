package daemon_test

import (
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap/zapcore"

	"github.com/rdpbroker/rdpbroker/broker/audit"
	"github.com/rdpbroker/rdpbroker/broker/placement"
	"github.com/rdpbroker/rdpbroker/sessions/simhost"
)

// TestTheFirstSignal: nobody new, whoever waits is turned away, and open
// connections go on until they end by themselves.
func TestTheFirstSignal(t *testing.T) {
	t.Parallel()
	ts1 := startWindows(t, "ts1", full(2), working("alice"))
	o := newOffice(t, ts1)
	s := o.open(t)
	bob := s.call(t, "", "bob")
	bob.connected()
	carol := s.call(t, "", "carol")
	s.waiting(t, 1)

	s.stop()
	carol.closed()
	s.until(t, "nobody accepts any more", func() bool {
		c, err := net.Dial("tcp", s.addrs[0].String())
		if err == nil {
			c.Close()
		}
		return err != nil
	})
	s.untilMetric(t, `rdpbroker_refused_total{kind="stopping"}`, 1)
	if left := s.recorded(audit.Left); len(left) != 1 || left[0].Identity.Said != "carol" {
		t.Errorf("the audit has %+v", left)
	}
	bob.alive(ts1)
	if got := s.metric(t, "rdpbroker_connections_open"); got != 1 {
		t.Errorf("%v connections are open", got)
	}
	select {
	case err := <-s.ended:
		t.Fatalf("Run returned with an open connection: %v", err)
	default:
	}
	bob.Close()
	s.finish(t)
	if _, err := os.Lstat(o.path("admin.sock")); !os.IsNotExist(err) {
		t.Errorf("the admin socket is still there: %v", err)
	}
	if cut := s.logged(zapcore.WarnLevel, "open connections were ended"); len(cut) > 0 {
		t.Errorf("it says %v", cut)
	}
}

// TestTheSecondSignal: open connections end at once.
func TestTheSecondSignal(t *testing.T) {
	t.Parallel()
	ts1 := startWindows(t, "ts1", full(2))
	s := newOffice(t, ts1).open(t) // drain_timeout is 8h
	c := s.call(t, "", "alice")
	c.connected()
	s.stop()
	c.alive(ts1)
	s.kill()
	c.ended()
	s.finish(t)
	if cut := s.logged(zapcore.WarnLevel, "open connections were ended"); len(cut) != 1 {
		t.Errorf("it says %v", cut)
	}
}

// TestTheDrainTimeout ends what did not end by itself.
func TestTheDrainTimeout(t *testing.T) {
	t.Parallel()
	ts1 := startWindows(t, "ts1", full(2))
	o := newOffice(t, ts1)
	o.top = "drain_timeout: 1s\n"
	s := o.open(t)
	c := s.call(t, "", "alice")
	c.connected()
	s.stop()
	c.ended()
	s.finish(t)
}

// TestStopsWhileNobodyIsThere: there is nothing to wait for.
func TestStopsWhileNobodyIsThere(t *testing.T) {
	t.Parallel()
	s := newOffice(t, startWindows(t, "ts1", full(2))).open(t)
	s.stop()
	s.finish(t)
}

// TestStopsWhileHostsAreNotThere: neither a dead host nor one that never answers
// keeps the broker from ending.
func TestStopsWhileHostsAreNotThere(t *testing.T) {
	t.Parallel()
	silent := startWindows(t, "ts2", simhost.Options{Slots: 2, Faults: []simhost.Fault{{Kind: simhost.FaultBlackHole}}})
	o := newOffice(t, unreachable(t, "ts1"), silent)
	s := o.openUnread(t)
	s.until(t, "ts1 is known to be away", func() bool { return s.Snapshot().Host("ts1").Problem != "" })
	c := s.call(t, "", "alice")
	s.stop()
	c.closed()
	s.finish(t)
}

// TestTheFirstLook: whoever comes right after the start waits until every host was
// looked at. Else alice would get a second session, and bob would be logged off
// although there is a free slot.
func TestTheFirstLook(t *testing.T) {
	t.Parallel()
	slow := full(3)
	slow.Faults = []simhost.Fault{{Kind: simhost.FaultSlowBody, Times: 1, Pause: time.Millisecond}}
	ts1 := startWindows(t, "ts1", slow, away("alice", time.Hour))
	ts2 := startWindows(t, "ts2", full(1), away("bob", time.Hour))
	o := newOffice(t, ts1, ts2)
	o.top += "identity: {trusted_clients: [127.0.0.0/8]}\n"
	s := o.openUnread(t)
	alice, carol := s.call(t, "", "alice"), s.call(t, "", "carol")
	alice.connected()
	alice.alive(ts1)
	carol.connected()
	carol.alive(ts1)
	for _, r := range s.recorded(audit.Decided) {
		if want := map[string]placement.Kind{"alice": placement.Reconnect, "carol": placement.Place}[r.Identity.Said]; r.Decision.Kind != want {
			t.Errorf("%s: %s, %s", r.Identity.Said, r.Decision.Kind, r.Decision.Reason)
		}
	}
}

// TestTheFirstLookEnds, even if a host does not answer at all.
func TestTheFirstLookEnds(t *testing.T) {
	notShort(t)
	t.Parallel()
	ts1 := startWindows(t, "ts1", simhost.Options{Slots: 2, Faults: []simhost.Fault{{Kind: simhost.FaultBlackHole}}})
	ts2 := startWindows(t, "ts2", full(2))
	s := newOffice(t, ts1, ts2).openUnread(t)
	c := s.call(t, "", "alice")
	c.connected()
	c.alive(ts2)
}

// TestStopsWithinALogoff: whoever waits for a slot that is being freed is turned
// away, and the logoff is let go of.
func TestStopsWithinALogoff(t *testing.T) {
	t.Parallel()
	opt := full(1)
	opt.Logoff.Takes = time.Hour
	ts1 := startWindows(t, "ts1", opt, away("alice", time.Hour))
	o := newOffice(t, ts1)
	o.top += "identity: {users: ['CONTOSO\\bob']}\n"
	s := o.open(t)
	bob := s.call(t, "", "bob")
	s.until(t, "alice is told to go", func() bool { return ts1.happened(simhost.EventLogoffBegan) == 1 })
	s.stop()
	bob.closed()
	s.finish(t)
	// The host was told and has not answered: the last word of the audit is that
	// nobody knows, and it has reached the file.
	text, err := os.ReadFile(o.path("audit.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	if last := lines[len(lines)-1]; !strings.Contains(last, `"event":"eviction-failed"`) {
		t.Errorf("the last line of the audit is %s", last)
	}
}
