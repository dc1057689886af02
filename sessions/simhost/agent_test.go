package simhost

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rdpbroker/rdpbroker/sessions"
	driver "github.com/rdpbroker/rdpbroker/sessions/winrm"
)

// The simulated agent, through WinRM, with the broker's own driver.

// agentOf runs the driver in mode and hands its reports out.
func agentOf(t *testing.T, h *runningHost, mode driver.Mode) (*driver.Driver, <-chan sessions.Report, <-chan error) {
	t.Helper()
	d, err := driver.New(driver.Config{
		Endpoint: h.winrm, PlainHTTP: true, User: broker.Account.String(), Password: func() (string, error) { return broker.Password, nil },
		Mode: mode, Poll: 50 * time.Millisecond,
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	ended, reports := startWatch(t, d)
	return d, reports, ended
}

// startWatch runs d until the test ends.
func startWatch(t *testing.T, d *driver.Driver) (<-chan error, <-chan sessions.Report) {
	ctx, stop := context.WithCancel(t.Context())
	reports, ended := make(chan sessions.Report, 1000), make(chan error, 1)
	done := make(chan struct{})
	go func() {
		defer close(done)
		ended <- d.Watch(ctx, sessions.Host{Name: "trier"}, func(r sessions.Report) { reports <- r })
	}()
	t.Cleanup(func() { stop(); <-done })
	return ended, reports
}

func await(t *testing.T, reports <-chan sessions.Report, ended <-chan error, fits func(sessions.Report) bool) sessions.Report {
	t.Helper()
	deadline := time.After(patience)
	for {
		select {
		case r := <-reports:
			if fits(r) {
				return r
			}
		case err := <-ended:
			t.Fatalf("Watch ended: %v", err)
		case <-deadline:
			t.Fatal("no such report")
		}
	}
}

func sessionOf(r sessions.Report, user string) (sessions.Session, bool) {
	for _, s := range r.Sessions {
		if strings.EqualFold(s.Account.User, user) {
			return s, true
		}
	}
	return sessions.Session{}, false
}

func agentHost(t *testing.T, change func(*Config)) *runningHost {
	t.Helper()
	cfg := Config{Name: "trier", Options: Options{Slots: 2, CountDisconnected: true}, WinRM: WinRM{Managers: []Manager{broker}, RefusePlain: true}}
	if change != nil {
		change(&cfg)
	}
	h := start(t, cfg)
	if err := h.Model().Seed(
		Seed{Account: user("Jürgen"), ID: 3, LogonAgo: 5 * time.Hour, DisconnectedAgo: 2 * time.Hour, ClientName: "PC-3"},
		Seed{Account: user("bob"), ID: 4, LogonAgo: time.Hour, State: sessions.StateActive},
	); err != nil {
		t.Fatal(err)
	}
	return h
}

func TestAgentOverWinRM(t *testing.T) {
	h := agentHost(t, nil)
	d, reports, ended := agentOf(t, h, driver.ModeAgent)
	r := await(t, reports, ended, func(sessions.Report) bool { return true })
	s, ok := sessionOf(r, "jürgen")
	if !ok || s.State != sessions.StateDisconnected || s.Account.Domain != "CONTOSO" || s.ClientName != "PC-3" {
		t.Fatalf("session %+v", s)
	}
	if away, ok := r.DisconnectedFor(s, r.ReadAt); !ok || away < 2*time.Hour || away > 2*time.Hour+patience {
		t.Errorf("disconnected for %s, %v", away, ok)
	}
	if r.Source != "agent" || r.NoEvict != "" || r.Limit != 2 || r.CountsDisconnected != sessions.Yes || r.OS == "" {
		t.Errorf("report %+v", r)
	}
	began := time.Now()
	if err := h.Model().Disconnect(4); err != nil {
		t.Fatal(err)
	}
	await(t, reports, ended, func(r sessions.Report) bool {
		s, _ := sessionOf(r, "bob")
		return s.State == sessions.StateDisconnected
	})
	t.Logf("from a change to its report through WinRM: %s", time.Since(began))
	if err := d.Evict(t.Context(), sessions.Host{Name: "trier"}, s); err != nil {
		t.Fatal(err)
	}
	await(t, reports, ended, func(r sessions.Report) bool { _, there := sessionOf(r, "jürgen"); return !there })
	asked := time.Now()
	d.Refresh()
	await(t, reports, ended, func(r sessions.Report) bool { return r.ReadAt.After(asked) })
}

// player is an agent that reads m, and says what it has said since it was asked last.
func player(m *Model) (p *agentPlayer, said func() []object) {
	p = &agentPlayer{beat: time.Hour, program: program{stdout: "stdout", console: &console{
		host: &winrmServer{model: m}, who: &Manager{}, command: newCommand(), encode: func(s string) []byte { return []byte(s) }}}}
	p.begun, p.toldAt = time.Now(), time.Now()
	return p, func() (all []object) {
		for _, c := range p.command.output {
			var m object
			if err := json.Unmarshal(c.data, &m); err != nil {
				panic(err)
			}
			all = append(all, m)
		}
		p.command.output = nil
		return all
	}
}

// The simulated agent answers as the real one does, see TestSnapshotTellsWhatIsNew
// there.
func TestAgentTellsWhatIsNew(t *testing.T) {
	m := NewModel(Options{}, time.Now, nil)
	for _, id := range []int{2, 3} {
		if err := m.Seed(Seed{Account: user(fmt.Sprint("user", id)), ID: id, State: sessions.StateActive, LogonAgo: time.Hour}); err != nil {
			t.Fatal(err)
		}
	}
	p, said := player(m)
	p.look()
	first := said()[0]["hash"].(string)
	for _, c := range []struct {
		name   string
		change func() error
		asked  []snapshot
		want   string // the lines: kind, request, of a beat its sessions
	}{
		{"nobody asks", nil, nil, "[]"},
		{"the same", nil, []snapshot{{"1", first}}, "[beat 1 []]"},
		{"an input, untold", func() error { return m.Touch(2) }, nil, "[]"},
		{"an input", nil, []snapshot{{"2", first}, {"3", first}, {"4", ""}, {"5", "0"}, {"6", first}}, "[beat 2 [2] beat 3 [] state 4 state 5 beat 6 []]"},
		{"an input, told with a state", func() error { return m.Touch(3) }, []snapshot{{"7", ""}, {"8", first}}, "[state 7 beat 8 []]"},
		{"a change", func() error { return m.Keep(3, "8h") }, []snapshot{{"9", first}, {"10", first}}, "[state 9 state 10]"},
		{"undone", func() error { return m.Unkeep(3) }, []snapshot{{"11", first}, {"12", first}}, "[state 11 beat 12 []]"},
		{"a change that nobody asks for", func() error { return m.Disconnect(3) }, nil, "[state <nil>]"},
		{"an option", func() error { m.Configure(func(o *Options) { o.Drain = DrainOn }); return nil }, nil, "[state <nil>]"},
	} {
		if c.change != nil {
			if err := c.change(); err != nil {
				t.Fatal(err)
			}
		}
		p.asked = c.asked
		p.look()
		got := []interface{}{}
		for _, l := range said() {
			got = append(got, l["t"], l["req"])
			if l["t"] != "beat" {
				continue
			}
			ids := []interface{}{}
			list, _ := l["sessions"].([]interface{})
			for _, s := range list {
				ids = append(ids, s.(object)["id"])
			}
			got = append(got, ids)
		}
		if fmt.Sprint(got) != c.want {
			t.Errorf("%s: %v, want %s", c.name, got, c.want)
		}
	}
}

// BenchmarkAgentAsked is an answer of a host of 200 sessions.
func BenchmarkAgentAsked(b *testing.B) {
	m := NewModel(Options{}, time.Now, nil)
	for i := range 200 {
		if err := m.Seed(Seed{Account: user(fmt.Sprint("user", i)), ID: 2 + i, ClientName: "PC-7", ClientAddr: somewhere, LogonAgo: time.Hour}); err != nil {
			b.Fatal(err)
		}
	}
	p, _ := player(m)
	p.look()
	for _, c := range []struct{ name, hash string }{{"who has nothing", ""}, {"who has the state", p.hash}} {
		b.Run(c.name, func(b *testing.B) {
			size := 0
			for b.Loop() {
				p.command.output, p.asked = nil, []snapshot{{"1", c.hash}}
				p.look()
				size = len(p.command.output[0].data)
			}
			b.ReportMetric(float64(size), "bytes")
		})
	}
}

func TestAgentRefusesWhatHasChanged(t *testing.T) {
	for name, c := range map[string]struct {
		change func(m *Model) error
		why    string
	}{
		"connected again": {func(m *Model) error { return m.SetState(3, sessions.StateActive) }, "the user is connected again"},
		"was connected in between": {func(m *Model) error {
			if err := m.SetState(3, sessions.StateActive); err != nil {
				return err
			}
			return m.Disconnect(3)
		}, "the user was connected in between"},
		"gone":             {func(m *Model) error { return m.Logoff(3) }, "it is not there any more (Win32 error 7022)"},
		"the host says no": {func(m *Model) error { m.Configure(func(o *Options) { o.Logoff.Refused = true }); return nil }, "WTSLogoffSession failed (Win32 error 7045)"},
		"odd state":        {func(m *Model) error { return m.SetState(3, sessions.StateDown) }, "it is not disconnected but Down"},
	} {
		t.Run(name, func(t *testing.T) {
			h := agentHost(t, nil)
			d, reports, ended := agentOf(t, h, driver.ModeAgent)
			r := await(t, reports, ended, func(sessions.Report) bool { return true })
			victim, _ := sessionOf(r, "jürgen")
			if err := c.change(h.Model()); err != nil {
				t.Fatal(err)
			}
			var refused *sessions.RefusedError
			if err := d.Evict(t.Context(), sessions.Host{Name: "trier"}, victim); !errors.As(err, &refused) || refused.Why != c.why {
				t.Errorf("%v, want refused: %s", err, c.why)
			}
		})
	}
}

func TestAgentFollowsASlowLogoff(t *testing.T) {
	h := agentHost(t, func(c *Config) { c.Options.Logoff.Takes = 300 * time.Millisecond })
	d, reports, ended := agentOf(t, h, driver.ModeAgent)
	victim, _ := sessionOf(await(t, reports, ended, func(sessions.Report) bool { return true }), "jürgen")
	if err := d.Evict(t.Context(), sessions.Host{Name: "trier"}, victim); err != nil {
		t.Fatal(err)
	}
	if _, there := sessionOf(sessions.Report{Sessions: h.Model().Sessions()}, "jürgen"); there {
		t.Error("it was told to be gone and is there")
	}
}

func TestAgentTellsOfAStuckLogoff(t *testing.T) {
	h := agentHost(t, func(c *Config) { c.Options.Logoff.Sticks = true })
	d, reports, ended := agentOf(t, h, driver.ModeAgent)
	victim, _ := sessionOf(await(t, reports, ended, func(sessions.Report) bool { return true }), "jürgen")
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	var stuck *sessions.StuckError
	if err := d.Evict(ctx, sessions.Host{Name: "trier"}, victim); !errors.As(err, &stuck) || stuck.State != sessions.StateDown {
		t.Errorf("%v", err)
	}
}

// Where no agent can run, the text tools read, and their reports say why.
func TestHostsWithoutAgents(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Config)
		source string
	}{
		"no PowerShell":             {func(c *Config) { c.WinRM.NoPowerShell = true }, "quser (no agent: PowerShell is missing)"},
		"constrained language mode": {func(c *Config) { c.WinRM.ConstrainedLanguage = true }, "quser (no agent: constrained language mode)"},
	} {
		t.Run(name, func(t *testing.T) {
			h := agentHost(t, c.change)
			d, reports, ended := agentOf(t, h, driver.ModeAuto)
			r := await(t, reports, ended, func(sessions.Report) bool { return true })
			if r.Source != c.source || r.NoEvict == "" {
				t.Errorf("source %q, NoEvict %q", r.Source, r.NoEvict)
			}
			victim, _ := sessionOf(r, "jürgen")
			var refused *sessions.RefusedError
			if err := d.Evict(t.Context(), sessions.Host{Name: "trier"}, victim); !errors.As(err, &refused) {
				t.Errorf("evicted by text, which nobody has allowed: %v", err)
			}
			_, _, ended = agentOf(t, h, driver.ModeAgent)
			if err := <-ended; err == nil || !strings.Contains(err.Error(), "the agent cannot run") {
				t.Errorf("without text it ended with %v", err)
			}
		})
	}
}

// The agent's shell disappears, the endpoint falls silent or refuses: the host is
// lost with an error, and can be watched again.
func TestAgentAndTheFaultsOfWinRM(t *testing.T) {
	for name, kind := range map[string]FaultKind{
		"the shell vanishes": FaultShellVanishes, "connection reset": FaultReset, "a proxy answers": FaultBadGateway,
		"empty status 500": FaultEmpty500, "too many operations": FaultOperationQuota,
	} {
		t.Run(name, func(t *testing.T) {
			h := agentHost(t, nil)
			_, reports, ended := agentOf(t, h, driver.ModeAuto)
			await(t, reports, ended, func(sessions.Report) bool { return true })
			h.Model().Configure(func(o *Options) { o.Faults = []Fault{{On: ActionReceive, Kind: kind, Times: 1}} })
			_ = h.Model().Disconnect(4) // something to tell
			select {
			case err := <-ended:
				if err == nil {
					t.Error("ended without an error")
				}
			case <-time.After(patience):
				t.Fatal("nothing happens")
			}
			_, reports, ended = agentOf(t, h, driver.ModeAuto)
			r := await(t, reports, ended, func(sessions.Report) bool { return true })
			if r.Source != "agent" {
				t.Errorf("source %q", r.Source)
			}
		})
	}
}

// A host that has taken standard input and does so no more is left for a moment, and
// watched without it.
func TestAgentWhenInputIsRefusedInTheMiddle(t *testing.T) {
	h := agentHost(t, nil)
	d, reports, ended := agentOf(t, h, driver.ModeAuto)
	r := await(t, reports, ended, func(sessions.Report) bool { return true })
	s, _ := sessionOf(r, "jürgen")
	h.Model().Configure(func(o *Options) { o.Faults = []Fault{{On: ActionSend, Kind: FaultInputRefused}} })
	host := sessions.Host{Name: "trier"}
	if err := d.Evict(t.Context(), host, s); err == nil {
		t.Error("evicted by what was refused")
	}
	if err := <-ended; err == nil || !strings.Contains(err.Error(), "without it next time") {
		t.Errorf("ended with %v", err)
	}
	_, again := startWatch(t, d)
	await(t, again, nil, func(r sessions.Report) bool { return r.Source == "agent" })
	if err := d.Evict(t.Context(), host, s); err != nil {
		t.Error(err)
	}
}

// A new logon in the middle and an answer that nothing has happened are no reason
// to end.
func TestAgentOutlivesSmallFaults(t *testing.T) {
	for name, fault := range map[string]Fault{
		"a new logon to receive": {On: ActionReceive, Kind: FaultUnauthorized, Times: 1},
		"a new logon to send":    {On: ActionSend, Kind: FaultUnauthorized, Times: 1},
		"nothing has happened":   {On: ActionReceive, Kind: FaultTimedOut, Times: 5},
	} {
		t.Run(name, func(t *testing.T) {
			h := agentHost(t, nil)
			d, reports, ended := agentOf(t, h, driver.ModeAgent)
			await(t, reports, ended, func(sessions.Report) bool { return true })
			h.Model().Configure(func(o *Options) { o.Faults = []Fault{fault} })
			for range 3 {
				asked := time.Now()
				d.Refresh()
				await(t, reports, ended, func(r sessions.Report) bool { return r.ReadAt.After(asked) })
			}
		})
	}
}

// A refused password is not offered again.
func TestAgentWithARefusedPassword(t *testing.T) {
	h := agentHost(t, func(c *Config) { c.WinRM.Managers = []Manager{{Account: broker.Account, Password: "changed"}} })
	d, _, ended := agentOf(t, h, driver.ModeAuto)
	var refused *driver.AuthError
	if err := <-ended; !errors.As(err, &refused) || refused.RetryAfter() < time.Minute {
		t.Errorf("ended with %v", err)
	}
	if err := d.Watch(t.Context(), sessions.Host{Name: "trier"}, func(sessions.Report) {}); !errors.As(err, &refused) {
		t.Errorf("the second time: %v", err)
	}
}

// What an earlier broker left behind is deleted, what is in use is not.
func TestOrphansAreDeleted(t *testing.T) {
	var later atomic.Int64
	h := agentHost(t, func(c *Config) {
		c.Clock = func() time.Time { return time.Now().Add(time.Duration(later.Load())) }
		c.WinRM.Basic = true
		c.WinRM.RefusePlain = false
		c.WinRM.Quotas.ShellsPerUser = 3
	})
	raw := newRaw(t, h)
	open := func(idle string) string {
		_, r := raw.ask(nsTransfer+"/Create", "", "", `<rsp:Shell><rsp:InputStreams>stdin</rsp:InputStreams><rsp:OutputStreams>stdout stderr</rsp:OutputStreams><rsp:IdleTimeOut>`+idle+`</rsp:IdleTimeOut></rsp:Shell>`)
		return r.Body.Shell.ShellId
	}
	orphan, foreign := open("PT180.700S"), open("PT180.000S")
	later.Store(int64(time.Minute))
	used := open("PT180.700S")
	_, reports, ended := agentOf(t, h, driver.ModeAgent) // its shell is the fourth
	await(t, reports, ended, func(sessions.Report) bool { return true })
	_, r := raw.ask(nsEnum+"/Pull", "", "", `<n:Pull/>`)
	left := map[string]bool{}
	for _, s := range r.Body.Items {
		left[s.ShellId] = true
	}
	if left[orphan] || !left[foreign] || !left[used] || len(left) != 3 {
		t.Errorf("left: %v; orphan %s, not ours %s, used %s", left, orphan, foreign, used)
	}
}
