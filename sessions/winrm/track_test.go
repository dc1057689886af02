package winrm

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/rdpbroker/rdpbroker/sessions"
	"github.com/rdpbroker/rdpbroker/sessions/wintext"
)

var noon = time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)

// at is a reading of one session that was begun so long after noon.
func at(after time.Duration, row wintext.Row) *reading {
	return &reading{rows: []wintext.Row{row}, begun: noon.Add(after), idleAt: noon.Add(after + time.Second)}
}

func TestTrackerKeepsTheDisconnectTime(t *testing.T) {
	const m = time.Minute
	connected := active("anna", 3)
	connected.LogonText = disconnected("anna", 3, 0).LogonText
	noIdle := disconnected("anna", 3, 0)
	noIdle.HasIdle = false
	another := disconnected("anna", 3, 10*m)
	another.LogonText = "8/26/2021 9:00 AM"
	ago := func(d time.Duration) time.Time { return noon.Add(-d) }
	for _, tt := range []struct {
		name     string
		readings []*reading
		want     time.Time
	}{
		{"the first reading", []*reading{at(0, disconnected("anna", 3, 10*m))}, ago(10*m - time.Second)},
		{"not after the reading began", []*reading{at(0, disconnected("anna", 3, 0))}, noon},
		{"the minute has not turned yet", []*reading{at(0, disconnected("anna", 3, 10*m)), at(45*time.Second, disconnected("anna", 3, 10*m))}, ago(10*m - time.Second)},
		{"it has turned early", []*reading{at(0, disconnected("anna", 3, 10*m)), at(5*time.Second, disconnected("anna", 3, 11*m))}, ago(10*m - time.Second)},
		{"an hour later", []*reading{at(0, disconnected("anna", 3, 10*m)), at(60*m, disconnected("anna", 3, 70*m))}, ago(10*m - time.Second)},
		{"idle for less than before", []*reading{at(0, disconnected("anna", 3, 10*m)), at(m, disconnected("anna", 3, 5*m))}, noon},
		{"idle has not grown for too long", []*reading{at(0, disconnected("anna", 3, 10*m)), at(5*m, disconnected("anna", 3, 12*m))}, ago(7*m - time.Second)},
		{"connected in between, and idle before it", []*reading{at(0, connected), at(m, disconnected("anna", 3, 10*m))}, noon},
		{"another session with this ID", []*reading{at(0, connected), at(m, another)}, ago(9*m - time.Second)},
		{"idle not readable in between", []*reading{at(0, disconnected("anna", 3, 10*m)), at(m, noIdle), at(2*m, disconnected("anna", 3, 12*m))}, noon.Add(m)},
		{"idle not readable", []*reading{at(0, disconnected("anna", 3, 10*m)), at(m, noIdle)}, time.Time{}},
		{"an older reading comes late", []*reading{at(2*m, disconnected("anna", 3, 0)), at(0, connected), at(3*m, disconnected("anna", 3, m))}, noon.Add(2 * m)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var tr tracker
			var got []sessions.Session
			for _, r := range tt.readings {
				got = tr.take(r)
			}
			if !got[0].DisconnectedAt.Equal(tt.want) {
				t.Errorf("disconnected at %v, want %v", got[0].DisconnectedAt.Sub(noon), tt.want.Sub(noon))
			}
		})
	}
}

// Whatever a user does and whenever we look: a session never looks disconnected
// for longer than it is, but for what the minute and the reading itself hide; it
// is never said to be disconnected at a time when a reading saw it connected;
// and as long as it is left alone its disconnect time stays the same.
func TestTrackerProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var (
			tr                      tracker
			now                     = noon
			connected               = true
			lastInput, disconnectAt = noon, noon
			sawConnected            time.Time // when the newest reading that did was begun
			since                   time.Time // what the first reading of this disconnection said
			hidden                  bool      // it was connected meanwhile and no reading saw that
			fromInput               = rapid.Bool().Draw(t, "idle counts from the last input")
		)
		wait := func(name string, most time.Duration) {
			now = now.Add(time.Duration(rapid.Int64Range(0, int64(most/time.Millisecond)).Draw(t, name)) * time.Millisecond)
		}
		for range rapid.IntRange(1, 25).Draw(t, "steps") {
			wait("pause", 3*time.Minute)
			switch rapid.IntRange(0, 4).Draw(t, "event") {
			case 0: // connect or disconnect
				connected = !connected
				since = time.Time{}
				if connected {
					lastInput, hidden = now, true
				} else {
					disconnectAt = now
				}
				continue
			case 1: // type
				if connected {
					lastInput = now
				}
				continue
			}
			r := &reading{begun: now}
			wait("way there", 4*time.Second)
			idleFrom := disconnectAt
			if connected || fromInput {
				idleFrom = lastInput
			}
			row := active("anna", 3)
			if !connected {
				row = disconnected("anna", 3, 0)
			}
			row.LogonText, row.Idle = "x", now.Sub(idleFrom).Truncate(time.Minute)
			wait("way back", 4*time.Second)
			r.rows, r.idleAt = []wintext.Row{row}, now
			got := tr.take(r)[0].DisconnectedAt
			switch {
			case connected:
				sawConnected, hidden = r.begun, false
				if !got.IsZero() {
					t.Fatalf("a connected session is disconnected since %v", got)
				}
				continue
			case got.IsZero() || got.After(r.begun):
				t.Fatalf("disconnected at %v, in a reading begun at %v", got, r.begun)
			case got.Before(sawConnected):
				t.Fatalf("disconnected at %v, but was seen connected at %v", got, sawConnected)
			case !fromInput && got.Before(disconnectAt.Add(-resolution)):
				t.Fatalf("disconnected at %v, but that was at %v", got, disconnectAt)
			case hidden && !since.IsZero() && got.After(since):
				hidden = false // a reconnect within the minute shows later, or never
			case !since.IsZero() && !got.Equal(since):
				t.Fatalf("disconnected at %v, which was %v before", got, since)
			}
			since = got
		}
	})
}
