package winagent

import (
	"errors"
	"io"
	"os"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/rdpbroker/rdpbroker/sessions"
)

func TestParseLine(t *testing.T) {
	for _, c := range []struct {
		in   string
		want string // part of the error, "" for none
	}{
		{`{"t":"hello","v":1,"admin":true,"unknown":{"a":[1]}}`, ""},
		{`{"t":"hello","v":2}`, "version 2 of the protocol, not 1"},
		{`{"t":"hello"}`, "version 0"},
		{`{"t":"something new"}`, ""},
		{`{"t":"state","sessions":[]}`, ""},
		{`{"t":"state"}`, "without a list"},
		{`{"t":"work"}`, "without a list"},
		{`{"t":"beat"}`, ""},
		{`{"t":"beat","req":"1","sessions":[{"id":2,"logon":5,"input":6}]}`, ""},
		{`{"t":"beat","sessions":[` + strings.Repeat(`{},`, maxSessions) + `{}]}`, "20001 sessions"},
		{`{"t":"state","sessions":[{"id":"2"}]}`, "not a line"},
		{`{"t":"state","sessions":[{"id":2,"logon":1e30}]}`, "not a line"},
		{`{"t":"state","sessions":[],"facts":{"ts":{"fDenyTSConnections":[1]}}}`, ""},
		{`{"t":"state","sessions":[],"facts":[]}`, "not a line"},
		{`{}`, "no kind"},
		{`{"t":"beat"`, "not a line"},
		{`null`, "no kind"},
		{``, "not a line"},
		{`{"t":"state","sessions":[` + strings.Repeat(`{},`, maxSessions) + `{}]}`, "20001 sessions"},
	} {
		_, err := parseLine([]byte(c.in))
		if (err == nil) != (c.want == "") || (err != nil && !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%.60s: %v, want %q", c.in, err, c.want)
		}
	}
}

func TestLinesAreBounded(t *testing.T) {
	if _, err := newLineReader(strings.NewReader(strings.Repeat("x", maxLine+1))).next(); err == nil || err == io.EOF {
		t.Errorf("a line of %d bytes was read: %v", maxLine+1, err)
	}
	long := strings.Repeat("long ", 5000)
	for _, in := range []string{" one\r\n\n" + long + "\ntwo", "one\n\n" + long + "\r\ntwo\n"} {
		r := newLineReader(iotest.OneByteReader(strings.NewReader(in)))
		for _, want := range []string{"one", "", strings.TrimSpace(long), "two"} {
			if got, err := r.next(); got != want || err != nil {
				t.Errorf("%.20q (%d bytes), %v, want %.20q", got, len(got), err, want)
			}
		}
		if _, err := r.next(); err != io.EOF {
			t.Errorf("at the end: %v", err)
		}
	}
}

// FuzzLine: whatever comes, it is a report that holds the rules or an error.
func FuzzLine(f *testing.F) {
	seed, err := os.ReadFile("testdata/lines.jsonl")
	if err != nil {
		f.Fatal(err)
	}
	for l := range strings.Lines(string(seed)) {
		f.Add([]byte(l))
	}
	admin := true
	f.Fuzz(func(t *testing.T, b []byte) {
		l, err := parseLine(b)
		if err != nil || l.Kind != kindState && l.Kind != kindWork {
			return
		}
		w := workload{}.take(l)
		r, err := translate(&line{Admin: &admin}, l, time.Unix(0, 0))
		if err != nil {
			return
		}
		w = w.fill(r.Sessions)
		if len(w) > len(r.Sessions) {
			t.Fatalf("the work of %d sessions in %d", len(w), len(r.Sessions))
		}
		if len(r.Sessions) != len(l.Sessions) || r.HostTime.IsZero() || r.Limit < 0 || r.Limit > unlimited {
			t.Fatalf("%+v", r)
		}
		for _, s := range r.Sessions {
			if s.State != sessions.StateDisconnected && !s.DisconnectedAt.IsZero() {
				t.Fatalf("%+v has a disconnect time", s)
			}
			if s.ID >= sessions.FirstListenerID && s.State != sessions.StateListen {
				t.Fatalf("%+v is a listener", s)
			}
			if (s.Incarnation == "") != s.LogonAt.IsZero() {
				t.Fatalf("%+v", s)
			}
		}
	})
}

func TestFileTime(t *testing.T) {
	for _, c := range []struct {
		ft   int64
		want string
	}{
		{0, ""}, {-1, ""}, {1, ""},
		{firstTime - 1, ""}, // still in 1601, or just about
		{116444736000000000, "1970-01-01T00:00:00Z"},
		{134000000000000001, "2025-08-18T14:13:20.0000001Z"},
		{116444735999999999, "1969-12-31T23:59:59.9999999Z"},
		{lastTime, "9999-12-31T23:59:59.9999999Z"},
		{lastTime + 1, ""},
		{1<<63 - 1, ""},
	} {
		got := fromFileTime(c.ft)
		if c.want == "" {
			if !got.IsZero() {
				t.Errorf("%d is %s", c.ft, got)
			}
			continue
		}
		if s := got.Format(time.RFC3339Nano); s != c.want {
			t.Errorf("%d is %s, want %s", c.ft, s, c.want)
		}
		if back := toFileTime(got); back != c.ft {
			t.Errorf("%d came back as %d", c.ft, back)
		}
	}
	if toFileTime(time.Time{}) != 0 {
		t.Error("no time has a FILETIME")
	}
}

// A reading is never said to be newer than it is.
func TestAgentClock(t *testing.T) {
	t0 := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	c := agentClock{start: t0}
	if got := c.at(1500, t0.Add(time.Hour)); !got.Equal(t0.Add(1500 * time.Millisecond)) {
		t.Errorf("before any ping: %s", got)
	}
	// The agent was started 2 s after the command; a ping took 300 ms to get there.
	start := t0.Add(2 * time.Second)
	sent := t0.Add(10 * time.Second)
	c.pong(sent, sent.Add(300*time.Millisecond).Sub(start).Milliseconds())
	if got, really := c.at(9000, t0.Add(time.Hour)), start.Add(9*time.Second); got.After(really) || really.Sub(got) > 300*time.Millisecond {
		t.Errorf("%s for %s", got, really)
	}
	if got := c.at(1<<62, t0); !got.Equal(t0) {
		t.Errorf("a reading of the future: %s", got)
	}
}

func TestTranslateRefuses(t *testing.T) {
	yes, no := true, false
	const now = `"now":134000000000000000,`
	for _, c := range []struct {
		name, in string
		admin    *bool
		own      int
		want     error
	}{
		{"an administrator sees nothing", `{"t":"state",` + now + `"sessions":[]}`, &yes, 0, nil},
		{"somebody sees nothing", `{"t":"state",` + now + `"sessions":[]}`, &no, 0, errNotPrivileged},
		{"somebody unknown sees nothing", `{"t":"state",` + now + `"sessions":[]}`, nil, 0, errNotPrivileged},
		{"somebody sees their own session 0", `{"t":"state",` + now + `"sessions":[{"id":0},{"id":2}]}`, &no, 0, errNotPrivileged},
		{"somebody sees another's session 0", `{"t":"state",` + now + `"sessions":[{"id":0},{"id":2}]}`, &no, 2, nil},
		{"somebody sees a listener", `{"t":"state",` + now + `"sessions":[{"id":65537,"state":6}]}`, &no, 2, nil},
		{"an ID twice", `{"t":"state",` + now + `"sessions":[{"id":2},{"id":2}]}`, &yes, 0, errors.New("two sessions")},
		{"no time", `{"t":"state","sessions":[]}`, &yes, 0, errors.New("without a time")},
	} {
		l, err := parseLine([]byte(c.in))
		if err != nil {
			t.Fatal(err)
		}
		_, err = translate(&line{Admin: c.admin, Own: c.own}, l, time.Now())
		if (err == nil) != (c.want == nil) || (err != nil && !strings.Contains(err.Error(), c.want.Error())) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestStateOf(t *testing.T) {
	for wts, want := range map[int]sessions.State{
		0: sessions.StateActive, 1: sessions.StateConnected, 2: sessions.StateConnectQuery, 3: sessions.StateShadow, 4: sessions.StateDisconnected,
		5: sessions.StateIdle, 6: sessions.StateListen, 7: sessions.StateReset, 8: sessions.StateDown, 9: sessions.StateInit,
		10: sessions.StateUnknown, -1: sessions.StateUnknown, 1 << 31: sessions.StateUnknown,
	} {
		if got := stateOf(wts); got != want {
			t.Errorf("%d is %s, want %s", wts, got, want)
		}
	}
}

// Windows forgets the client with the connection; we do not, until the ID is another's.
func TestMemory(t *testing.T) {
	active := sessions.Session{ID: 2, Incarnation: "5", State: sessions.StateActive, ClientName: "PC-7"}
	gone := sessions.Session{ID: 2, Incarnation: "5", State: sessions.StateDisconnected}
	other := sessions.Session{ID: 2, Incarnation: "6", State: sessions.StateDisconnected}
	var m memory
	for _, c := range []struct {
		s    sessions.Session
		want string
	}{{active, "PC-7"}, {gone, "PC-7"}, {gone, "PC-7"}, {other, ""}, {gone, ""}} {
		list, full := []sessions.Session{c.s}, []sessions.Session(nil)
		full, m = m.complete(list)
		if full[0].ClientName != c.want || !reflect.DeepEqual(list[0], c.s) {
			t.Errorf("%+v: client %q, and what was read has become %+v", c.s, full[0].ClientName, list[0])
		}
	}
}
