package sessions

import (
	"strings"
	"unicode"
)

// Bounds of a message to a user, in characters.
const (
	MaxTitle   = 100
	MaxMessage = 1000
)

// Shown is a text as a user may be shown it: without control characters but line
// ends, without blanks around it, and with at most so many characters.
func Shown(text string, most int) string {
	text = strings.TrimSpace(strings.Map(func(r rune) rune {
		if unicode.IsControl(r) && r != '\n' {
			return -1
		}
		return r
	}, strings.ToValidUTF8(text, "?")))
	if r := []rune(text); len(r) > most {
		text = string(r[:most])
	}
	return text
}
