package e2e

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest"

	"github.com/rdpbroker/rdpbroker/broker/audit"
	"github.com/rdpbroker/rdpbroker/broker/config"
	"github.com/rdpbroker/rdpbroker/broker/daemon"
	"github.com/rdpbroker/rdpbroker/deploy/testlab"
	"github.com/rdpbroker/rdpbroker/sessions"
)

// office is a farm of real xrdp hosts with the real broker in front.
type office struct {
	t     *testing.T
	ctx   context.Context
	hosts []*testlab.XRDPHost
	d     *daemon.Daemon
	addr  string // where the broker listens

	mu      sync.Mutex
	records []audit.Record
}

// openOffice starts n xrdp hosts with two slots each, and the broker. extra is
// YAML that is added at the top level.
func openOffice(t *testing.T, n int, wait time.Duration) *office {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	t.Cleanup(cancel)
	o := &office{t: t, ctx: ctx}
	var yaml strings.Builder
	fmt.Fprintf(&yaml, "listen: [{address: '127.0.0.1:0', farm: office}]\nadmin: {socket: %q, metrics: ''}\naudit: {file: ''}\nstate_file: ''\n", filepath.Join(t.TempDir(), "admin.sock"))
	fmt.Fprintf(&yaml, "eviction: {mode: evict, proof: known-user, min_disconnected: 0s, per_host_per_hour: 10, per_client_per_hour: 10}\n")
	fmt.Fprintf(&yaml, "identity: {users: [rbalice, rbbob, rbcarol, rbdave, rbaccountant1]}\n")
	fmt.Fprintf(&yaml, "farms:\n  office:\n    wait: %s\n    hosts:\n", wait)
	for i := range n {
		h := testlab.StartXRDP(t, fmt.Sprintf("lx%d", i+1), "", testlab.XRDPOptions{MaxSessions: 2})
		o.hosts = append(o.hosts, h)
		prefix := "'" + strings.Join(h.Prefix(), "', '") + "'"
		fmt.Fprintf(&yaml, "      - {name: %s, address: '%s', xrdp: {local: true, command_prefix: [%s], poll: 1s}}\n", h.Name, h.Addr, prefix)
	}
	o.start(yaml.String())
	o.waitFor("every host is read", func() bool {
		for _, h := range o.d.Snapshot().Hosts {
			if h.Report == nil {
				return false
			}
		}
		return true
	})
	return o
}

// start runs the broker on this configuration until the test ends.
func (o *office) start(yaml string) {
	o.t.Helper()
	cfg, err := config.Parse("e2e.yaml", []byte(yaml))
	if err != nil {
		o.t.Fatal(err)
	}
	o.d, err = daemon.New(cfg, daemon.Options{
		Log: zaptest.NewLogger(o.t, zaptest.Level(zapcore.InfoLevel), zaptest.WrapOptions(zap.AddStacktrace(zapcore.PanicLevel))),
		OnRecord: func(r audit.Record) {
			o.mu.Lock()
			defer o.mu.Unlock()
			o.records = append(o.records, r)
		},
	})
	if err != nil {
		o.t.Fatal(err)
	}
	addrs, err := o.d.Listen()
	if err != nil {
		o.t.Fatal(err)
	}
	o.addr = addrs[0].String()
	stop, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- o.d.Run(stop, stop) }()
	o.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			o.t.Errorf("the broker ended with %v", err)
		}
	})
}

// events are the records of one kind so far.
func (o *office) events(e audit.Event) []audit.Record {
	o.mu.Lock()
	defer o.mu.Unlock()
	var found []audit.Record
	for _, r := range o.records {
		if r.Event == e {
			found = append(found, r)
		}
	}
	return found
}

func (o *office) waitFor(what string, ok func() bool) {
	o.t.Helper()
	for !ok() {
		select {
		case <-o.ctx.Done():
			o.t.Fatalf("waiting until %s: %v", what, o.ctx.Err())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// connect starts xfreerdp as user on a screen of its own.
func (o *office) connect(addr, user string) (*testlab.Client, *testlab.Display) {
	o.t.Helper()
	d := testlab.StartDisplay(o.t)
	c := testlab.XFreeRDP(o.t, d, testlab.ClientOptions{Addr: addr, User: user, Password: o.hosts[0].Users[user]})
	return c, d
}

// desktop waits until user has a desktop on h and the broker knows the session.
func (o *office) desktop(h *testlab.XRDPHost, user string) testlab.Desktop {
	o.t.Helper()
	desk, err := h.WaitDesktop(o.ctx, user)
	if err != nil {
		o.t.Fatalf("%v\nsesman: %s", err, h.SesmanLog())
	}
	o.inState(h, user, sessions.StateActive)
	return desk
}

// inState waits until the broker's picture shows user's session on h in state.
func (o *office) inState(h *testlab.XRDPHost, user string, state sessions.State) {
	o.t.Helper()
	o.waitFor(fmt.Sprintf("the session of %s on %s is %s", user, h.Name, state), func() bool {
		hs := o.d.Snapshot().Host(h.Name)
		if hs == nil || hs.Report == nil {
			return false
		}
		for _, s := range hs.Report.Sessions {
			if s.Account.User == user && s.State == state {
				return true
			}
		}
		return false
	})
}

// disconnected opens a session of user on h, directly, and closes the window: the
// session stays. It returns when the broker knows.
func (o *office) disconnected(h *testlab.XRDPHost, user string) testlab.Desktop {
	o.t.Helper()
	c, _ := o.connect(h.Addr, user)
	desk := o.desktop(h, user)
	c.Disconnect()
	o.inState(h, user, sessions.StateDisconnected)
	return desk
}

// shows waits until the screen shows host and user of desk, and since when it runs.
func (o *office) shows(d *testlab.Display, c *testlab.Client, desk testlab.Desktop) {
	o.t.Helper()
	want := []string{"HOST " + desk.Host, "USER " + desk.User, "STARTED " + desk.Started.Format("15:04:05")}
	if _, err := d.WaitText(o.ctx, want...); err != nil {
		o.t.Fatalf("%v\nclient: %s", err, c.Output())
	}
}
