package placement_test

import (
	"strings"
	"testing"
	"time"
	_ "time/tzdata"

	"pgregory.net/rapid"

	"github.com/rdpbroker/rdpbroker/broker/placement"
)

func hours(t testing.TB, zone string, windows ...string) placement.Hours {
	t.Helper()
	loc, err := time.LoadLocation(zone)
	if err != nil {
		t.Fatal(err)
	}
	h := placement.Hours{Location: loc}
	for _, text := range windows {
		w, err := placement.ParseWindow(text)
		if err != nil {
			t.Fatal(err)
		}
		h.Windows = append(h.Windows, w)
	}
	return h
}

func TestHours(t *testing.T) {
	office := hours(t, "Europe/Berlin", "Mon-Fri 07:00-19:00", "Sat 10:00-14:00")
	night := hours(t, "Europe/Berlin", "Fri 22:00-06:00")
	late := hours(t, "Europe/Berlin", "02:00-03:00") // the hour that summer time takes away, and brings twice
	for _, c := range []struct {
		h    placement.Hours
		at   string // in UTC
		want bool
	}{
		{office, "2026-03-02T05:59:59Z", false}, // Monday, 06:59 in winter
		{office, "2026-03-02T06:00:00Z", true},
		{office, "2026-03-02T17:59:59Z", true},
		{office, "2026-03-02T18:00:00Z", false},
		{office, "2026-07-06T05:00:00Z", true}, // Monday, 07:00 in summer
		{office, "2026-07-06T17:00:00Z", false},
		{office, "2026-03-07T09:00:00Z", true}, // Saturday, 10:00
		{office, "2026-03-07T13:00:00Z", false},
		{office, "2026-03-08T09:00:00Z", false}, // Sunday
		{night, "2026-03-06T20:59:00Z", false},  // Friday, 21:59
		{night, "2026-03-06T21:00:00Z", true},
		{night, "2026-03-07T04:59:00Z", true}, // Saturday, 05:59
		{night, "2026-03-07T05:00:00Z", false},
		{night, "2026-03-07T21:00:00Z", false}, // Saturday, 22:00
		{night, "2026-03-06T04:00:00Z", false}, // Friday, 05:00: that night was Thursday's
		{late, "2026-03-29T00:59:00Z", false},  // 01:59, and a minute later it is 03:00
		{late, "2026-03-29T01:00:00Z", false},
		{late, "2026-10-25T00:30:00Z", true}, // 02:30 for the first time
		{late, "2026-10-25T01:30:00Z", true}, // and for the second
		{late, "2026-10-25T02:00:00Z", false},
		{placement.Hours{}, "2026-03-08T03:00:00Z", true},
		{placement.Hours{Windows: office.Windows}, "2026-03-02T07:00:00Z", true}, // UTC
		{placement.Hours{Windows: office.Windows}, "2026-03-02T06:59:00Z", false},
	} {
		at, err := time.Parse(time.RFC3339, c.at)
		if err != nil {
			t.Fatal(err)
		}
		if got := c.h.Open(at); got != c.want {
			t.Errorf("%s at %s: %v", c.h, c.at, got)
		}
	}
	if got := office.String(); got != "Mon-Fri 07:00-19:00, Sat 10:00-14:00 Europe/Berlin" {
		t.Errorf("it is printed as %q", got)
	}
}

func TestParseWindow(t *testing.T) {
	for in, want := range map[string]string{
		"Mon-Fri 07:00-19:00":  "Mon-Fri 07:00-19:00",
		"sat,SUN 10:00-14:00":  "Sat,Sun 10:00-14:00",
		"  22:00-06:00 ":       "22:00-06:00",
		"Fri-Mon 00:00-00:00x": "",
		"Fri-Mon 00:00-24:00":  "Mon,Fri-Sun 00:00-24:00",
		"Mon 12:00-00:00":      "Mon 12:00-24:00",
		"Mon-Sun 09:00-10:00":  "09:00-10:00",
		"Mon,Wed,Fri 9:00-10":  "",
		"Mon,Wed,Fri 09:00-10": "",
		"Mon 09:00-09:00":      "",
		"Mon 24:00-09:00":      "",
		"Mon 09:00-24:01":      "",
		"Mon 09:60-12:00":      "",
		"Mon 25:00-12:00":      "",
		"Mo 09:00-12:00":       "",
		"Mon-Fri":              "",
		"Mon - Fri 9-12":       "",
		"":                     "",
		"09:00":                "",
		"-1:00-02:00":          "",
	} {
		w, err := placement.ParseWindow(in)
		if want == "" {
			if err == nil {
				t.Errorf("%q is read as %s", in, w)
			}
			continue
		}
		if err != nil || w.String() != want {
			t.Errorf("%q: %s, %v; want %s", in, w, err, want)
		}
	}
}

// What is printed reads back as the same window.
func TestWindowsRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := placement.Window{
			Days: placement.Weekdays(rapid.IntRange(1, 127).Draw(t, "days")),
			From: rapid.IntRange(0, 1439).Draw(t, "from"), To: rapid.IntRange(1, 1440).Draw(t, "to"),
		}
		if w.From == w.To {
			t.Skip("no time at all")
		}
		got, err := placement.ParseWindow(w.String())
		if err != nil || got != w {
			t.Fatalf("%+v is printed as %s, which is %+v (%v)", w, w, got, err)
		}
	})
}

func FuzzParseWindow(f *testing.F) {
	for _, s := range []string{"Mon-Fri 07:00-19:00", "22:00-06:00", "Sat,Sun 10:00-24:00", "x", "-", "Mon, 1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		w, err := placement.ParseWindow(s)
		if err != nil {
			return
		}
		again, err := placement.ParseWindow(w.String())
		if err != nil || again != w || w.Days == 0 || strings.TrimSpace(s) == "" {
			t.Errorf("%q is %+v, printed as %s: %v", s, w, w, err)
		}
	})
}
