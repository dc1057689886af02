package daemon_test

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rdpbroker/rdpbroker/broker/admin"
	"github.com/rdpbroker/rdpbroker/broker/admin/client"
	"github.com/rdpbroker/rdpbroker/broker/audit"
	"github.com/rdpbroker/rdpbroker/broker/placement"
	"github.com/rdpbroker/rdpbroker/rdpproxy/x224"
)

// TestTheConnectionsOfOneLogon share one reservation and one host: mstsc makes
// two or more, at once or one after the other.
func TestTheConnectionsOfOneLogon(t *testing.T) {
	t.Parallel()
	ts1, ts2 := startWindows(t, "ts1", full(3)), startWindows(t, "ts2", full(3))
	s := newOffice(t, ts1, ts2).open(t)

	var together sync.WaitGroup
	pair := []*caller{s.dial(t, ""), s.dial(t, "")}
	for _, c := range pair {
		together.Go(func() {
			if _, err := c.Write(named("alice")); err != nil {
				t.Error(err)
			} else if err := c.confirmed(); err != nil {
				t.Error(err)
			}
		})
	}
	together.Wait()
	host := s.oneReservation(t, `alice`)
	pair[0].Close()
	third := s.call(t, "", "alice") // after the password prompt
	third.connected()
	if again := s.oneReservation(t, `alice`); again != host {
		t.Errorf("the third connection was sent to %s, the others to %s", again, host)
	}
	third.alive(map[string]*windows{"ts1": ts1, "ts2": ts2}[host])
	if n := len(s.recorded(audit.Decided)); n != 1 {
		t.Errorf("%d decisions for one logon", n)
	}

	// Somebody else at the same address is somebody else, on the other host.
	s.call(t, "", "bob").connected()
	if rs := s.Status().Reservations; len(rs) != 2 || rs[0].Host == rs[1].Host {
		t.Errorf("reservations: %+v", rs)
	}
}

// oneReservation fails the test unless there is one, for this account, and returns its host.
func (s *stack) oneReservation(t *testing.T, account string) (host string) {
	t.Helper()
	rs := s.Status().Reservations
	if len(rs) != 1 || rs[0].Account.String() != account {
		t.Fatalf("reservations: %+v", rs)
	}
	return rs[0].Host
}

// TestACutName that only one account can stand for is that account's.
func TestACutName(t *testing.T) {
	t.Parallel()
	ts1 := startWindows(t, "ts1", full(3), away("bob", time.Hour))
	ts2 := startWindows(t, "ts2", full(3), away("administrator", 2*time.Hour), away("carol", time.Hour), away("dave", time.Hour))
	o := newOffice(t, ts1, ts2)
	o.top += "identity: {users: ['CONTOSO\\administrator']}\n"
	s := o.open(t)
	c := s.call(t, "", "Administr")
	c.connected()
	c.alive(ts2) // though ts1 has free slots
	d := s.recorded(audit.Decided)[0]
	if a, ok := d.Identity.Account(); !ok || a.String() != `CONTOSO\administrator` || d.Decision.Kind != placement.Reconnect {
		t.Errorf("%s as %+v: %s", d.Decision.Kind, d.Identity, d.Decision.Reason)
	}
}

// TestACutNameMayMakeRoom for the one account that it stands for.
func TestACutNameMayMakeRoom(t *testing.T) {
	t.Parallel()
	ts1 := startWindows(t, "ts1", full(1), away("bob", time.Hour))
	o := newOffice(t, ts1)
	o.top += "identity: {users: ['CONTOSO\\administrator']}\n"
	s := o.open(t)
	s.call(t, "", `CONTOSO\A`).connected() // also 9 bytes, and its user part is cut to one
	if ts1.has("bob") {
		t.Error("bob is still there")
	}
}

// TestACutNameOfTwo is nobody's, and neither of them is a victim.
func TestACutNameOfTwo(t *testing.T) {
	t.Parallel()
	stale := []string{"administrator", "administratrix"}
	ts1 := startWindows(t, "ts1", full(3), away(stale[0], 9*time.Hour), away(stale[1], 8*time.Hour), away("bob", time.Hour))
	o := newOffice(t, ts1)
	o.wait = "0s"
	rules := o.top
	o.top += "identity: {users: ['CONTOSO\\administrator', 'CONTOSO\\administratrix']}\n"
	s := o.open(t)

	// By the name alone nobody is logged off, and nobody's session is taken.
	s.call(t, "", "Administr").closed()
	refused := s.recorded(audit.Refused)
	if len(refused) != 1 || !strings.Contains(refused[0].Decision.Reason, `"Administr" could be CONTOSO\administrator, CONTOSO\administratrix`) {
		t.Fatalf("refused: %+v", refused)
	}
	// Whoever may have room made all the same, has it made by a third.
	o.top = rules + "identity: {users: ['CONTOSO\\administrator', 'CONTOSO\\administratrix'], trusted_clients: [127.0.0.0/8]}\n"
	s.reload(t)
	s.call(t, "", "Administr").connected()
	if ts1.has("bob") {
		t.Error("bob, the only one who is not meant, is still there")
	}
	// And where there is no third, nobody has to go.
	s.call(t, "127.0.0.3", "Administr").closed()
	for _, user := range stale {
		if !ts1.has(user) {
			t.Errorf("%s has lost the session to somebody of the same beginning", user)
		}
	}
	for _, r := range s.recorded(audit.Evicting) {
		if v := r.Decision.Victim.Session.Account.User; v != "bob" {
			t.Errorf("%s was to be logged off", v)
		}
	}
}

// toAddress is the usual first packet with a routing token to this address.
func toAddress(t *testing.T, addr string) []byte {
	t.Helper()
	line := x224.AppendMSTSToken(nil, netip.MustParseAddrPort(addr))
	return (&x224.Request{Token: line, Negotiation: &x224.Negotiation{Protocols: x224.ProtocolSSL}}).Append(nil)
}

// TestTokens: a client's token leads to a host of the farm and nowhere else.
func TestTokens(t *testing.T) {
	t.Parallel()
	ts1, ts2 := startWindows(t, "ts1", full(9)), startWindows(t, "ts2", full(2))
	elsewhere := startWindows(t, "elsewhere", full(9))
	o := newOffice(t, ts1, ts2)
	s := o.open(t)

	to := s.dial(t, "")
	to.say(toAddress(t, ts2.rdp)) // ts1 would be the first by name
	to.connected()
	to.alive(ts2)

	canary := listen(t)
	visitors := make(chan net.Addr, 10)
	go func() {
		for {
			c, err := canary.Accept()
			if err != nil {
				return
			}
			visitors <- c.RemoteAddr()
			c.Close()
		}
	}()
	for _, addr := range []string{
		canary.Addr().String(), elsewhere.rdp, ts2.winrm, s.addrs[0].String(), "127.0.0.1:22", "255.255.255.255:3389",
		"0.0.0.0:" + port(t, canary.Addr().String()), "127.0.0.2:" + port(t, ts2.rdp),
	} {
		before := len(s.recorded(audit.Decided))
		c := s.dial(t, "")
		c.say(toAddress(t, addr))
		c.connected()
		d := s.recorded(audit.Decided)[before:]
		if len(d) != 1 || d[0].Identity.Host != "" || d[0].Decision.Host == "" {
			t.Errorf("the token to %s: %+v", addr, d)
		}
		c.Close()
	}
	// A name beside a token counts too: it is the session's owner that matters.
	both := s.dial(t, "")
	both.say((&x224.Request{
		Cookie: "alice", HasCookie: true, Negotiation: &x224.Negotiation{Protocols: x224.ProtocolSSL},
		Token: x224.AppendMSTSToken(nil, netip.MustParseAddrPort(canary.Addr().String())),
	}).Append(nil))
	both.connected()
	select {
	case from := <-visitors:
		t.Errorf("the broker connected to the canary from %s", from)
	default:
	}
	if s.Snapshot().Host("elsewhere") != nil {
		t.Error("elsewhere became a host")
	}
}

// TestTwoFarms: each listener leads to its own, whatever a token says.
func TestTwoFarms(t *testing.T) {
	t.Parallel()
	ts1, ts2 := startWindows(t, "ts1", full(2)), startWindows(t, "ts2", full(2), away("alice", time.Hour))
	ts2.farm = "lab"
	o := newOffice(t, ts1, ts2)
	o.listen = "listen: [{address: '127.0.0.1:0', farm: office}, {address: '127.0.0.1:0', farm: lab}]\n"
	s := o.open(t)
	for i, w := range []*windows{ts1, ts2} {
		c := dialFrom(t, "", s.addrs[i].String())
		c.say(named("alice")) // whose session on ts2 is of the other farm
		c.connected()
		c.alive(w)
	}
	c := s.dial(t, "")
	c.say(toAddress(t, ts2.rdp))
	c.connected()
	c.alive(ts1)

	ask := client.NewClient(o.path("admin.sock"))
	_, err := ask.Explain(t.Context(), admin.Question{User: "bob"})
	if err == nil || !strings.Contains(err.Error(), "there are several farms (lab, office), name one") {
		t.Errorf("explain without a farm: %v", err)
	}
	x, err := ask.Explain(t.Context(), admin.Question{User: "alice", Farm: "lab"})
	if err != nil || x.Decision.Host != "ts2" {
		t.Errorf("explain: %+v, %v", x.Decision, err)
	}
}

func port(t *testing.T, addr string) string {
	t.Helper()
	_, p, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestATokenToAFullHost takes nothing that the farm would not give.
func TestATokenToAFullHost(t *testing.T) {
	t.Parallel()
	ts1, ts2 := startWindows(t, "ts1", full(9)), startWindows(t, "ts2", full(1), away("bob", time.Hour))
	s := newOffice(t, ts1, ts2).open(t)
	c := s.dial(t, "")
	c.say(toAddress(t, ts2.rdp))
	c.connected()
	c.alive(ts1)
	if !ts2.has("bob") {
		t.Error("bob was logged off for somebody with a token")
	}
}

// TestBehindALoadBalancer: the client's address is the header's, for limits, for
// trust and for the audit.
func TestBehindALoadBalancer(t *testing.T) {
	t.Parallel()
	ts1 := startWindows(t, "ts1", full(1), away("alice", time.Hour))
	o := newOffice(t, ts1)
	o.listen = "listen: [{address: '127.0.0.1:0', farm: office, proxy_protocol: [127.0.0.1/32]}, {address: '127.0.0.1:0', farm: office}]\n"
	o.wait = "0s"
	o.top += "identity: {trusted_clients: [203.0.113.0/24]}\nlimits: {per_client: 1}\n"
	s := o.open(t)
	via := func(header, cookie string) *caller {
		c := s.dial(t, "127.0.0.1")
		c.say(append([]byte(header), named(cookie)...)) // in one piece: nothing behind the header may be lost
		return c
	}
	v1 := func(client string) string { return fmt.Sprintf("PROXY TCP4 %s 198.51.100.1 40000 3389\r\n", client) }

	via(v1("192.0.2.1"), "bob").closed() // not trusted
	if r := s.recorded(audit.Refused); len(r) != 1 || r[0].Identity.Client.String() != "192.0.2.1" || r[0].Identity.Trusted {
		t.Fatalf("refused: %+v", r)
	}
	bob := via(v1("203.0.113.7"), "bob") // trusted
	bob.connected()
	if d := s.recorded(audit.Evicting); len(d) != 1 || d[0].Identity.Client.String() != "203.0.113.7" {
		t.Errorf("evicting: %+v", d)
	}
	if r := s.Status().Reservations; len(r) != 1 || r[0].Client.String() != "203.0.113.7" {
		t.Errorf("reservations: %+v", r)
	}
	// One connection for each address in a header, however many the balancer has.
	via(v1("203.0.113.7"), "bob").closed()
	s.untilMetric(t, `rdpbroker_refused_total{kind="too-many-from-client"}`, 1)
	// Version 2, over IPv6.
	v2 := "\r\n\r\n\x00\r\nQUIT\n\x21\x21\x00\x24" +
		"\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01" + strings.Repeat("\x00", 16) + "\x9c\x40\x0d\x3d"
	via(v2, "carol").closed()
	s.until(t, "carol is refused", func() bool { return len(s.recorded(audit.Refused)) == 2 })
	if r := s.recorded(audit.Refused)[1]; r.Identity.Client.String() != "2001:db8::1" {
		t.Errorf("carol is at %s", r.Identity.Client)
	}

	// Without a header, from elsewhere, and a header where none belongs.
	via("", "dave").closed()
	s.untilMetric(t, `rdpbroker_refused_total{kind="bad-proxy-header"}`, 1)
	stranger := dialFrom(t, "127.0.0.2", s.addrs[0].String())
	_, _ = stranger.Write(append([]byte(v1("203.0.113.7")), named("eve")...)) // it may be gone already
	stranger.ended()
	s.untilMetric(t, `rdpbroker_refused_total{kind="proxy-untrusted"}`, 1)
	direct := dialFrom(t, "127.0.0.1", s.addrs[1].String())
	_, _ = direct.Write(append([]byte(v1("203.0.113.7")), named("eve")...))
	direct.ended()
	s.untilMetric(t, `rdpbroker_refused_total{kind="proxy-header"}`, 1)
}
