package e2e

import (
	"crypto/tls"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rdpbroker/rdpbroker/broker/audit"
	"github.com/rdpbroker/rdpbroker/deploy/testlab"
	"github.com/rdpbroker/rdpbroker/rdpproxy/x224"
	"github.com/rdpbroker/rdpbroker/sessions"
	"github.com/rdpbroker/rdpbroker/sessions/simhost"
)

// openFullNLA is openNLA with one slot, which bob's session has held for hours.
func openFullNLA(t *testing.T, logoff time.Duration) (*office, *testlab.Shadow) {
	t.Helper()
	return openNLAWith(t, nlaOptions{
		slots:    1,
		seeds:    []simhost.Seed{{Account: sessions.Account{User: "bob"}, LogonAgo: 9 * time.Hour, DisconnectedAgo: 8 * time.Hour}},
		logoff:   simhost.LogoffPlan{Takes: logoff, Shows: sessions.StateDisconnected},
		eviction: "{mode: evict, proof: credentials, without_nla: refuse, per_client_per_hour: 100}",
	})
}

// nlaClient starts xfreerdp through the broker under a version of TLS, "1.2" or "1.3".
func (o *office) nlaClient(version, user, password string) (*testlab.Client, *testlab.Display) {
	o.t.Helper()
	conf := filepath.Join(o.t.TempDir(), "openssl.cnf")
	const text = "openssl_conf = init\n[init]\nssl_conf = ssl\n[ssl]\nsystem_default = tls\n[tls]\nMinProtocol = TLSv%s\nMaxProtocol = TLSv%[1]s\n"
	if err := os.WriteFile(conf, []byte(strings.NewReplacer("%s", version, "%[1]s", version).Replace(text)), 0o600); err != nil {
		o.t.Fatal(err)
	}
	d := testlab.StartDisplay(o.t)
	c := testlab.XFreeRDP(o.t, d, testlab.ClientOptions{
		Addr: o.addr, User: user, Password: password, Extra: []string{"/sec:nla"}, Env: []string{"OPENSSL_CONF=" + conf},
	})
	return c, d
}

// nobodyGone fails if anybody has been, or is to be, logged off.
func (o *office) nobodyGone(after string) {
	o.t.Helper()
	if n := len(o.events(audit.Evicting)); n > 0 {
		o.t.Fatalf("%s: %d sessions were to be logged off", after, n)
	}
}

// desktopOf logs alice on until she sees the host's desktop. On a busy machine the
// shadow server now and then sends a client no picture, and both ends fall silent;
// she does what users do, and connects again.
func (o *office) desktopOf(s *testlab.Shadow, version string) {
	o.t.Helper()
	var err error
	for range 3 {
		c, screen := o.nlaClient(version, "alice", "secret")
		if _, err = screen.WaitText(deadline(o.t, 25*time.Second), "HOST nla1"); err == nil {
			return
		}
		o.t.Logf("no desktop: %v\nclient: %s\nserver: %s", err, c.Output(), s.Output())
		c.Disconnect()
	}
	o.t.Fatal(err)
}

// TestProofByPassword: with the right password the stale session goes, once; with
// a wrong one, or as somebody whom the host does not know, it stays.
func TestProofByPassword(t *testing.T) {
	t.Parallel()
	for _, version := range []string{"1.2", "1.3"} {
		t.Run("TLS "+version, func(t *testing.T) {
			o, s := openFullNLA(t, 500*time.Millisecond)
			for _, c := range []struct{ user, password string }{{"mallory", "secret"}, {"alice", "guess"}} {
				wrong, _ := o.nlaClient(version, c.user, c.password)
				if err := wrong.Wait(o.ctx); err == nil || o.ctx.Err() != nil {
					t.Errorf("%s with %q ended with %v", c.user, c.password, err)
				}
				o.nobodyGone(c.user + " with " + c.password)
			}
			o.desktopOf(s, version)
			if evicting, evicted := o.events(audit.Evicting), o.events(audit.Evicted); len(evicting) != 1 || len(evicted) != 1 || evicted[0].Decision.Victim.Session.Account.User != "bob" {
				t.Errorf("%d logoffs begun, %d done", len(evicting), len(evicted))
			}
		})
	}
}

// TestProofAndASlowLogoff: FreeRDP gives up after 9 s, comes back, and finds room.
func TestProofAndASlowLogoff(t *testing.T) {
	t.Parallel()
	o, s := openFullNLA(t, 12*time.Second)
	first, _ := o.nlaClient("1.3", "alice", "secret")
	if err := first.Wait(o.ctx); err == nil || o.ctx.Err() != nil {
		t.Errorf("the first client ended with %v", err)
	}
	if n := len(o.events(audit.Evicting)); n != 1 {
		t.Fatalf("%d logoffs begun", n)
	}
	o.desktopOf(s, "1.3")
	if n := len(o.events(audit.Evicting)); n != 1 {
		t.Errorf("%d logoffs begun", n)
	}
}

// TestScannersEvictNobody: nmap asks for all that it can get without a password,
// and a client of our own sends what it likes and stops where it likes.
func TestScannersEvictNobody(t *testing.T) {
	t.Parallel()
	testlab.Require(t, "nmap")
	o, s := openFullNLA(t, 0)
	for _, script := range []string{"rdp-ntlm-info", "rdp-enum-encryption"} {
		if direct, through := nmap(t, o.ctx, script, s.Addr), nmap(t, o.ctx, script, o.addr); script == "rdp-ntlm-info" && direct != through {
			t.Errorf("%s directly:\n%s\nthrough the broker:\n%s", script, direct, through)
		}
		o.nobodyGone(script)
	}
	for _, tls12 := range []bool{false, true} {
		for stop := range len(pretences) + 1 {
			o.pretend(tls12, pretences[:stop])
		}
		for range 3 {
			o.pretend(tls12, pretences)
		}
	}
	time.Sleep(time.Second) // whatever was under way
	o.nobodyGone("the pretender")
	if len(o.events(audit.Decided)) == 0 {
		t.Error("nothing was decided")
	}
}

// negotiate is an NTLM NEGOTIATE_MESSAGE in a TSRequest of version 6, [MS-CSSP]
// 2.2.1 and [MS-NLMP] 2.2.1.1, to which a host answers with a CHALLENGE.
var negotiate = append([]byte{
	0x30, 0x37, 0xa0, 0x03, 0x02, 0x01, 0x06, 0xa1, 0x30, 0x30, 0x2e, 0x30, 0x2c, 0xa0, 0x2a, 0x04, 0x28,
}, append([]byte("NTLMSSP\x00\x01\x00\x00\x00\x37\x82\x08\xe2"), make([]byte, 24)...)...)

// pretences are what somebody without a password sends, in the sizes of somebody
// with one: NEGOTIATE, AUTHENTICATE, credentials, MCS up to the Channel Joins.
var pretences = [][]byte{
	negotiate, make([]byte, 433), make([]byte, 118), make([]byte, 467),
	make([]byte, 12), make([]byte, 8), make([]byte, 12), make([]byte, 12), make([]byte, 366),
}

// pretend connects as alice and sends records, each without a look at the answer.
func (o *office) pretend(tls12 bool, records [][]byte) {
	o.t.Helper()
	raw, err := net.Dial("tcp", o.addr)
	if err != nil {
		o.t.Fatal(err)
	}
	defer raw.Close()
	_ = raw.SetDeadline(time.Now().Add(10 * time.Second))
	req := x224.Request{Cookie: "alice", HasCookie: true, Negotiation: &x224.Negotiation{Protocols: x224.ProtocolSSL | x224.ProtocolHybrid | x224.ProtocolHybridEx}}
	if _, err := raw.Write(req.Append(nil)); err != nil {
		o.t.Fatal(err)
	}
	packet, err := x224.ReadTPKT(raw, x224.MaxPacket)
	if err != nil {
		o.t.Fatal(err)
	}
	confirm, err := x224.ParseConfirm(packet)
	if err != nil || confirm.Failure {
		o.t.Fatalf("%+v, %v", confirm, err)
	}
	cfg := &tls.Config{InsecureSkipVerify: true}
	if tls12 {
		cfg.MaxVersion = tls.VersionTLS12
	}
	c := tls.Client(raw, cfg)
	if err := c.Handshake(); err != nil {
		o.t.Fatal(err)
	}
	for i, r := range records {
		if _, err := c.Write(r); err != nil {
			return // refused already
		}
		if i == 0 { // the host's CHALLENGE, so that it gets to what follows
			if _, err := c.Read(make([]byte, 4096)); err != nil {
				o.t.Errorf("no answer to a NEGOTIATE: %v", err)
			}
		}
	}
	_ = raw.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	_, _ = io.Copy(io.Discard, c)
}

// TestWithoutNLARefused: to a host that lets everybody in first, nobody gives way.
func TestWithoutNLARefused(t *testing.T) {
	t.Parallel()
	o, _ := openFullNLA(t, 0)
	d := testlab.StartDisplay(t)
	c := testlab.XFreeRDP(t, d, testlab.ClientOptions{Addr: o.addr, User: "alice", Password: "secret", Extra: []string{"/sec:tls"}})
	if err := c.Wait(o.ctx); err == nil || o.ctx.Err() != nil {
		t.Errorf("the client ended with %v", err)
	}
	o.nobodyGone("a client without NLA")
}
