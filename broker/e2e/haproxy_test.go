package e2e

import (
	"net"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/rdpbroker/rdpbroker/deploy/testlab"
	"github.com/rdpbroker/rdpbroker/rdpproxy/x224"
)

// TestHAProxyInFront runs HAProxy with the very lines of the guide in front of a
// broker: the client's own address arrives, and nobody gets in past HAProxy.
func TestHAProxyInFront(t *testing.T) {
	t.Parallel()
	testlab.Require(t, "haproxy")
	guide, err := os.ReadFile("../../docs/guides/load-balancers.md")
	if err != nil {
		t.Fatal(err)
	}
	block := regexp.MustCompile("(?s)```haproxy\n(.*?)```").FindSubmatch(guide)
	if block == nil {
		t.Fatal("the guide has no configuration for HAProxy")
	}

	s := newSite(t, "ts1")
	text, err := os.ReadFile(s.path("broker.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	// HAProxy connects from 127.0.0.1, the client below from 127.0.0.77.
	s.write("broker.yaml", strings.Replace(string(text), "farm: office}]", "farm: office, proxy_protocol: [127.0.0.1/32]}]", 1))
	broker, addr := s.serve()

	front := freePort(t)
	lines := strings.NewReplacer(
		"bind :3389", "bind "+front,
		"10.0.0.11:3390", addr,
		"10.0.0.12:3390", "127.0.0.1:9", // the one that is away
	).Replace(string(block[1]))
	s.write("haproxy.cfg", lines)
	if out, err := exec.Command("haproxy", "-c", "-f", s.path("haproxy.cfg")).CombinedOutput(); err != nil {
		t.Fatalf("haproxy does not take the guide's lines: %v\n%s", err, out)
	}
	haproxy := startCommand(t, exec.Command("haproxy", "-db", "-f", s.path("haproxy.cfg")))
	s.until("HAProxy listens", func() bool {
		c, err := net.Dial("tcp", front)
		if err == nil {
			c.Close()
		}
		return err == nil
	})

	from := &net.TCPAddr{IP: net.ParseIP("127.0.0.77")}
	to, err := net.ResolveTCPAddr("tcp", front)
	if err != nil {
		t.Fatal(err)
	}
	c, err := net.DialTCP("tcp", from, to)
	if err != nil {
		t.Fatal(err)
	}
	ask(t, c, "alice")
	if _, err := x224.ReadTPKT(c, x224.MaxPacket); err != nil {
		t.Fatal(err)
	}
	c.Close()
	s.until("the audit file has the client's own address", func() bool {
		b, err := os.ReadFile(s.path("audit.jsonl"))
		return err == nil && strings.Contains(string(b), `"said":"alice"`) && strings.Contains(string(b), `"client":"127.0.0.77"`)
	})

	// Past HAProxy, from an address that is not its own.
	direct, err := net.ResolveTCPAddr("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	c, err = net.DialTCP("tcp", from, direct)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Error("a connection past HAProxy was answered")
	}
	_ = haproxy.end(s.ctx, syscall.SIGTERM) // it says how it was ended
	if err := broker.end(s.ctx, syscall.SIGTERM); err != nil {
		t.Errorf("the broker ended with %v", err)
	}
}

// freePort is a loopback address on which nobody listened a moment ago.
func freePort(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}
