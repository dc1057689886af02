package winagent

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/rdpbroker/rdpbroker/sessions"
	"github.com/rdpbroker/rdpbroker/sessions/winagent/agenttest"
)

// The real agent, compiled and run, against a library with Windows' layouts.

func TestAgentTellsSessionsExactly(t *testing.T) {
	defer goleak.VerifyNone(t)
	h := newStubHost(t)
	h.Set(func() {
		h.Sessions[2] = `0|rdp-tcp#3|Jürgen Groß|CONTOSO|134000000000000001|5|134000000000000005|134000000000000009||PC-7|192.0.2.17|`
		h.Sessions[3] = agenttest.Row(4, "a-name-of-many-letters-indeed", logonA, disconnectA, "")
		h.Sessions[4] = `4||user20characters0123|A-DOMAIN-OF-MANY-LETTERS|134000000000000001|5|134000100000000007|9||||`
		h.Sessions[5] = `4||Мария 🙂|CONTOSO|134000000000000001|5|0|0|notepad.exe /x "y"|||`
		h.Sessions[6] = `8||gone|CONTOSO|0|0|0|0||||`
		h.Sessions[7] = agenttest.Row(4, "vanishes", logonA, disconnectA, "error=7022")
		h.Sessions[8] = agenttest.Row(4, "closed", logonA, disconnectA, "error=5")
	})
	w := watch(t, Config{}, h)
	before := time.Now()
	r := w.until("a report in which the accounts are known", func(r sessions.Report) bool {
		return !slices.ContainsFunc(r.Sessions, func(s sessions.Session) bool { return !s.KeepUntil.IsZero() })
	})
	if r.Source != "agent" || r.NoEvict != "" || r.ReadAt.After(time.Now()) {
		t.Errorf("report %+v", r)
	}
	if d := r.HostTime.Sub(before); d < -patience || d > patience {
		t.Errorf("host time %s, now is %s", r.HostTime, before)
	}
	for _, want := range []sessions.Session{
		{ID: 0, Name: "Services", State: sessions.StateDisconnected},
		{ID: 1, Name: "Console", State: sessions.StateConnected},
		{ID: 2, Name: "rdp-tcp#3", State: sessions.StateActive, Account: sessions.Account{Domain: "CONTOSO", User: "Jürgen Groß"},
			LogonAt: fromFileTime(logonA), LastInputAt: fromFileTime(logonA + 8), Incarnation: "134000000000000001",
			ClientName: "PC-7", ClientAddr: netip.MustParseAddr("192.0.2.17")},
		{ID: 3, State: sessions.StateDisconnected, Account: sessions.Account{Domain: "CONTOSO", User: "a-name-of-many-letters-indeed"},
			LogonAt: fromFileTime(logonA), LastInputAt: fromFileTime(logonA), DisconnectedAt: fromFileTime(disconnectA), Incarnation: "134000000000000001"},
		{ID: 4, State: sessions.StateDisconnected, Account: sessions.Account{Domain: "A-DOMAIN-OF-MANY-LETTERS", User: "user20characters0123"},
			LogonAt: fromFileTime(logonA), DisconnectedAt: fromFileTime(disconnectA), Incarnation: "134000000000000001"},
		{ID: 5, State: sessions.StateDisconnected, Account: sessions.Account{Domain: "CONTOSO", User: "Мария 🙂"},
			LogonAt: fromFileTime(logonA), Incarnation: "134000000000000001", Program: `notepad.exe /x "y"`},
		{ID: 6, State: sessions.StateDown, Account: sessions.Account{Domain: "CONTOSO", User: "gone"}},
		{ID: 8, State: sessions.StateDisconnected, Account: sessions.Account{Domain: "CONTOSO", User: "closed"}}, // seen, its details not
		{ID: 65536, Name: "RDP-Tcp", State: sessions.StateListen},
	} {
		got, ok := session(r, want.ID)
		if !ok || !slices.Equal(got.Processes, want.Processes) {
			t.Errorf("session %d: %v", want.ID, ok)
		}
		got.Processes, want.Processes = nil, nil
		if a, b := toJSON(t, got), toJSON(t, want); a != b {
			t.Errorf("session %d:\n got %s\nwant %s", want.ID, a, b)
		}
	}
	if len(r.Sessions) != 9 {
		t.Errorf("%d sessions", len(r.Sessions))
	}
	w.stop()
	if err := w.end(); !errors.Is(err, context.Canceled) {
		t.Errorf("ended with %v", err)
	}
}

func toJSON(t *testing.T, v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestChangesArriveByEventAndByPoll(t *testing.T) {
	for _, c := range []struct {
		name     string
		noEvents string
		poll     time.Duration
	}{
		{"by event", "0", time.Hour},
		{"by poll", "1", 50 * time.Millisecond},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newStubHost(t)
			h.Set(func() { h.Settings["noevents"] = c.noEvents })
			w := watch(t, Config{Poll: c.poll, Beat: time.Hour}, h)
			w.until("the first report", func(sessions.Report) bool { return true })
			var took []time.Duration
			for i := range 10 {
				began := time.Now()
				state := []int{0, 4}[i%2]
				h.Set(func() { h.Sessions[2] = agenttest.Row(state, "alice", logonA, disconnectA+int64(i), "") })
				w.untilSession(2, "changed", func(s sessions.Session) bool { return s.State == stateOf(state) })
				took = append(took, time.Since(began))
			}
			slices.Sort(took)
			t.Logf("from a change to its report: median %s, slowest %s", took[5], took[9])
		})
	}
}

// Events that come while the agent does not wait for one are lost. It looks again
// soon after an event, so that this costs little.
func TestLostEvent(t *testing.T) {
	h := newStubHost(t)
	w := watch(t, Config{Poll: time.Hour, Beat: time.Hour}, h)
	w.until("the first report", func(sessions.Report) bool { return true })
	h.Set(func() { h.Sessions[2] = agenttest.Row(1, "", 0, 0, "") })
	w.untilSession(2, "connected", func(s sessions.Session) bool { return s.State == sessions.StateConnected })
	h.Set(func() {
		h.Settings["noevents"] = "1"
		h.Sessions[2] = agenttest.Row(0, "alice", logonA, 0, "")
	})
	w.untilSession(2, "logged on", func(s sessions.Session) bool { return s.State == sessions.StateActive })
}

func TestSignsOfLifeMakeReadingsNew(t *testing.T) {
	h := newStubHost(t)
	w := watch(t, Config{Beat: 100 * time.Millisecond, Poll: 50 * time.Millisecond}, h)
	first := w.until("the first report", func(sessions.Report) bool { return true })
	second := w.until("a newer one", func(r sessions.Report) bool { return r.ReadAt.After(first.ReadAt) })
	if !second.HostTime.After(first.HostTime) {
		t.Errorf("host time went from %s to %s", first.HostTime, second.HostTime)
	}
}

func TestRefreshIsReadAfterItWasAskedFor(t *testing.T) {
	h := newStubHost(t)
	w := watch(t, Config{Beat: time.Hour, Poll: time.Hour}, h)
	w.until("the first report", func(sessions.Report) bool { return true })
	asked := time.Now()
	w.Refresh()
	w.until("the one asked for", func(r sessions.Report) bool { return !r.ReadAt.Before(asked) })
}

// Asked by somebody who has the newest state, the agent tells what is new besides.
func TestSnapshotTellsWhatIsNew(t *testing.T) {
	h := newStubHost(t)
	row := func(state int, user string, input int64) string {
		return fmt.Sprintf("%d||%s|CONTOSO|%d|5|%d|%d||||", state, user, logonA, disconnectA, input)
	}
	h.Set(func() {
		h.Settings["noevents"] = "1"
		h.Sessions[2], h.Sessions[3] = row(0, "alice", logonA), row(4, "bob", logonA)
	})
	p, err := h.Start(t.Context(), Command())
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	cfg := Config{Poll: time.Hour, Beat: time.Hour, Processes: -1}.withDefaults()
	if err := p.Send(t.Context(), cfg.introduction()); err != nil {
		t.Fatal(err)
	}
	out := newLineReader(p.Stdout())
	answer := func(req string) (ln *line, size int) {
		t.Helper()
		for {
			text, err := out.next()
			if err != nil {
				t.Fatal(err)
			}
			if ln, err = parseLine([]byte(text)); err != nil {
				t.Fatal(err)
			}
			if ln.Request == req {
				return ln, len(text)
			}
		}
	}
	ask := func(words string) (*line, int) {
		t.Helper()
		if err := p.Send(t.Context(), []byte("snapshot "+words+"\n")); err != nil {
			t.Fatal(err)
		}
		return answer(strings.Fields(words)[0])
	}
	first, whole := ask("1")
	for i := 0; slices.ContainsFunc(first.Sessions, func(s sessionLine) bool { return s.Pending }); i++ {
		time.Sleep(10 * time.Millisecond)
		first, whole = ask(fmt.Sprint("1.", i))
	}
	expect := func(words, kind string, inputs ...int64) *line {
		t.Helper()
		ln, size := ask(words)
		if ln.Kind != kind || (ln.Hash == first.Hash) != (kind == kindBeat) || ln.Now == 0 || kind == kindBeat && (len(ln.Sessions) != len(inputs) || size > whole/2) {
			t.Errorf("%s: %+v (%d bytes; a state has %d)", words, ln, size, whole)
			return ln
		}
		for i, input := range inputs {
			if s := ln.Sessions[i]; s.ID != 2+i || s.Logon != logonA || s.Input != input {
				t.Errorf("%s: session %+v, input %d is new", words, s, input)
			}
		}
		return ln
	}
	expect("2 "+first.Hash, kindBeat)
	h.Set(func() { h.Sessions[2] = row(0, "alice", logonA+7) })
	expect("3 "+first.Hash, kindBeat, logonA+7)
	expect("4 "+first.Hash, kindBeat)
	h.Set(func() { h.Sessions[2], h.Sessions[3] = row(0, "alice", logonA+8), row(4, "bob", logonA+9) })
	expect("5 "+first.Hash, kindBeat, logonA+8, logonA+9)

	// A change, and with it an input, which is told then.
	h.Set(func() { h.Sessions[2], h.Sessions[3] = row(0, "alice", logonA+10), row(0, "bob", logonA+9) })
	changed := expect("6 "+first.Hash, kindState)
	h.Set(func() { h.Sessions[3] = row(4, "bob", logonA+9) })
	if back, _ := ask("7 " + first.Hash); back.Kind != kindState || back.Hash != first.Hash {
		t.Errorf("as before, but not what was told last: %+v", back)
	}
	expect("8 "+first.Hash, kindBeat)
	if ln, _ := ask("9 " + changed.Hash); ln.Kind != kindState {
		t.Errorf("to somebody who has an older state: %+v", ln)
	}

	if err := p.Send(t.Context(), []byte("snapshot 10 "+first.Hash+"\nsnapshot 11\nsnapshot 12 0\nsnapshot 13 "+first.Hash+"\n")); err != nil {
		t.Fatal(err)
	}
	for i, kind := range []string{kindBeat, kindState, kindState, kindBeat} {
		if ln, _ := answer(fmt.Sprint(10 + i)); ln.Kind != kind {
			t.Errorf("of several, the answer to %d is a %s, not a %s", 10+i, ln.Kind, kind)
		}
	}
}

// What Windows does not show is not absent.
func TestAgentWithoutRightsIsNoReading(t *testing.T) {
	h := newStubHost(t)
	h.Set(func() {
		h.Settings["admin"] = "0"
		h.Sessions = map[int]string{0: "4|Services"} // its own
	})
	w := watch(t, Config{}, h)
	if err := w.end(); !errors.Is(err, errNotPrivileged) {
		t.Fatalf("ended with %v", err)
	}
	if len(w.reports) > 0 {
		t.Error("a report was published")
	}
}

func TestAgentWithSomeRightsWarns(t *testing.T) {
	h := newStubHost(t)
	h.Set(func() { h.Settings["admin"] = "0" })
	w := watch(t, Config{}, h)
	r := w.until("a report", func(sessions.Report) bool { return true })
	if len(r.Warnings) != 1 || !strings.Contains(r.Warnings[0], "no administrator") {
		t.Errorf("warnings %q", r.Warnings)
	}
}

func TestAgentThatCannotReadIsLostWithTheReason(t *testing.T) {
	h := newStubHost(t)
	w := watch(t, Config{Lost: time.Second, Ping: 100 * time.Millisecond, Poll: 50 * time.Millisecond}, h)
	w.until("the first report", func(sessions.Report) bool { return true })
	h.Set(func() { h.Settings["fail"] = "WTSEnumerateSessionsExW|1722" })
	if err := w.end(); err == nil || !strings.Contains(err.Error(), "Win32 error 1722") {
		t.Fatalf("ended with %v", err)
	}
}

func TestFactsComeFromTheRegistry(t *testing.T) {
	h := newStubHost(t)
	const ts = `SYSTEM\CurrentControlSet\Control\Terminal Server`
	h.Registry(`SYSTEM\CurrentControlSet\Control\ProductOptions`, "ProductType", "string", "ServerNT")
	h.Registry(`SOFTWARE\Microsoft\Windows NT\CurrentVersion`, "ProductName", "string", "Windows Server 2022 Standard")
	h.Registry(`SOFTWARE\Microsoft\Windows NT\CurrentVersion`, "CurrentBuildNumber", "string", "20348")
	h.Registry(`SOFTWARE\Microsoft\Windows NT\CurrentVersion`, "CurrentMajorVersionNumber", "int", "10")
	h.Registry(ts, "TSAppCompat", "int", "0")
	h.Registry(ts, "TSServerDrainMode", "int", "1")
	h.Registry(ts+`\WinStations\RDP-Tcp`, "MaxInstanceCount", "int", "-1")
	h.Registry(`SOFTWARE\Policies\Microsoft\Windows NT\Terminal Services`, "MaxDisconnectionTime", "int", "3600000")
	h.Registry(`SOFTWARE\Policies\Microsoft\Windows NT\Terminal Services`, "MaxIdleTime", "string", "0")
	w := watch(t, Config{}, h)
	r := w.until("a report", func(sessions.Report) bool { return true })
	if r.Limit != 2 || r.CountsDisconnected != sessions.No || !r.Draining || r.OS != "Windows Server 2022 Standard (build 20348)" {
		t.Errorf("report %+v", r)
	}
	if len(r.Warnings) != 1 || !strings.Contains(r.Warnings[0], "1h0m0s (MaxDisconnectionTime, by policy)") {
		t.Errorf("warnings %q", r.Warnings)
	}
}

func TestProcessesOfSessions(t *testing.T) {
	h := newStubHost(t)
	const own = "\nP|2|10|csrss.exe|7|7\nP|2|800|explorer.exe|5000|5000"
	disconnected := agenttest.Row(4, "alice", logonA, disconnectA, "")
	h.Set(func() {
		h.Sessions[2] = disconnected + own + "\nP|2|700|winword.exe|100|20\nP|2|900|Setup.exe|1|2\nP|0|4|System|9|9"
		h.Sessions[3] = agenttest.Row(0, "bob", logonA, 0, "") + "\nP|3|11|winlogon.exe|7|7\nP|3|70|notepad.exe|5|5"
		h.Sessions[4] = agenttest.Row(4, "carol", logonA, disconnectA, "") + "\nP|4|12|csrss.exe|7|7"
		h.Sessions[5] = agenttest.Row(4, "dave", logonA, disconnectA, "") + "\nP|5|13|secret.exe|7|7" // some of its programs are not shown
	})
	w := watch(t, Config{Processes: 100 * time.Millisecond, Poll: 50 * time.Millisecond, Beat: time.Hour}, h)
	r := w.until("programs", func(r sessions.Report) bool { s, _ := session(r, 2); return s.Processes != nil })
	for id, want := range map[int]sessions.Session{
		2: {Processes: []string{"Setup.exe", "winword.exe"}, CPUTime: 123, IOBytes: 700 + 900 + 2*1000},
		3: {Processes: []string{"notepad.exe"}}, // sums of disconnected sessions only
		4: {Processes: []string{}},              // nothing but what every session has
		5: {},                                   // not read, which is not none
	} {
		s, _ := session(r, id)
		if !slices.Equal(s.Processes, want.Processes) || (s.Processes == nil) != (want.Processes == nil) || s.CPUTime != want.CPUTime || s.IOBytes != want.IOBytes {
			t.Errorf("session %d: programs %q, CPU %d, I/O %d", id, s.Processes, s.CPUTime, s.IOBytes)
		}
		if (s.WorkAt.IsZero()) != (want.Processes == nil) || s.WorkAt.After(r.HostTime) {
			t.Errorf("session %d: looked at %s, the host has %s", id, s.WorkAt, r.HostTime)
		}
	}

	h.Set(func() { h.Sessions[2] = disconnected + own + "\nP|2|700|winword.exe|200|20" })
	w.untilSession(2, "after a while", func(s sessions.Session) bool {
		return s.CPUTime == 220 && slices.Equal(s.Processes, []string{"winword.exe"})
	})
	h.Set(func() { h.Sessions[2] = disconnected + "\nP|2|700|winword.exe|300|20" })
	w.untilSession(2, "whose programs are not shown any more", func(s sessions.Session) bool { return s.Processes == nil && s.WorkAt.IsZero() })
	h.Set(func() {
		h.Sessions[2] = agenttest.Row(0, "erin", logonA+1, 0, "") + own + "\nP|2|700|winword.exe|300|20"
	})
	s := w.untilSession(2, "of another user", func(s sessions.Session) bool { return s.Account.User == "erin" })
	if slices.Contains(s.Processes, "Setup.exe") {
		t.Errorf("it has the programs of its predecessor: %q", s.Processes)
	}
}

// The unit of Windows' times of processes is told by those of the agent itself.
func TestUnitOfProcessorTime(t *testing.T) {
	for name, c := range map[string]struct {
		mine string // the agent's own
		want int64
	}{"100 ns": {"1500000", 123}, "milliseconds": {"150", 1_230_000}} {
		t.Run(name, func(t *testing.T) {
			h := newStubHost(t)
			h.Set(func() {
				h.Sessions[2] = agenttest.Row(4, "alice", logonA, disconnectA, "") + "\nP|2|10|csrss.exe|7|7\nP|2|700|winword.exe|100|23\nP|0|self|mono.exe|" + c.mine + "|0"
			})
			w := watch(t, Config{}, h)
			w.untilSession(2, "with programs", func(s sessions.Session) bool { return s.CPUTime == c.want })
		})
	}
}

// Names are told when they change, and sums only of disconnected sessions.
func TestProgramsCostLittle(t *testing.T) {
	h := newStubHost(t)
	h.Set(func() {
		for id := 2; id < 52; id++ {
			row := agenttest.Row(4*(id%2), fmt.Sprint("user", id), logonA, disconnectA, "") + fmt.Sprintf("\nP|%d|1%d|csrss.exe|7|7", id, id)
			for n := range 20 {
				row += fmt.Sprintf("\nP|%d|2%d%d|program%d.exe|7|7", id, id, n, n)
			}
			h.Sessions[id] = row
		}
	})
	proc, err := h.Start(t.Context(), Command())
	if err != nil {
		t.Fatal(err)
	}
	defer proc.Close()
	cfg := Config{Processes: 50 * time.Millisecond, Poll: 50 * time.Millisecond, Beat: time.Hour}.withDefaults()
	if err := proc.Send(t.Context(), cfg.introduction()); err != nil {
		t.Fatal(err)
	}
	var sizes []int
	for out := newLineReader(proc.Stdout()); len(sizes) < 3; {
		text, err := out.next()
		if err != nil {
			break
		}
		if ln, err := parseLine([]byte(text)); err != nil {
			t.Fatal(err)
		} else if ln.Kind == kindWork {
			sizes = append(sizes, len(text))
		}
	}
	if len(sizes) < 3 || sizes[2] > 50*60 {
		t.Errorf("lines of %d bytes for 50 sessions", sizes)
	}
	t.Logf("50 sessions of 20 programs each: %d bytes, then %d", sizes[0], sizes[2])
}

func TestKeepMarker(t *testing.T) {
	h := newStubHost(t)
	set := logonA + 3600*ticksPerSecond
	marker := func(kind int, text string) string { return fmt.Sprintf("\nK|1001|%d|%s|%d", kind, text, set) }
	row := agenttest.Row(4, "alice", logonA, disconnectA, "") + "\nA|CONTOSO\\alice|1001"
	h.Set(func() { h.Sessions[2] = row })
	w := watch(t, Config{Poll: 30 * time.Millisecond, Beat: time.Hour}, h)
	w.untilSession(2, "without a marker", func(s sessions.Session) bool { return s.KeepUntil.IsZero() })
	for _, c := range []struct {
		name, extra string
		want        time.Time
	}{
		{"for hours", marker(1, "8h"), fromFileTime(set).Add(8 * time.Hour)},
		{"until it is removed", marker(1, ""), fromFileTime(set).Add(sessions.KeepAtMost)},
		{"removed", "", time.Time{}},
		{"too long", marker(1, strings.Repeat("8", 1000)+"h"), fromFileTime(set).Add(sessions.KeepAtMost)},
		{"a key without the value", marker(0, ""), time.Time{}},
		{"of another type", marker(4, "8h"), fromFileTime(set).Add(sessions.KeepAtMost)},
		{"of somebody else", strings.Replace(marker(1, "8h"), "1001", "1002", 1), time.Time{}},
	} {
		h.Set(func() { h.Sessions[2] = row + c.extra })
		w.untilSession(2, c.name, func(s sessions.Session) bool { return s.KeepUntil.Equal(c.want) })
	}
}

// A session of which it is not known yet whether its user wants it kept is kept.
func TestKeepMarkerNotKnownYet(t *testing.T) {
	now := fromFileTime(disconnectA)
	s := (&sessionLine{ID: 2, State: 4, User: "alice", Logon: logonA, Pending: true}).translate(now)
	if !s.KeepUntil.Equal(now.Add(pendingFor)) {
		t.Errorf("kept until %s", s.KeepUntil)
	}
}

// The agent must not outlive the broker, however that ends.
func TestAgentEndsItself(t *testing.T) {
	for _, c := range []struct {
		name   string
		block  bool // nobody reads what it says
		quit   func(p *localProcess)
		within string
	}{
		{"when nothing is heard", false, func(*localProcess) {}, "silence"},
		{"when nothing is heard and nobody reads", true, func(*localProcess) {}, ""},
		{"when its input closes", false, func(p *localProcess) { p.stdin.Close() }, "stdin"},
		{"when it is told to", false, func(p *localProcess) { p.Send(t.Context(), []byte("quit\n")) }, "quit"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h := newStubHost(t)
			proc, err := h.Start(t.Context(), Command())
			if err != nil {
				t.Fatal(err)
			}
			p := proc.(*localProcess)
			defer p.Close()
			cfg := Config{Silence: time.Second, Poll: time.Millisecond, Beat: time.Millisecond}.withDefaults()
			if err := p.Send(t.Context(), cfg.introduction()); err != nil {
				t.Fatal(err)
			}
			out := bufio.NewScanner(p.Stdout())
			for i := 0; i < 2 && out.Scan(); i++ { // hello, state
			}
			c.quit(p)
			var last string
			if !c.block {
				for out.Scan() {
					last = out.Text()
				}
				if want := `{"t":"bye","why":"` + c.within + `"}`; last != want {
					t.Errorf("last said %s, want %s", last, want)
				}
			}
			exited := make(chan struct{})
			go func() { p.cmd.Process.Wait(); close(exited) }()
			select {
			case <-exited:
			case <-time.After(patience):
				t.Error("it still runs")
				p.cmd.Process.Kill()
				<-exited
			}
		})
	}
}

func TestAgentIsLostWhenItDies(t *testing.T) {
	defer goleak.VerifyNone(t)
	h := newStubHost(t)
	w := watch(t, Config{}, h)
	w.until("the first report", func(sessions.Report) bool { return true })
	h.mu.Lock()
	h.running[0].Process.Kill()
	h.mu.Unlock()
	if err := w.end(); !errors.Is(err, errEnded) {
		t.Errorf("ended with %v", err)
	}
}

// One agent follows the other without a gap.
func TestRenewal(t *testing.T) {
	h := newStubHost(t)
	w := watch(t, Config{Lifetime: 300 * time.Millisecond, Poll: 50 * time.Millisecond, Beat: 50 * time.Millisecond}, h)
	count := func() (all, alive int) {
		h.mu.Lock()
		defer h.mu.Unlock()
		for _, c := range h.running {
			if c.Process.Signal(syscall.Signal(0)) == nil {
				alive++
			}
		}
		return len(h.running), alive
	}
	var last time.Time
	w.until("three agents", func(r sessions.Report) bool {
		if !last.IsZero() && r.ReadAt.Sub(last) > 5*time.Second {
			t.Errorf("a gap of %s", r.ReadAt.Sub(last))
		}
		last = r.ReadAt
		all, _ := count()
		return all > 3
	})
	w.stop()
	w.end()
	if _, alive := count(); alive != 0 {
		t.Errorf("%d agents are left over", alive)
	}
}
