// SPDX-License-Identifier: GPL-3.0-only

package probe

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/rdpbroker/rdpbroker/rdpproxy/x224"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// host listens on the loopback and gives each connection to the next of serve;
// the last one gets all further ones. It stops with the test.
func host(t *testing.T, serve ...func(net.Conn)) (addr string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := 0; ; i++ {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			c.SetDeadline(time.Now().Add(10 * time.Second))
			serve[min(i, len(serve)-1)](c)
			c.Close()
		}
	}()
	t.Cleanup(func() { ln.Close(); <-done })
	return ln.Addr().String()
}

// confirming reads a request and answers with c.
func confirming(t *testing.T, c x224.Confirm, then func(*x224.Request, net.Conn)) func(net.Conn) {
	return func(conn net.Conn) {
		o, err := x224.ReadOpening(conn)
		if err != nil {
			t.Errorf("the request: %v", err)
			return
		}
		conn.Write(c.Append(nil))
		if then != nil {
			then(o.Request, conn)
		}
	}
}

func TestRunFails(t *testing.T) {
	negotiated := func(v uint32) x224.Confirm { return x224.Confirm{Negotiated: true, Value: v} }
	failure := func(v uint32) x224.Confirm { return x224.Confirm{Negotiated: true, Failure: true, Value: v} }
	hold := func(_ *x224.Request, c net.Conn) { io.Copy(io.Discard, c) }
	for _, tt := range []struct {
		name    string
		serve   []func(net.Conn)
		options Options
		reached Stage
		text    string
	}{
		{"closes at once", []func(net.Conn){func(net.Conn) {}}, Options{}, StageTCP, "answer to the connection request"},
		{"is no RDP host", []func(net.Conn){func(c net.Conn) { c.Write([]byte("SSH-2.0-OpenSSH\r\n")) }}, Options{}, StageTCP, "answer to the connection request"},
		{"says nothing", []func(net.Conn){func(c net.Conn) { io.Copy(io.Discard, c) }}, Options{Timeout: 200 * time.Millisecond}, StageTCP, `timeout after stage "tcp"`},
		{"wants NLA", []func(net.Conn){confirming(t, failure(5), nil)}, Options{Security: SecurityTLS}, StageTCP, "HYBRID_REQUIRED_BY_SERVER (0x5)"},
		{"fails with an unknown code", []func(net.Conn){confirming(t, failure(77), nil)}, Options{}, StageTCP, "0x4d"},
		{"has TLS only", []func(net.Conn){confirming(t, negotiated(1), hold)}, Options{Security: SecurityNLA}, StageX224, "SSL instead of network level"},
		{"falls back to RDP unasked", []func(net.Conn){confirming(t, negotiated(0), hold)}, Options{Security: SecurityTLS}, StageX224, "standard RDP security instead"},
		{"chooses what was not offered", []func(net.Conn){confirming(t, negotiated(4), hold)}, Options{}, StageX224, "RDSTLS, which was not offered"},
		{"chooses NLA unasked", []func(net.Conn){confirming(t, negotiated(2), hold)}, Options{Security: SecurityTLS}, StageX224, "HYBRID, which was not offered"},
		{"does not speak TLS", []func(net.Conn){confirming(t, negotiated(1), func(_ *x224.Request, c net.Conn) { c.Write([]byte("not TLS at all")) })}, Options{}, StageX224, "TLS: "},
		{"ends in MCS", []func(net.Conn){confirming(t, negotiated(0), func(_ *x224.Request, c net.Conn) { x224.ReadTPKT(c, 4096) })}, Options{Security: SecurityRDP}, StageX224, "MCS Connect Response"},
		{"sends another packet", []func(net.Conn){confirming(t, negotiated(0), func(_ *x224.Request, c net.Conn) {
			x224.ReadTPKT(c, 4096)
			c.Write([]byte{7, 7, 7, 7})
		})}, Options{Security: SecurityRDP}, StageX224, "host's MCS Connect Response"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.options.Addr, tt.options.User, tt.options.Password = host(t, tt.serve...), "alice", "secret"
			r := Run(t.Context(), tt.options)
			if r.Desktop || r.Reached != tt.reached || !strings.Contains(r.Error, tt.text) {
				t.Errorf("desktop %t, reached %q, error %q; want %q and %q", r.Desktop, r.Reached, r.Error, tt.reached, tt.text)
			}
			b, err := json.Marshal(r)
			if err != nil || strings.Contains(string(b), "secret") {
				t.Errorf("%s, %v", b, err)
			}
		})
	}
}

// A host that refuses TLS is asked once more without, as mstsc does.
func TestRunFallsBack(t *testing.T) {
	asked := make(chan x224.Protocol, 2)
	refuse := confirming(t, x224.Confirm{Negotiated: true, Failure: true, Value: x224.FailureSSLNotAllowed},
		func(r *x224.Request, _ net.Conn) { asked <- r.Negotiation.Protocols })
	accept := confirming(t, x224.Confirm{Negotiated: true},
		func(r *x224.Request, _ net.Conn) { asked <- r.Negotiation.Protocols })
	r := Run(t.Context(), Options{Addr: host(t, refuse, accept), User: "alice"})
	if first, second := <-asked, <-asked; first != 0x0b || second != 0 {
		t.Errorf("offered %s, then %s", first, second)
	}
	if r.Protocol != "RDP" || r.Reached != StageX224 {
		t.Errorf("%+v", r)
	}
}

func TestRunNobodyListens(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ln.Close()
	r := Run(t.Context(), Options{Addr: ln.Addr().String(), User: "alice"})
	if r.Error == "" || r.Reached != "" || len(r.Stages) != 0 || r.Stages == nil {
		t.Errorf("%+v", r)
	}
}

func TestRunEndsWithTheContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	addr := host(t, func(c net.Conn) {
		x224.ReadOpening(c)
		cancel()
		io.Copy(io.Discard, c)
	})
	if r := Run(ctx, Options{Addr: addr, User: "alice"}); r.Error != context.Canceled.Error() {
		t.Errorf("error %q", r.Error)
	}
}

func TestRunRefusesBadOptions(t *testing.T) {
	if r := Run(t.Context(), Options{Addr: "nohost", User: "u"}); r.Desktop || !strings.Contains(r.Error, "address") {
		t.Errorf("%+v", r)
	}
}
