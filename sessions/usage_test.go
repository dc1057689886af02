package sessions_test

import (
	"math"
	"testing"
	"time"

	"github.com/rdpbroker/rdpbroker/sessions"
)

const second = int64(time.Second / sessions.CPUTick)

// reading is one of a host whose clock is an hour ahead, after a time.
func reading(after time.Duration, ss ...sessions.Session) *sessions.Report {
	at := time.Date(2026, 3, 2, 9, 0, 0, 0, time.UTC).Add(after)
	return &sessions.Report{ReadAt: at, HostTime: at.Add(time.Hour), Sessions: ss}
}

func working(id int, cpu int64, io uint64) sessions.Session {
	return sessions.Session{ID: id, Account: sessions.Account{User: "a"}, State: sessions.StateDisconnected, CPUTime: cpu, IOBytes: io}
}

func TestMeter(t *testing.T) {
	active := working(1, 40*second, 9000)
	active.State = sessions.StateActive
	another := working(1, 40*second, 9000)
	another.LogonAt = time.Unix(1, 0)
	readEarlier := working(1, 16*second, 7000)
	readEarlier.WorkAt = reading(40 * time.Second).HostTime.Add(20 * time.Second) // which is after a minute
	for _, c := range []struct {
		name  string
		first sessions.Session
		rest  []*sessions.Report
		cpu   float64
		io    float64
		over  time.Duration // 0: nothing is known
	}{
		{"busy", working(1, 10*second, 1000), []*sessions.Report{reading(time.Minute, working(1, 16*second, 7000))}, 0.1, 100, time.Minute},
		{"does nothing", working(1, 10*second, 1000), []*sessions.Report{reading(2*time.Minute, working(1, 10*second, 1000))}, 0, 0, 2 * time.Minute},
		{"too soon to tell", working(1, 10*second, 1000), []*sessions.Report{reading(59*time.Second, working(1, 16*second, 7000))}, 0, 0, 0},
		{
			"readings that come often add up", working(1, 10*second, 1000),
			[]*sessions.Report{reading(30*time.Second, working(1, 11*second, 2000)), reading(time.Minute, working(1, 16*second, 7000)), reading(90*time.Second, working(1, 99*second, 99000))},
			0.1, 100, time.Minute,
		},
		{
			"the newest pair counts", working(1, 10*second, 1000),
			[]*sessions.Report{reading(time.Minute, working(1, 70*second, 99000)), reading(2*time.Minute, working(1, 70*second, 99000))},
			0, 0, time.Minute,
		},
		{"a program has ended", working(1, 10*second, 1000), []*sessions.Report{reading(time.Minute, working(1, 4*second, 900))}, -1, -1, time.Minute},
		{"I/O is not read", working(1, 10*second, 0), []*sessions.Report{reading(time.Minute, working(1, 16*second, 0))}, 0.1, -1, time.Minute},
		{"nor CPU", working(1, 0, 1000), []*sessions.Report{reading(time.Minute, working(1, 0, 7000))}, -1, 100, time.Minute},
		{"no longer read", working(1, 10*second, 1000), []*sessions.Report{reading(time.Minute, working(1, 0, 0))}, 0, 0, 0},
		{"active", active, []*sessions.Report{reading(time.Minute, working(1, 41*second, 9500))}, 0, 0, 0},
		{"active in between", working(1, 10*second, 1000), []*sessions.Report{reading(30*time.Second, active), reading(time.Minute, working(1, 41*second, 9500))}, 0, 0, 0},
		{"another session with its ID", working(1, 10*second, 1000), []*sessions.Report{reading(time.Minute, another)}, 0, 0, 0},
		{"looked at earlier than the rest", working(1, 10*second, 1000), []*sessions.Report{reading(70*time.Second, readEarlier)}, 0.1, 100, time.Minute},
		{"the host's clock was set back", working(1, 10*second, 1000), []*sessions.Report{reading(-time.Hour, working(1, 11*second, 1100)), reading(time.Minute-time.Hour, working(1, 17*second, 7100))}, 0.1, 100, time.Minute},
	} {
		var m *sessions.Meter
		m = m.Next("ts1", reading(0, c.first))
		if len(m.Usage()) != 0 {
			t.Errorf("%s: after one reading: %+v", c.name, m.Usage())
		}
		for _, r := range c.rest {
			m = m.Next("ts1", r)
		}
		u, known := m.Usage()[1]
		if known != (c.over > 0) || u.Over != c.over || math.Abs(u.CPU-c.cpu) > 1e-9 || math.Abs(u.IO-c.io) > 1e-6 {
			t.Errorf("%s: %+v (known: %v)", c.name, u, known)
		}
		if at := c.rest[len(c.rest)-1].ReadAt; known && (u.At.After(at) || at.Sub(u.At) > 30*time.Second) {
			t.Errorf("%s: at %s, last read at %s", c.name, u.At, at)
		}
	}
}
