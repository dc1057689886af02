package placement

import (
	"fmt"
	"strings"
	"time"
)

// Hours are the times of the week at which somebody may be logged off, by the
// clock on the wall: when summer time begins or ends they move with it. The zero
// value is at all times.
type Hours struct {
	// Location is where the wall is; nil means UTC.
	Location *time.Location
	Windows  []Window
}

// Window is a time of the day on some days of the week. One that ends before it
// begins goes on into the next day.
type Window struct {
	Days Weekdays
	// From and To are minutes after midnight: 0 to 1439, and 1 to 1440. To itself is
	// outside.
	From, To int
}

// Weekdays is a set of days: bit 0 is Sunday, as in time.Weekday.
type Weekdays uint8

// EveryDay is the whole week.
const EveryDay Weekdays = 1<<7 - 1

var dayNames = [...]string{"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"}

func (d Weekdays) has(day time.Weekday) bool { return d&(1<<day) != 0 }

// Open reports whether at lies in one of the windows.
func (h Hours) Open(at time.Time) bool {
	if len(h.Windows) == 0 {
		return true
	}
	if h.Location != nil {
		at = at.In(h.Location)
	} else {
		at = at.UTC()
	}
	today, minute := at.Weekday(), at.Hour()*60+at.Minute()
	yesterday := (today + 6) % 7
	for _, w := range h.Windows {
		overnight := w.To <= w.From
		if w.Days.has(today) && minute >= w.From && (overnight || minute < w.To) ||
			overnight && w.Days.has(yesterday) && minute < w.To {
			return true
		}
	}
	return false
}

// String is the windows as ParseWindow reads them, and the location.
func (h Hours) String() string {
	texts := make([]string, len(h.Windows))
	for i, w := range h.Windows {
		texts[i] = w.String()
	}
	out := strings.Join(texts, ", ")
	if h.Location != nil && out != "" {
		out += " " + h.Location.String()
	}
	return out
}

// ParseWindow reads "Mon-Fri 07:00-19:00", "Sat,Sun 10:00-14:00" or, for every
// day, "22:00-06:00". 24:00 is the end of a day.
func ParseWindow(s string) (Window, error) {
	w := Window{Days: EveryDay}
	fields := strings.Fields(s)
	if len(fields) == 2 {
		days, err := parseDays(fields[0])
		if err != nil {
			return Window{}, err
		}
		w.Days, fields = days, fields[1:]
	}
	if len(fields) != 1 {
		return Window{}, fmt.Errorf("%q is no time of the week", s)
	}
	from, to, ok := strings.Cut(fields[0], "-")
	var okFrom, okTo bool
	w.From, okFrom = parseMinute(from)
	w.To, okTo = parseMinute(to)
	if !ok || !okFrom || !okTo || w.From == 24*60 || w.To == w.From {
		return Window{}, fmt.Errorf("%q is no time of the day", fields[0])
	}
	if w.To == 0 {
		w.To = 24 * 60
	}
	return w, nil
}

// String is w as ParseWindow reads it.
func (w Window) String() string {
	times := fmt.Sprintf("%02d:%02d-%02d:%02d", w.From/60, w.From%60, w.To/60, w.To%60)
	if w.Days == EveryDay {
		return times
	}
	var parts []string
	for i := 0; i < 7; i++ { // from Monday, as people count
		first := time.Weekday((i + 1) % 7)
		if !w.Days.has(first) {
			continue
		}
		n := i
		for n < 6 && w.Days.has(time.Weekday((n+2)%7)) {
			n++
		}
		last := dayNames[(n+1)%7]
		switch n - i {
		case 0:
			parts = append(parts, last)
		case 1:
			parts = append(parts, dayNames[first], last)
		default:
			parts = append(parts, dayNames[first]+"-"+last)
		}
		i = n
	}
	return strings.Join(parts, ",") + " " + times
}

func parseDays(s string) (Weekdays, error) {
	var days Weekdays
	for _, part := range strings.Split(s, ",") {
		from, to, isRange := strings.Cut(part, "-")
		if !isRange {
			to = from
		}
		first, ok1 := parseDay(from)
		last, ok2 := parseDay(to)
		if !ok1 || !ok2 {
			return 0, fmt.Errorf("%q are no days of the week", part)
		}
		for d := first; ; d = (d + 1) % 7 {
			days |= 1 << d
			if d == last {
				break
			}
		}
	}
	return days, nil
}

func parseDay(s string) (time.Weekday, bool) {
	for d, name := range dayNames {
		if strings.EqualFold(s, name) {
			return time.Weekday(d), true
		}
	}
	return 0, false
}

// parseMinute reads HH:MM.
func parseMinute(s string) (minute int, ok bool) {
	if len(s) != 5 || s[2] != ':' {
		return 0, false
	}
	for i, c := range []byte(s) {
		if i != 2 && (c < '0' || c > '9') {
			return 0, false
		}
	}
	h, m := int(s[0]-'0')*10+int(s[1]-'0'), int(s[3]-'0')*10+int(s[4]-'0')
	return h*60 + m, h < 24 && m < 60 || h == 24 && m == 0
}
