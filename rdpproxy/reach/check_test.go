package reach

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"io"
	"math/big"
	"net"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/rdpbroker/rdpbroker/rdpproxy/x224"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// certificate makes one that signs itself.
func certificate(t *testing.T, template *x509.Certificate) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template.SerialNumber = big.NewInt(1)
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// fakeHost answers Connection Requests.
type fakeHost struct {
	// answer is what it says to an offer; nil: it closes the connection.
	answer func(x224.Protocol) *x224.Confirm
	// tls follows if the answer selects TLS; nil: it closes.
	tls *tls.Config
}

// start listens until the test ends. The counter is of accepted connections.
func (h fakeHost) start(t *testing.T) (addr string, accepted *atomic.Int32) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	accepted = new(atomic.Int32)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			accepted.Add(1)
			h.serve(t, c)
		}
	}()
	t.Cleanup(func() { ln.Close(); <-done })
	return ln.Addr().String(), accepted
}

func (h fakeHost) serve(t *testing.T, c net.Conn) {
	defer c.Close()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	o, err := x224.ReadOpening(c)
	if err != nil {
		t.Errorf("the request: %v", err)
		return
	}
	if o.Request.HasCookie || o.Request.Token != nil || o.Request.Negotiation == nil {
		t.Errorf("the request %+v", o.Request)
		return
	}
	a := h.answer(o.Request.Negotiation.Protocols)
	if a == nil {
		return
	}
	c.Write(a.Append(nil))
	if p, ok := a.Selected(); !ok || p == x224.ProtocolRDP || h.tls == nil {
		return
	}
	s := tls.Server(c, h.tls)
	if s.Handshake() == nil {
		io.Copy(io.Discard, s)
	}
}

func selects(p x224.Protocol) *x224.Confirm {
	return &x224.Confirm{Negotiated: true, Flags: 0x1f, Value: uint32(p), SrcRef: 0x1234}
}

func fails(code uint32) *x224.Confirm {
	return &x224.Confirm{Negotiated: true, Failure: true, Value: code}
}

var noPause = Options{Pause: -1}

func TestCheckWindowsWithNLA(t *testing.T) {
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	cert := certificate(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: "ts1.corp.example"}, DNSNames: []string{"ts1.corp.example", "*.farm.example"},
		IPAddresses: []net.IP{net.IPv4(10, 0, 0, 7)}, NotBefore: now.AddDate(0, -1, 0), NotAfter: now.AddDate(0, 5, 0),
	})
	addr, accepted := fakeHost{tls: &tls.Config{Certificates: []tls.Certificate{cert}, MaxVersion: tls.VersionTLS12},
		answer: func(p x224.Protocol) *x224.Confirm {
			for _, best := range []x224.Protocol{x224.ProtocolHybridEx, x224.ProtocolHybrid} {
				if p&best != 0 {
					return selects(best)
				}
			}
			return fails(x224.FailureHybridRequired)
		}}.start(t)

	o := Options{Pause: -1, Now: now, Names: []string{"TS1.corp.example", "a.farm.example", "10.0.0.7", "rdp.example", "b.a.farm.example"}}
	r, err := Check(t.Context(), addr, o)
	if err != nil {
		t.Fatal(err)
	}
	if n := accepted.Load(); n != 4 {
		t.Errorf("%d connections", n)
	}
	for i, want := range []struct {
		offer             Offer
		selected, failure string
	}{
		{OfferHybridEx, "HYBRID_EX", ""}, {OfferHybrid, "HYBRID", ""},
		{OfferSSL, "", "HYBRID_REQUIRED_BY_SERVER"}, {OfferRDP, "", "HYBRID_REQUIRED_BY_SERVER"},
	} {
		a := r.Answers[i]
		if a.Offer != want.offer || a.Selected != want.selected || a.Error != "" || (a.Failure == nil) != (want.failure == "") ||
			a.Failure != nil && (a.Failure.Name != want.failure || a.Failure.Code != 5) {
			t.Errorf("answer %d: %+v", i, a)
		}
	}
	if want := []string{"EXTENDED_CLIENT_DATA_SUPPORTED", "DYNVC_GFX_PROTOCOL_SUPPORTED", "0x04", "RESTRICTED_ADMIN_MODE_SUPPORTED",
		"REDIRECTED_AUTHENTICATION_MODE_SUPPORTED"}; !slices.Equal(r.Answers[0].Flags, want) {
		t.Errorf("flags %q", r.Answers[0].Flags)
	}
	if r.TLS == nil || r.TLS.Version != "TLS 1.2" || r.TLS.Outdated || r.TLS.Error != "" || len(r.TLS.Chain) != 1 {
		t.Fatalf("TLS %+v", r.TLS)
	}
	c := r.TLS.Chain[0]
	if c.CommonName != "ts1.corp.example" || c.Subject != "CN=ts1.corp.example" || !c.SelfSigned || c.Key != "ECDSA P-256" || c.Weak ||
		len(c.SHA256) != 64 || !slices.Equal(c.Addresses, []string{"10.0.0.7"}) || !c.NotAfter.Equal(now.AddDate(0, 5, 0)) {
		t.Errorf("certificate %+v", c)
	}
	want := []Name{{"TS1.corp.example", true}, {"a.farm.example", true}, {"10.0.0.7", true}, {"rdp.example", false}, {"b.a.farm.example", false}}
	if !slices.Equal(r.Names, want) {
		t.Errorf("names %+v", r.Names)
	}

	b, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	var back Result
	if err := json.Unmarshal(b, &back); err != nil || !reflect.DeepEqual(r, back) {
		t.Errorf("through JSON: %v\n%+v\n%+v", err, r, back)
	}
	var out strings.Builder
	if err := r.Summary(&out); err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		"  ok       clients like mstsc get HYBRID_EX (EXTENDED_CLIENT_DATA_SUPPORTED, ",
		"  ok       clients with standard RDP security only are refused: HYBRID_REQUIRED_BY_SERVER\n",
		"  ok       network level authentication (NLA) is demanded\n",
		"  ok       TLS 1.2 with TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256\n",
		"  ok       the certificate is valid until 2026-10-01\n",
		"  warning  the certificate is signed by itself\n           → clients warn their users",
		"  ok       the certificate carries the name a.farm.example\n",
		"  warning  the certificate does not carry the name rdp.example\n           → users who come under this name, through the broker",
	} {
		if !strings.Contains(out.String(), line) {
			t.Errorf("no line %q in\n%s", line, out.String())
		}
	}
	if r.Worst() != LevelWarning {
		t.Errorf("worst %q", r.Worst())
	}
}

func TestCheckHosts(t *testing.T) {
	cert := certificate(t, &x509.Certificate{Subject: pkix.Name{CommonName: "HOST1"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(1, 0, 0)})
	good := &tls.Config{Certificates: []tls.Certificate{cert}}
	always := func(c *x224.Confirm) func(x224.Protocol) *x224.Confirm {
		return func(x224.Protocol) *x224.Confirm { return c }
	}
	for _, tt := range []struct {
		name  string
		host  fakeHost
		worst Level
		lines []string
	}{
		{
			"TLS without NLA, as xrdp",
			fakeHost{tls: good, answer: func(p x224.Protocol) *x224.Confirm { return selects(p & x224.ProtocolSSL) }},
			LevelWarning,
			[]string{
				"ok       clients like mstsc get SSL", "warning  clients with standard RDP security only get standard RDP security",
				"warning  the host does not do network level authentication", "ok       the certificate carries the name host1",
			},
		},
		{
			"NLA for those who can",
			fakeHost{tls: good, answer: nlaIfOffered},
			LevelWarning,
			[]string{"warning  network level authentication (NLA) is done, but not demanded", "ok       clients with standard RDP security only are refused: SSL_REQUIRED"},
		},
		{
			"RDP security layer",
			fakeHost{answer: func(p x224.Protocol) *x224.Confirm {
				if p == x224.ProtocolRDP {
					return selects(p)
				}
				return fails(x224.FailureSSLNotAllowed)
			}},
			LevelWarning,
			[]string{"warning  clients like mstsc are asked to come back with standard RDP security", "warning  the host does not do network level"},
		},
		{
			"no certificate",
			fakeHost{answer: always(fails(x224.FailureSSLNoCertificate))}, LevelFailure,
			[]string{"failure  clients like mstsc are refused: SSL_CERT_NOT_ON_SERVER\n           → the host has no certificate"},
		},
		{
			"a failure without a name",
			fakeHost{answer: always(fails(99))}, LevelFailure, []string{"failure  clients like mstsc are refused: 99\n"},
		},
		{
			"silence",
			fakeHost{answer: always(nil)}, LevelFailure,
			[]string{"failure  clients like mstsc get no answer: the host closed the connection without an answer"},
		},
		{
			"an answer without negotiation",
			fakeHost{answer: always(&x224.Confirm{})}, LevelWarning, []string{"warning  clients like mstsc get standard RDP security"},
		},
		{
			"TLS that fails",
			fakeHost{tls: &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return nil, io.EOF }}, answer: always(selects(x224.ProtocolSSL))},
			LevelFailure, []string{"failure  the TLS handshake failed: "},
		},
		{
			"outdated TLS",
			fakeHost{tls: &tls.Config{Certificates: good.Certificates, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS10}, answer: always(selects(x224.ProtocolSSL))},
			LevelWarning, []string{"warning  TLS 1.0 with TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA is outdated"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			addr, _ := tt.host.start(t)
			r, err := Check(t.Context(), addr, Options{Pause: -1, Names: []string{"host1"}})
			if err != nil {
				t.Fatal(err)
			}
			var out strings.Builder
			r.Summary(&out)
			for _, line := range tt.lines {
				if !strings.Contains(out.String(), line) {
					t.Errorf("no %q in\n%s", line, out.String())
				}
			}
			if r.Worst() != tt.worst {
				t.Errorf("worst %q, want %q:\n%s", r.Worst(), tt.worst, out.String())
			}
		})
	}
}

// nlaIfOffered is a Windows that takes all clients with TLS.
func nlaIfOffered(p x224.Protocol) *x224.Confirm {
	for _, best := range []x224.Protocol{x224.ProtocolHybridEx, x224.ProtocolHybrid, x224.ProtocolSSL} {
		if p&best != 0 {
			return selects(best)
		}
	}
	return fails(x224.FailureSSLRequired)
}

func TestCheckWhatIsNoHost(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			c.Write([]byte("SSH-2.0-OpenSSH_9.2\r\n"))
			c.Close()
		}
	}()
	r, err := Check(t.Context(), ln.Addr().String(), noPause)
	if err != nil || len(r.Answers) != 4 || r.TLS != nil || r.Worst() != LevelFailure {
		t.Errorf("%+v, %v", r, err)
	}
	for _, a := range r.Answers {
		if a.Error == "" || a.Selected != "" || a.Failure != nil {
			t.Errorf("%+v", a)
		}
	}
}

func TestCheckWithoutConnection(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ln.Close()
	for _, addr := range []string{ln.Addr().String(), "no port"} {
		r, err := Check(t.Context(), addr, noPause)
		if err == nil || r.ConnectError == "" || len(r.Answers) != 0 || !strings.Contains(err.Error(), addr) {
			t.Errorf("%s: %+v, %v", addr, r, err)
		}
		f := r.Findings()
		if len(f) != 1 || f[0].Level != LevelFailure || f[0].Advice == "" {
			t.Errorf("%s: %+v", addr, f)
		}
	}
}

// silent accepts connections and says nothing, until the test ends.
func silent(t *testing.T, onAccept func()) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			defer c.Close()
			onAccept()
		}
	}()
	t.Cleanup(func() { ln.Close(); <-done })
	return ln.Addr().String()
}

func TestCheckTimesOut(t *testing.T) {
	addr := silent(t, func() {})
	r, err := Check(t.Context(), addr, Options{Pause: -1, Timeout: 50 * time.Millisecond})
	if err != nil || len(r.Answers) != 4 {
		t.Fatalf("%+v, %v", r, err)
	}
	for _, a := range r.Answers {
		if a.Error != "no answer in time" {
			t.Errorf("%+v", a)
		}
	}
}

func TestCheckEndsWithTheContext(t *testing.T) {
	for name, pause := range map[string]time.Duration{"while it waits for an answer": -1, "between two connections": time.Minute} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			var addr string
			if pause < 0 {
				addr = silent(t, cancel)
			} else {
				h := fakeHost{answer: func(x224.Protocol) *x224.Confirm { cancel(); return fails(5) }}
				addr, _ = h.start(t)
			}
			r, err := Check(ctx, addr, Options{Pause: pause})
			if err == nil || ctx.Err() == nil || len(r.Answers) > 1 {
				t.Errorf("%+v, %v", r, err)
			}
		})
	}
}
