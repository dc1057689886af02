package daemon_test

import (
	"context"
	"errors"
	"os/user"
	"strings"
	"testing"
	"time"

	"github.com/rdpbroker/rdpbroker/broker/admin"
	"github.com/rdpbroker/rdpbroker/broker/admin/client"
	"github.com/rdpbroker/rdpbroker/broker/audit"
	"github.com/rdpbroker/rdpbroker/sessions/simhost"
)

// ask is the admin socket of s.
func (s *stack) ask() *client.Client { return client.NewClient(s.office.path("admin.sock")) }

// target is a user's session as the API shows it.
func (s *stack) target(t *testing.T, host, name string) client.Target {
	t.Helper()
	list, err := s.ask().Sessions(t.Context(), admin.Filter{Host: host, User: name})
	if err != nil || len(list.Sessions) != 1 {
		t.Fatalf("sessions of %s on %s: %+v, %v", name, host, list.Sessions, err)
	}
	x := list.Sessions[0]
	return client.Target{Host: host, Session: true, ID: x.ID, Key: x.Key}
}

// TestOperatorsOrdersOverTheSocket: what is ordered there is done, and the audit
// names the user of the machine who ordered it.
func TestOperatorsOrdersOverTheSocket(t *testing.T) {
	t.Parallel()
	ts1 := startWindows(t, "ts1", full(3), away("bob", time.Hour), away("carol", 2*time.Hour))
	o := newOffice(t, ts1)
	o.wait = "0s"
	s := o.open(t)
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	by := me.Username + " (socket)"

	alice := s.call(t, "", "alice")
	alice.connected()
	conns, err := s.ask().Connections(t.Context(), "")
	if err != nil || len(conns.Connections) != 1 || conns.Connections[0].Host != "ts1" || conns.Connections[0].Said != "alice" {
		t.Errorf("connections: %+v, %v", conns, err)
	}
	// Bytes are counted when the kernel has them, which may be after the client has.
	for late := time.Now().Add(20 * time.Second); err == nil && len(conns.Connections) == 1; time.Sleep(5 * time.Millisecond) {
		if x := conns.Connections[0]; x.ToHost != nil && *x.ToHost > 0 && *x.ToClient > 0 {
			break
		}
		if time.Now().After(late) {
			t.Fatalf("the bytes of the connection are not counted: %+v", conns.Connections[0])
		}
		conns, err = s.ask().Connections(t.Context(), "")
	}

	if _, err := s.ask().Drain(t.Context(), "ts1", true); err != nil {
		t.Fatal(err)
	}
	hosts, err := s.ask().Hosts(t.Context())
	if err != nil || !hosts.Hosts[0].Draining {
		t.Errorf("after drain: %+v, %v", hosts, err)
	}
	s.call(t, "", "erin").closed()
	if _, err := s.ask().Drain(t.Context(), "ts1", false); err != nil {
		t.Fatal(err)
	}
	if len(s.Broker().Drains()) != 0 {
		t.Errorf("what was taken back is still an order: %v", s.Broker().Drains())
	}
	if _, err := s.ask().Drain(t.Context(), "ts9", true); err == nil || !strings.Contains(err.Error(), "ts9") {
		t.Errorf("draining a host that is none: %v", err)
	}

	bob := s.target(t, "ts1", "bob")
	if _, err := s.ask().Keep(t.Context(), bob, time.Hour); err != nil {
		t.Fatal(err)
	}
	if _, err := s.ask().Logoff(t.Context(), bob); err == nil || !strings.Contains(err.Error(), "kept by "+by) {
		t.Errorf("logging off who is kept: %v", err)
	}
	if _, err := s.ask().Logoff(t.Context(), s.target(t, "ts1", "carol")); err != nil {
		t.Errorf("logging off carol: %v", err)
	}
	if ts1.has("carol") || !ts1.has("bob") {
		t.Error("the wrong one is gone")
	}
	if _, err := s.ask().Unkeep(t.Context(), bob); err != nil {
		t.Error(err)
	}

	if _, err := s.ask().SetEviction(t.Context(), "off"); err != nil {
		t.Fatal(err)
	}
	st, err := s.ask().Status(t.Context())
	if err != nil || st.Farms[0].Eviction != "off" || st.Farms[0].Configured == "" {
		t.Errorf("status: %+v, %v", st, err)
	}
	decided, err := s.ask().Decisions(t.Context(), 1000)
	if err != nil {
		t.Fatal(err)
	}
	ordered := map[audit.Event]int{}
	for _, r := range decided.Records {
		if r.By != "" && r.By != by {
			t.Errorf("%s was ordered by %q, want %q", r.Event, r.By, by)
		}
		if r.By != "" {
			ordered[r.Event]++
		}
	}
	for _, e := range []audit.Event{audit.DrainSet, audit.KeepSet, audit.KeepEnded, audit.ModeSet, audit.Evicting, audit.Evicted} {
		if ordered[e] == 0 {
			t.Errorf("no record of %s names who ordered it: %v", e, ordered)
		}
	}
	alice.Close()
	s.until(t, "the connection is over", func() bool {
		c, err := s.ask().Connections(t.Context(), "")
		return err == nil && len(c.Connections) == 0
	})
}

// TestReloadTellsBefore: a dry run says what would be lost and changes nothing.
func TestReloadTellsBefore(t *testing.T) {
	t.Parallel()
	ts1, ts2 := startWindows(t, "ts1", full(2), away("bob", time.Hour)), startWindows(t, "ts2", full(3))
	o := newOffice(t, ts1, ts2)
	o.write(t, "broker.yaml", o.yaml(t))
	s := o.open(t)
	dry, err := s.ask().Reload(t.Context(), true)
	if err != nil || dry.Applied || len(withoutWarnings(dry)) != 0 {
		t.Errorf("nothing has changed, and a reload would change %+v, %v", dry, err)
	}

	o.hosts = []*windows{ts2}
	ts2.Model().Configure(func(opt *simhost.Options) { opt.Slots = 2 })
	ts2.keys = "drain: true, "
	o.wait = "7s"
	o.write(t, "broker.yaml", o.yaml(t))
	dry, err = s.ask().Reload(t.Context(), true)
	if err != nil || dry.Applied || dry.Slots != -3 {
		t.Errorf("a dry run: %+v, %v", dry, err)
	}
	var told []string
	for _, c := range withoutWarnings(dry) {
		told = append(told, c.Kind+": "+c.What)
	}
	all := strings.Join(told, "\n")
	for _, want := range []string{
		"lost: host ts1 of farm office is gone, with 2 slots; 1 user has a session there and will not get back to it",
		"lost: host ts2 has 2 slots instead of 3",
		"changed: host ts2: drain is true",
		"changed: farm office: wait is 7s instead of ",
	} {
		if !strings.Contains(all, want) {
			t.Errorf("no %q in\n%s", want, all)
		}
	}
	if len(s.Snapshot().Hosts) != 2 {
		t.Fatal("a dry run has changed something")
	}
	done, err := s.ask().Reload(t.Context(), false)
	if err != nil || !done.Applied || len(s.Snapshot().Hosts) != 1 {
		t.Errorf("the reload: %+v, %v", done, err)
	}

	o.write(t, "broker.yaml", "listen: []\n")
	var answer *client.AnswerError
	if _, err := s.ask().Reload(t.Context(), false); !errors.As(err, &answer) || answer.Status != 409 || !strings.Contains(err.Error(), "nothing was changed") {
		t.Errorf("a reload of a file with a mistake: %v", err)
	}
	if r := s.recent(t)[0]; r.Event != audit.Reloaded || r.Error == "" || r.By == "" {
		t.Errorf("the audit says %+v", r)
	}
}

func withoutWarnings(c admin.Changes) (out []admin.Change) {
	for _, x := range c.Changes {
		if x.Kind != admin.ChangeWarning {
			out = append(out, x)
		}
	}
	return out
}

func (s *stack) recent(t *testing.T) []audit.Record {
	t.Helper()
	d, err := s.ask().Decisions(t.Context(), 10)
	if err != nil || len(d.Records) == 0 {
		t.Fatal(d, err)
	}
	return d.Records
}

// TestEventsOverTheSocket: whoever listens hears of a decision.
func TestEventsOverTheSocket(t *testing.T) {
	t.Parallel()
	s := newOffice(t, startWindows(t, "ts1", full(1))).open(t)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	heard := make(chan client.Event, 100)
	done := make(chan error, 1)
	go func() { done <- s.ask().Events(ctx, 0, func(e client.Event) { heard <- e }) }()
	s.call(t, "", "alice").connected()
	for {
		select {
		case e := <-heard:
			if e.Record.Event == audit.Decided && e.Record.Identity.Said == "alice" && e.Record.Decision.Host == "ts1" {
				cancel()
				if err := <-done; !errors.Is(err, context.Canceled) {
					t.Errorf("Events: %v", err)
				}
				return
			}
		case err := <-done:
			t.Fatalf("the stream ended: %v", err)
		}
	}
}
