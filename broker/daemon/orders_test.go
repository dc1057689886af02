package daemon_test

import (
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/rdpbroker/rdpbroker/broker/daemon"
	"github.com/rdpbroker/rdpbroker/sessions"
)

// TestOrdersOutliveARestart: what an operator keeps is kept by the next broker,
// and a host that they drain stays drained.
func TestOrdersOutliveARestart(t *testing.T) {
	t.Parallel()
	ts1, ts2 := startWindows(t, "ts1", full(1), away("bob", time.Hour)), startWindows(t, "ts2", full(1))
	o := newOffice(t, ts1, ts2)
	o.wait = "0s"
	s := o.open(t)
	on := true
	if err := s.Broker().Keep(s.sessionOf(t, "ts1", "bob"), time.Now().Add(time.Hour), "anna"); err != nil {
		t.Fatal(err)
	}
	if err := s.Broker().Drain("ts2", &on, "anna"); err != nil {
		t.Fatal(err)
	}
	if !s.Snapshot().Host("ts2").Draining() {
		t.Error("the picture does not show that ts2 is drained")
	}
	s.stop()
	s.finish(t)

	s = o.open(t)
	s.call(t, "", "alice").closed()
	if !ts1.has("bob") || len(s.Broker().Kept()) != 1 || !s.Snapshot().Host("ts2").Draining() {
		t.Errorf("after the restart: kept %+v, drains %v", s.Broker().Kept(), s.Broker().Drains())
	}
	if err := s.Broker().Drain("ts2", nil, "anna"); err != nil {
		t.Fatal(err)
	}
	s.call(t, "", "alice").connected()
}

// sessionOf names the user's session as it was read.
func (s *stack) sessionOf(t *testing.T, host, user string) sessions.Ref {
	t.Helper()
	for _, x := range s.Snapshot().Host(host).Report.Sessions {
		if x.Account.User == user {
			return sessions.RefOf(host, x)
		}
	}
	t.Fatalf("%s has no session on %s", user, host)
	return sessions.Ref{}
}

func TestABrokenStateFileIsSaidLoudly(t *testing.T) {
	t.Parallel()
	o := newOffice(t, startWindows(t, "ts1", full(1)))
	o.write(t, "state.json", "{")
	s := o.open(t)
	if lines := s.logged(zapcore.ErrorLevel, "orders are LOST"); len(lines) != 1 || !strings.Contains(lines[0].ContextMap()["error"].(string), "state.json.broken") {
		t.Errorf("the log says %+v", lines)
	}
	if text, err := os.ReadFile(o.path("state.json.broken")); err != nil || string(text) != "{" {
		t.Errorf("the broken file: %q, %v", text, err)
	}
}

// What cannot be read may be right: nothing is begun without it.
func TestAStateFileThatCannotBeRead(t *testing.T) {
	t.Parallel()
	o := newOffice(t, startWindows(t, "ts1", full(1)))
	if err := os.Mkdir(o.path("state.json"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := daemon.New(o.parse(t), daemon.Options{Log: zap.NewNop()}); err == nil || !strings.HasPrefix(err.Error(), "state_file: ") {
		t.Errorf("New: %v", err)
	}
}
