package daemon_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rdpbroker/rdpbroker/broker/admin"
	"github.com/rdpbroker/rdpbroker/broker/admin/client"
	"github.com/rdpbroker/rdpbroker/broker/audit"
	"github.com/rdpbroker/rdpbroker/rdpproxy/x224"
)

var localhost = netip.MustParseAddr("127.0.0.1")

// caller is a client as far as its first packet goes.
type caller struct {
	net.Conn
	t testing.TB
}

// dial connects to the broker's first listener from a loopback address, "" for any.
func (s *stack) dial(t testing.TB, from string) *caller {
	t.Helper()
	return dialFrom(t, from, s.addrs[0].String())
}

func dialFrom(t testing.TB, from, to string) *caller {
	t.Helper()
	d := net.Dialer{Timeout: patience}
	if from != "" {
		d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(from)}
	}
	c, err := d.Dial("tcp", to)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(2 * patience))
	return &caller{c, t}
}

// call connects and says who is coming; from as in dial.
func (s *stack) call(t testing.TB, from, cookie string) *caller {
	t.Helper()
	c := s.dial(t, from)
	c.say(named(cookie))
	return c
}

// named is the usual first packet with this cookie.
func named(cookie string) []byte {
	return (&x224.Request{Cookie: cookie, HasCookie: true, Negotiation: &x224.Negotiation{Protocols: x224.ProtocolSSL | x224.ProtocolHybrid}}).Append(nil)
}

func (c *caller) say(b []byte) {
	c.t.Helper()
	if _, err := c.Write(b); err != nil {
		c.t.Fatal(err)
	}
}

// confirmed waits for the host's answer.
func (c *caller) confirmed() error {
	b, err := x224.ReadTPKT(c, x224.MaxPacket)
	if err != nil {
		return fmt.Errorf("reading the host's answer: %w", err)
	}
	answer, err := x224.ParseConfirm(b)
	if err == nil && (answer.Failure || answer.Value != uint32(x224.ProtocolSSL)) {
		err = fmt.Errorf("the host answers %+v", answer)
	}
	return err
}

// connected fails the test unless the host answers.
func (c *caller) connected() {
	c.t.Helper()
	if err := c.confirmed(); err != nil {
		c.t.Fatal(err)
	}
}

// alive fails the test unless c is still connected to the host w: TLS comes about.
// Once for each connection.
func (c *caller) alive(w *windows) {
	c.t.Helper()
	inner := tls.Client(c.Conn, &tls.Config{InsecureSkipVerify: true})
	if err := inner.Handshake(); err != nil {
		c.t.Fatalf("the connection is dead: %v", err)
	}
	block, _ := pem.Decode(w.Certificate())
	if got := inner.ConnectionState().PeerCertificates[0]; !bytes.Equal(got.Raw, block.Bytes) {
		c.t.Errorf("connected to %s, not to %s", got.Subject, w.name)
	}
}

// closed fails the test unless the broker ends the connection without a word.
func (c *caller) closed() {
	c.t.Helper()
	b, err := io.ReadAll(c)
	var timeout net.Error
	if len(b) > 0 || errors.As(err, &timeout) && timeout.Timeout() {
		c.t.Errorf("got %q, %v; want the end", b, err)
	}
}

// ended waits for the end of the connection, however that comes about.
func (c *caller) ended() {
	c.t.Helper()
	_, err := io.Copy(io.Discard, c)
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		c.t.Error("the connection goes on")
	}
}

// metric is the value of one line of /metrics, such as `rdpbroker_refused_total{kind="tls"}`.
// A metric that is not there is 0.
func (s *stack) metric(t testing.TB, name string) float64 {
	t.Helper()
	for line := range strings.Lines(s.get(t, "/metrics")) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			f, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			if err != nil {
				t.Fatal(err)
			}
			return f
		}
	}
	return 0
}

func (s *stack) untilMetric(t testing.TB, name string, want float64) {
	t.Helper()
	var got float64
	s.until(t, fmt.Sprintf("%s is %v, it is %v", name, want, got), func() bool {
		got = s.metric(t, name)
		return got == want
	})
}

func (s *stack) get(t testing.TB, path string) string {
	t.Helper()
	client := http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Get("http://" + s.MetricsAddr().String() + path)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// audited are the records in an audit file, once there are at least n.
func (s *stack) audited(t testing.TB, file string, n int) (records []audit.Record) {
	t.Helper()
	s.until(t, fmt.Sprintf("%s has %d records", file, n), func() bool {
		text, err := os.ReadFile(s.office.path(file))
		if err != nil {
			t.Fatal(err)
		}
		records = nil
		for line := range strings.Lines(string(text)) {
			if !strings.HasSuffix(line, "\n") {
				return false // not written in full yet
			}
			var r audit.Record
			if err := json.Unmarshal([]byte(line), &r); err != nil {
				t.Fatalf("%s has the line %q: %v", file, line, err)
			}
			records = append(records, r)
		}
		return len(records) >= n
	})
	return records
}

// explain is what would become of a client that says this.
func (s *stack) explain(t testing.TB, cookie string) admin.Explanation {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	x, err := client.NewClient(s.office.path("admin.sock")).Explain(ctx, admin.Question{User: cookie})
	if err != nil {
		t.Fatal(err)
	}
	return x
}
