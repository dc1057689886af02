package wintext

import (
	"strings"
	"unicode/utf8"

	"golang.org/x/text/width"
)

// cells is the width of s on a console. A byte that is not UTF-8 counts one
// cell: so did it in the OEM code page that the tool padded it in.
func cells(s string) int {
	n := 0
	for i := 0; i < len(s); {
		r, size := utf8.DecodeRuneInString(s[i:])
		n += runeCells(r)
		i += size
	}
	return n
}

func runeCells(r rune) int {
	switch width.LookupRune(r).Kind() {
	case width.EastAsianWide, width.EastAsianFullwidth:
		return 2
	}
	return 1
}

// cutCells cuts s after n cells. ok is false if s is narrower than that or a
// wide character straddles the cut.
func cutCells(s string, n int) (before, after string, ok bool) {
	for i := 0; i < len(s); {
		if n <= 0 {
			return s[:i], s[i:], n == 0
		}
		r, size := utf8.DecodeRuneInString(s[i:])
		n -= runeCells(r)
		i += size
	}
	return s, "", n == 0
}

// padRight is printf's %-*s by cells: s and blanks up to n cells, never cut.
func padRight(s string, n int) string {
	return s + strings.Repeat(" ", max(0, n-cells(s)))
}

// padLeft is printf's %*s by cells.
func padLeft(s string, n int) string {
	return strings.Repeat(" ", max(0, n-cells(s))) + s
}

// cutWide cuts s at its first run of two or more blanks, which separates
// columns; a single blank may stand inside a name. Without such a run all of s
// is before.
func cutWide(s string) (before, after string) {
	i := strings.Index(s, "  ")
	if i < 0 {
		return strings.TrimRight(s, " "), ""
	}
	return s[:i], strings.TrimLeft(s[i:], " ")
}

// field is a piece of a line between runs of two or more blanks.
type field struct {
	text string
	cell int // where it starts
}

// wideFields are the fields of s in order; cells are counted from its start.
func wideFields(s string) []field {
	var fs []field
	for i := 0; i < len(s); {
		if s[i] == ' ' {
			i++
			continue
		}
		text, _ := cutWide(s[i:])
		fs = append(fs, field{text: text, cell: cells(s[:i])})
		i += len(text)
	}
	return fs
}
