package sessions

import (
	"strings"
	"testing"
)

func TestShown(t *testing.T) {
	for in, want := range map[string]string{
		"":                                    "",
		" \x00\n":                             "",
		"two\nlines\r\n":                      "two\nlines",
		"\x1b[31mred\x07":                     "[31mred",
		"not \xff UTF-8":                      "not ? UTF-8",
		strings.Repeat("ä", 2000) + "\x1b[0m": strings.Repeat("ä", MaxMessage),
	} {
		if got := Shown(in, MaxMessage); got != want {
			t.Errorf("%.20q: %.40q", in, got)
		}
	}
}
