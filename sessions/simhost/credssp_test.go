package simhost

import (
	"bytes"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rdpbroker/rdpbroker/rdpproxy/x224"
	"github.com/rdpbroker/rdpbroker/sessions"
	"github.com/rdpbroker/rdpbroker/sessions/simhost/nlatest"
)

// guarded is a host that asks everybody for their password before RDP begins.
func guarded(t *testing.T, nla NLA) (h *runningHost, refused func() int) {
	t.Helper()
	var mu sync.Mutex
	n := 0
	h = start(t, Config{
		Name: "essen", Domain: "CONTOSO", Options: Options{Slots: 5},
		RDP: RDP{NLA: nla, Password: func(a sessions.Account) (string, bool) {
			return "geheim€", a.User == "alice" || a.User == "bob"
		}},
		OnEvent: func(e Event) {
			mu.Lock()
			defer mu.Unlock()
			if e.Kind == EventRefused && e.Text == TextPassword {
				n++
			}
		},
	})
	return h, func() int {
		mu.Lock()
		defer mu.Unlock()
		return n
	}
}

func dial(t *testing.T, addr string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(patience))
	return c
}

func TestCredSSP(t *testing.T) {
	const all = x224.ProtocolSSL | x224.ProtocolHybrid | x224.ProtocolHybridEx
	for _, c := range []struct {
		name     string
		nla      NLA
		client   nlatest.Client
		selected x224.Protocol
		accepted bool
	}{
		{"the right password", NLAHybridEx, nlatest.Client{User: "alice", Password: "geheim€"}, x224.ProtocolHybridEx, true},
		{"another name", NLAHybridEx, nlatest.Client{Domain: "CONTOSO", User: "alice2", Password: "geheim€"}, x224.ProtocolHybridEx, false},
		{"its domain", NLAHybridEx, nlatest.Client{Domain: "contoso", User: "bob", Password: "geheim€"}, x224.ProtocolHybridEx, true},
		{"a host that knows no HYBRID_EX", NLAHybrid, nlatest.Client{User: "alice", Password: "geheim€", Protocols: all}, x224.ProtocolHybrid, true},
		{"a client that knows none", NLAHybridEx, nlatest.Client{User: "alice", Password: "geheim€", Protocols: x224.ProtocolHybrid}, x224.ProtocolHybrid, true},
		{"TLS 1.2", NLAHybridEx, nlatest.Client{User: "alice", Password: "geheim€", MaxTLS: tls.VersionTLS12}, x224.ProtocolHybridEx, true},
		{"bound by the key itself", NLAHybridEx, nlatest.Client{User: "alice", Password: "geheim€", Version: 2}, x224.ProtocolHybridEx, true},
		{"a wrong password", NLAHybridEx, nlatest.Client{User: "alice", Password: "geheim"}, x224.ProtocolHybridEx, false},
		{"a wrong password, and no word why", NLAHybrid, nlatest.Client{User: "alice", Password: "geheim", Version: 2}, x224.ProtocolHybrid, false},
		{"nobody", NLAHybridEx, nlatest.Client{User: "mallory", Password: "geheim€"}, x224.ProtocolHybridEx, false},
		{"no name", NLAHybridEx, nlatest.Client{}, x224.ProtocolHybridEx, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			h, refused := guarded(t, c.nla)
			s, err := c.client.Logon(dial(t, h.rdp))
			if err == nil && c.selected == x224.ProtocolHybrid { // the host has not said yes so far; MCS would tell
				_ = s.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
				if _, err = s.Read(make([]byte, 1)); errors.Is(err, io.EOF) {
					err = nlatest.ErrRefused
				} else {
					err = nil
				}
			}
			if (err == nil) != c.accepted || err != nil && !errors.Is(err, nlatest.ErrRefused) {
				t.Errorf("%v", err)
			}
			if err == nil && s.Selected != c.selected {
				t.Errorf("%v was selected", s.Selected)
			}
			if n := refused(); (n == 1) != (!c.accepted && c.client.User != "") || n > 1 {
				t.Errorf("the host tells of %d refusals", n)
			}
		})
	}
}

// Whoever cannot do CredSSP is told so.
func TestNLAIsNoOption(t *testing.T) {
	h, _ := guarded(t, NLAHybridEx)
	confirm, err := nlatest.Client{Protocols: x224.ProtocolSSL}.Request(dial(t, h.rdp))
	if err != nil || !confirm.Failure || confirm.Value != x224.FailureHybridRequired {
		t.Errorf("%+v, %v", confirm, err)
	}
}

// pipe is a client that has written all that it will.
type pipe struct {
	io.Reader
	out bytes.Buffer
}

func (p *pipe) Write(b []byte) (int, error) { return p.out.Write(b) }

func exchange(in []byte) (*pipe, error) {
	p := &pipe{Reader: bytes.NewReader(in)}
	x := &credSSPExchange{conn: p, key: []byte{1, 2}, machine: "essen", password: func(string, string) (string, bool) { return "geheim", true }}
	return p, x.run()
}

func TestCredSSPRefusesWhatItIsNot(t *testing.T) {
	for in, want := range map[string]string{
		"":                               "EOF",
		"300da003020106a406020480090302": "want a negotiate message",
		"3003a00301":                     "TSRequest",
		"3005a003020101":                 "version 1",
		"3084ffffffff":                   "form 0x84",
		"3080":                           "form 0x80",
		"3082ffff":                       "no TSRequest",
		"16030100":                       "no TSRequest",
	} {
		b, err := hex.DecodeString(in)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := exchange(b); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", in, err, want)
		}
	}
}

// FuzzCredSSP: whatever is sent, nobody is let in who has not answered a fresh challenge.
func FuzzCredSSP(f *testing.F) {
	f.Add([]byte("\x30\x0d\xa0\x03\x02\x01\x06\xa4\x06\x02\x04\x80\x09\x03\x02"))
	c, answer := handshake(f, "geheim")
	for _, token := range [][]byte{c.negotiate, answer} {
		p := &pipe{}
		x := &credSSPExchange{conn: p}
		if err := x.send(tsRequest{NegoTokens: []negoToken{{token}}, PubKeyAuth: make([]byte, 48), ClientNonce: make([]byte, 32)}); err != nil {
			f.Fatal(err)
		}
		f.Add(append(p.out.Bytes(), p.out.Bytes()...))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := exchange(b); err == nil {
			t.Error("let in")
		}
	})
}
