package rdpproxy

import (
	"context"
	"io"
	"sync"
	"testing"
	"time"

	"github.com/rdpbroker/rdpbroker/deploy/testlab"
	"github.com/rdpbroker/rdpbroker/rdpproxy/relay"
)

// TestLogonStormOnXRDP: sixty logons at once to a real xrdp, whose backlog is
// 2. Without the pacing about half of them get no answer within ten seconds.
func TestLogonStormOnXRDP(t *testing.T) {
	xrdp := testlab.StartXRDP(t, "storm", "", testlab.XRDPOptions{})
	host := &fakeHost{addr: xrdp.Addr}
	b := newBench(t, Config{MaxPendingPerClient: -1}, host.to())
	var wg sync.WaitGroup
	begun := time.Now()
	for range 60 {
		c := b.dial(t, "")
		wg.Go(func() {
			defer c.Close()
			_ = c.SetDeadline(begun.Add(10 * time.Second))
			if _, err := c.Write(cookie("alice")); err != nil {
				t.Error(err)
				return
			}
			if _, err := io.ReadFull(c, make([]byte, 19)); err != nil {
				t.Errorf("no answer: %v", err)
			}
		})
	}
	wg.Wait()
	t.Logf("all were answered within %s", time.Since(begun))
	b.counts.untilClosed(t, 60)
}

// TestDesktopThroughProxy: a real client gets its desktop on a real host.
func TestDesktopThroughProxy(t *testing.T) {
	testlab.Require(t, "xfreerdp", "Xvfb")
	xrdp := testlab.StartXRDP(t, "desk", "", testlab.XRDPOptions{})
	host := &fakeHost{addr: xrdp.Addr}
	b := newBench(t, Config{}, host.to())
	const user = "rbaccountant1"
	client := testlab.XFreeRDP(t, testlab.StartDisplay(t), testlab.ClientOptions{Addr: b.addr, User: user, Password: xrdp.Users[user]})
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if _, err := xrdp.WaitDesktop(ctx, user); err != nil {
		t.Fatalf("%v\n%s", err, client.Output())
	}
	client.Disconnect()
	for _, line := range b.untilLogged(t, "connection ended", 1) {
		fields := line.ContextMap()
		if n, _ := fields["to_client"].(int64); n > 1000 && fields["identity"] == `mstshash="`+user+`"` && fields["closer"] == relay.CloserClient {
			return
		}
	}
	t.Errorf("no line of a desktop: %v", b.log.All())
}
