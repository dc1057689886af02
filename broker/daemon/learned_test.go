package daemon_test

import (
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap/zapcore"

	"github.com/rdpbroker/rdpbroker/broker/audit"
	"github.com/rdpbroker/rdpbroker/sessions"
)

// TestWhatWasLearnedOutlivesARestart: who sits at an address is known by the next
// broker. A file that makes no sense is put aside, and costs nothing else.
func TestWhatWasLearnedOutlivesARestart(t *testing.T) {
	t.Parallel()
	ts1, ts2 := startWindows(t, "ts1", full(9)), startWindows(t, "ts2", full(9), away("alice", time.Hour))
	o := newOffice(t, ts1, ts2)
	s := o.open(t)
	c := s.call(t, "127.0.0.9", "alice")
	c.connected()
	a := ts2.logOn(t, "alice")
	s.until(t, "her session is seen", func() bool { return len(s.recorded(audit.Confirmed)) == 1 })
	s.stop()
	c.Close()
	s.finish(t)
	a.Disconnect()

	s = o.open(t)
	s.call(t, "127.0.0.9", "").connected()
	d := s.recorded(audit.Decided)[0]
	if got, ok := d.Identity.Account(); !ok || got.User != "alice" || d.Identity.Confidence != sessions.ConfidenceAddress || d.Decision.Host != "ts2" {
		t.Errorf("after the restart: %+v, %s", d.Identity, d.Decision.Reason)
	}
	s.kill()
	s.stop()
	s.finish(t)

	o.write(t, "state.learned.json", "{")
	s = o.open(t)
	if n := len(s.logged(zapcore.WarnLevel, "what was learned of client addresses is lost")); n != 1 {
		t.Errorf("a broken file was logged %d times", n)
	}
	if text, err := os.ReadFile(o.path("state.learned.json.broken")); err != nil || strings.TrimSpace(string(text)) != "{" {
		t.Errorf("the broken file: %q, %v", text, err)
	}
}
