package daemon_test

import (
	"strings"
	"testing"
	"time"

	"github.com/rdpbroker/rdpbroker/broker/audit"
	"github.com/rdpbroker/rdpbroker/broker/placement"
	"github.com/rdpbroker/rdpbroker/rdpproxy/x224"
	"github.com/rdpbroker/rdpbroker/sessions/simhost"
)

// TestAHostWithoutRDP: its sessions can be read, but nobody answers at its port.
// Users are sent elsewhere at once, and back to it when it is there again.
func TestAHostWithoutRDP(t *testing.T) {
	notShort(t) // it is left alone for seconds
	t.Parallel()
	ts1, ts2 := startWindows(t, "ts1", full(9)), startWindows(t, "ts2", full(9))
	gone := listen(t)
	gone.Close()
	right := ts1.rdp
	ts1.rdp = gone.Addr().String()
	s := newOffice(t, ts1, ts2).open(t)
	alice := s.call(t, "", "alice") // ts1 would be the first by name
	alice.connected()
	alice.alive(ts2)
	if got := s.metric(t, `rdpbroker_dial_failures_total{host="ts1"}`); got != 1 {
		t.Errorf("%v failed dials", got)
	}
	if rs := s.Status().Reservations; len(rs) != 1 || rs[0].Host != "ts2" {
		t.Errorf("reservations: %+v", rs)
	}
	// The next one is not even tried there.
	s.call(t, "", "bob").connected()
	if got := s.metric(t, `rdpbroker_dial_failures_total{host="ts1"}`); got != 1 {
		t.Errorf("%v failed dials", got)
	}

	ts1.rdp = right
	s.reload(t)
	s.until(t, "the next one gets to ts1 again", func() bool { return s.explain(t, "carol").Decision.Host == "ts1" })
	carol := s.call(t, "", "carol")
	carol.connected()
	carol.alive(ts1)
}

// TestNoHostWithRDP: the connection ends, the operator reads why, and nothing
// stays reserved.
func TestNoHostWithRDP(t *testing.T) {
	t.Parallel()
	ts1 := startWindows(t, "ts1", full(9))
	gone := listen(t)
	gone.Close()
	ts1.rdp = gone.Addr().String()
	o := newOffice(t, ts1)
	o.wait = "0s"
	s := o.open(t)
	s.call(t, "", "alice").closed()
	refusals := s.recorded(audit.Refused)
	if len(refusals) != 1 || !strings.Contains(refusals[0].Decision.Candidates[0].Why, "cannot be reached: ") {
		t.Errorf("the audit has %+v", refusals)
	}
	if rs := s.Status().Reservations; len(rs) > 0 {
		t.Errorf("reservations: %+v", rs)
	}
}

// TestAHostThatCannotBeRead takes its users back, and nobody new.
func TestAHostThatCannotBeRead(t *testing.T) {
	t.Parallel()
	ts1 := startWindows(t, "ts1", full(9), away("alice", time.Hour))
	o := newOffice(t, ts1)
	o.mode = "text"
	s := o.open(t)
	if got := s.get(t, "/readyz"); got != "ok\n" {
		t.Errorf("/readyz: %s", got)
	}
	ts1.Model().Configure(func(opt *simhost.Options) { opt.Faults = []simhost.Fault{{Kind: simhost.FaultUnauthorized}} })
	s.until(t, "it cannot be read", func() bool { return s.Snapshot().Host("ts1").Problem != "" })
	alice := s.call(t, "", "alice")
	alice.connected()
	alice.alive(ts1)
	if d := s.recorded(audit.Decided); len(d) != 1 || d[0].Decision.Kind != placement.Reconnect {
		t.Errorf("decided: %+v", d)
	}
}

// TestNothingIsReady before a host was read.
func TestNothingIsReady(t *testing.T) {
	t.Parallel()
	s := newOffice(t, unreachable(t, "ts1")).openUnread(t)
	if got := s.get(t, "/readyz"); !strings.Contains(got, "no host has been read lately") {
		t.Errorf("/readyz: %s", got)
	}
	if got := s.get(t, "/healthz"); got != "ok\n" {
		t.Errorf("/healthz: %s", got)
	}
	s.until(t, "it is known to be away", func() bool { return s.Snapshot().Host("ts1").Problem != "" })
	s.call(t, "", "alice")
	s.waiting(t, 1)
	if why := s.whyFirstWaits(); !strings.Contains(why, "no slot is free") {
		t.Errorf("alice waits because %s", why)
	}
}

// TestWhoLeavesWhileWaiting gives the place up, and nothing else happens.
func TestWhoLeavesWhileWaiting(t *testing.T) {
	t.Parallel()
	ts1 := startWindows(t, "ts1", full(1), working("alice"))
	s := newOffice(t, ts1).open(t)
	bob := s.call(t, "127.0.0.2", "bob")
	s.waiting(t, 1)
	carol := s.call(t, "127.0.0.3", "carol")
	s.waiting(t, 2)
	bob.Close()
	s.waiting(t, 1)
	if left := s.recorded(audit.Left); len(left) != 1 || left[0].Identity.Said != "bob" {
		t.Errorf("left: %+v", left)
	}
	ts1.logOff(t, "alice")
	carol.connected()
	s.untilMetric(t, refused("gone"), 1)
	s.untilMetric(t, `rdpbroker_left_total{farm="office"}`, 1)
}

// TestAnAddressIsRemembered: a client that gives no name is taken for whoever was
// last seen at its address, also after a reload.
func TestAnAddressIsRemembered(t *testing.T) {
	t.Parallel()
	ts1, ts2 := startWindows(t, "ts1", full(9)), startWindows(t, "ts2", full(9))
	o := newOffice(t, ts1, ts2)
	o.mode = "text" // read often: she logs on faster than people do
	s := o.open(t)
	s.call(t, "127.0.0.9", "zoe").connected() // on ts1, so that ts2 is next
	alice := s.call(t, "127.0.0.2", "alice")
	alice.connected()
	at := ts2.logOn(t, "alice")
	s.until(t, "she is seen", func() bool { return len(s.recorded(audit.Confirmed)) == 1 })
	at.Disconnect()
	alice.Close()
	s.until(t, "her window is closed", func() bool {
		for _, x := range s.Snapshot().Host("ts2").Report.Sessions {
			if x.Account.User == "alice" {
				return !x.DisconnectedAt.IsZero()
			}
		}
		return false
	})
	s.reload(t)

	silent := s.dial(t, "127.0.0.2")
	silent.say((&x224.Request{Negotiation: &x224.Negotiation{Protocols: x224.ProtocolSSL}}).Append(nil))
	silent.connected()
	silent.alive(ts2)
	if d := s.recorded(audit.Decided); d[len(d)-1].Decision.Kind != placement.Reconnect || d[len(d)-1].Identity.Confidence.String() != "address" {
		t.Errorf("decided: %+v", d[len(d)-1])
	}
	// At another address nobody is known.
	other := s.dial(t, "127.0.0.4")
	other.say((&x224.Request{Negotiation: &x224.Negotiation{Protocols: x224.ProtocolSSL}}).Append(nil))
	other.connected()
	if d := s.recorded(audit.Decided); d[len(d)-1].Decision.Kind != placement.Place || d[len(d)-1].Identity.Confidence.String() != "none" {
		t.Errorf("decided: %+v", d[len(d)-1])
	}
}

// TestAFarmThatIsGone from the file, while its listener is there until a restart:
// nobody gets in, and the operator reads why.
func TestAFarmThatIsGone(t *testing.T) {
	t.Parallel()
	ts1, ts2 := startWindows(t, "ts1", full(2)), startWindows(t, "ts2", full(2))
	ts2.farm = "lab"
	o := newOffice(t, ts1, ts2)
	o.listen = "listen: [{address: '127.0.0.1:0', farm: office}, {address: '127.0.0.1:0', farm: lab}]\n"
	s := o.open(t)
	o.listen = "listen: [{address: '127.0.0.1:0', farm: office}]\n"
	o.hosts = []*windows{ts1}
	s.reload(t)
	c := dialFrom(t, "", s.addrs[1].String())
	c.say(named("alice"))
	c.closed()
	if r := s.recorded(audit.Refused); len(r) != 1 || r[0].Decision.Reason != `farm "lab" has no host` {
		t.Errorf("refused: %+v", r)
	}
	s.call(t, "", "alice").connected()
}
