package config

import (
	"testing"
	"time"
)

func TestParseDuration(t *testing.T) {
	good := map[string]time.Duration{
		"0": 0, "0s": 0, "500ms": 500 * time.Millisecond, "30s": 30 * time.Second, "10m": 10 * time.Minute,
		"8h": 8 * time.Hour, "2d": 48 * time.Hour, "1h30m": 90 * time.Minute, "1d12h5m3s1ms": 36*time.Hour + 5*time.Minute + 3*time.Second + time.Millisecond,
		"36500d": 36500 * 24 * time.Hour,
	}
	for s, want := range good {
		if got, err := parseDuration(s); err != nil || got != want {
			t.Errorf("parseDuration(%q) = %v, %v; want %v", s, got, err, want)
		}
	}
	for _, s := range []string{
		"", " ", "5", "s", "-1s", "+1s", "1 s", "1.5h", "1e3s", "1m1m", "1m1h", "1s ", "١s", "1w", "1us", "1h30",
		"36501d", "36500d1s", "9223372036854775807d", "99999999999999999999s",
	} {
		if got, err := parseDuration(s); err == nil {
			t.Errorf("parseDuration(%q) = %v without an error", s, got)
		}
	}
}

func TestHostPort(t *testing.T) {
	for _, c := range []struct {
		in   string
		port int
		want string
	}{
		{"ts1", 3389, "ts1:3389"},
		{"ts1.contoso.example:3390", 3389, "ts1.contoso.example:3390"},
		{"10.0.0.1", 22, "10.0.0.1:22"},
		{"::1", 22, "[::1]:22"},
		{"[::1]", 22, "[::1]:22"},
		{"[fe80::1%eth0]:5", 22, "[fe80::1%eth0]:5"},
		{":3389", 0, ":3389"},
		{"127.0.0.1:0", 0, "127.0.0.1:0"},
		{"TS_1", 1, "TS_1:1"},
		{"términal", 1, "términal:1"},
		{"", 22, ""}, {":22", 22, ""}, {"a:b:c", 22, ""}, {"ts1", 0, ""}, {"ts1:", 22, ""}, {"ts1:0", 22, ""}, {"ts1:65536", 22, ""},
		{"ts1:+1", 22, ""}, {"a b", 22, ""}, {"a/b", 22, ""}, {"user@ts1", 22, ""}, {"https://ts1", 22, ""}, {".", 22, ""}, {"[ts1", 22, "ts1:22"},
	} {
		got, err := hostPort(c.in, c.port)
		if got != c.want || (err != nil) != (c.want == "") {
			t.Errorf("hostPort(%q, %d) = %q, %v; want %q", c.in, c.port, got, err, c.want)
		}
	}
}

func TestInstead(t *testing.T) {
	known := []string{"balance", "wait", "pins"}
	for in, want := range map[string]string{
		"blance":  "did you mean balance?",
		"Balance": "did you mean balance?",
		"wiat":    "did you mean wait?",
		"colour":  "one of balance, pins, wait",
		"":        "one of balance, pins, wait",
	} {
		if got := instead(in, known); got != want {
			t.Errorf("instead(%q) = %q, want %q", in, got, want)
		}
	}
	if got := instead("x", nil); got != "" {
		t.Errorf("of no words, %q is suggested", got)
	}
}

func TestEditDistance(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"", "abc", 3}, {"abc", "", 3}, {"abc", "abc", 0}, {"abc", "acb", 1}, {"kitten", "sitting", 3}, {"evcit", "evict", 1}} {
		if got := editDistance(c.a, c.b); got != c.want {
			t.Errorf("editDistance(%q, %q) = %d, want %d", c.a, c.b, got, c.want)
		}
	}
}

func TestPath(t *testing.T) {
	p := path("").key("farms").key("office").key("hosts").index(3).key("name")
	if p != "farms.office.hosts[3].name" {
		t.Errorf("the path is %s", p)
	}
	var up []path
	for q := p; q != ""; q = q.parent() {
		up = append(up, q)
	}
	diff(t, []path{p, "farms.office.hosts[3]", "farms.office.hosts", "farms.office", "farms"}, up)
	if q := path("pins").key(`CONTOSO\alice`); q != `pins.'CONTOSO\alice'` {
		t.Errorf("a quoted key gives %s", q)
	}
	if q := path("pins").key("it's\n"); q != `pins."it's\n"` {
		t.Errorf("an unprintable key gives %s", q)
	}
}
