package sessions

import (
	"testing"
	"time"
)

func TestKeepUntil(t *testing.T) {
	logon := time.Date(2026, 3, 2, 8, 0, 0, 0, time.UTC)
	now := logon.Add(10 * time.Hour)
	marked := logon.Add(time.Hour)
	for _, c := range []struct {
		name, text string
		marked     time.Time
		want       time.Time
	}{
		{"hours", "8h", marked, marked.Add(8 * time.Hour)},
		{"with blanks and a line end", " 8H\r\n", marked, marked.Add(8 * time.Hour)},
		{"until it is removed", "", marked, marked.Add(KeepAtMost)},
		{"longer than allowed", "169h", marked, marked.Add(KeepAtMost)},
		{"the longest", "168h", marked, marked.Add(KeepAtMost)},
		{"no hours", "0h", marked, marked},
		{"negative", "-8h", marked, marked.Add(KeepAtMost)},
		{"more than a number holds", "99999999999999999999h", marked, marked.Add(KeepAtMost)},
		{"no unit", "8", marked, marked.Add(KeepAtMost)},
		{"words", "please", marked, marked.Add(KeepAtMost)},
		{"from the host's future", "1h", now.Add(30 * 24 * time.Hour), now.Add(time.Hour)},
		{"from an earlier session", "8h", logon.Add(-time.Second), time.Time{}},
		{"as old as the session", "8h", logon, logon.Add(8 * time.Hour)},
		{"no marker", "", time.Time{}, time.Time{}},
	} {
		if got := KeepUntil(c.text, c.marked, logon, now); !got.Equal(c.want) {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

func FuzzKeepUntil(f *testing.F) {
	f.Add("8h", int64(5), int64(3))
	f.Add("", int64(0), int64(0))
	f.Fuzz(func(t *testing.T, text string, marked, logon int64) {
		now := time.Unix(1_800_000_000, 0)
		got := KeepUntil(text, time.Unix(marked, 0), time.Unix(logon, 0), now)
		if got.After(now.Add(KeepAtMost)) {
			t.Errorf("kept until %s, %s after now", got, got.Sub(now))
		}
	})
}
