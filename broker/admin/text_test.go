package admin_test

import (
	"strings"
	"testing"
	"time"

	"github.com/rdpbroker/rdpbroker/broker/admin"
)

func TestAge(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Second: "0s", 0: "0s", 59*time.Second + 999*time.Millisecond: "59s", time.Minute: "1m", 59 * time.Minute: "59m",
		time.Hour: "1h0m", 192 * time.Minute: "3h12m", 24 * time.Hour: "1d0h", 52 * time.Hour: "2d4h", 4000 * time.Hour: "166d16h",
	} {
		if got := admin.Age(d); got != want {
			t.Errorf("age(%v) = %s, want %s", d, got, want)
		}
	}
}

func TestClean(t *testing.T) {
	for in, want := range map[string]string{
		"":                     "",
		`CONTOSO\alice`:        `CONTOSO\alice`,
		"Zoë Müller 田中":        "Zoë Müller 田中",
		"a\tb\nc\r\x00\x7f":    `a\x09b\x0ac\x0d\x00\x7f`,
		"\x1b]0;title\x07":     `\x1b]0;title\x07`,
		"\u009b31m\u202eevil":  `\u009b31m\u202eevil`,
		"\xff\xfe":             `\xff\xfe`,
		"\U000e0041":           `\U000e0041`,
		strings.Repeat("ä", 9): strings.Repeat("ä", 9),
	} {
		if got := admin.Clean(in, 20); got != want {
			t.Errorf("clean(%q) = %q, want %q", in, got, want)
		}
	}
	if got := admin.Clean("äöüß", 3); got != "äöü…" {
		t.Errorf("cut: %q", got)
	}
}
