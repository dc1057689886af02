package main

import (
	"testing"
	"time"
)

func TestComing(t *testing.T) {
	now := time.Date(2026, 3, 28, 17, 0, 0, 0, time.Local)
	for s, want := range map[string]time.Time{
		"":                     {},
		"+2h":                  now.Add(2 * time.Hour),
		"+1d":                  now.Add(24 * time.Hour),
		"18:30":                now.Add(90 * time.Minute),
		"17:00":                now,
		"16:59":                time.Date(2026, 3, 29, 16, 59, 0, 0, time.Local),
		"2026-03-30T09:00":     time.Date(2026, 3, 30, 9, 0, 0, 0, time.Local),
		"2026-03-30T09:00:00Z": time.Date(2026, 3, 30, 9, 0, 0, 0, time.UTC),
	} {
		got, err := coming(s, now)
		if err != nil || !got.Equal(want) {
			t.Errorf("--at %q is %s (%v), want %s", s, got, err, want)
		}
	}
	for _, s := range []string{"tomorrow", "+x", "2h", "25:00", "+"} {
		if got, err := coming(s, now); err == nil {
			t.Errorf("--at %q is %s", s, got)
		}
	}
}
