package rdpproxy

import (
	"io"
	"sync"
	"testing"
	"time"

	"github.com/rdpbroker/rdpbroker/deploy/testlab"
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
