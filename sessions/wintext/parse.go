package wintext

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"unicode"
)

// Bounds of an input: far above what the tools print, far below what hurts.
const (
	maxLine = 512 // bytes
	maxRows = 10000
)

// counterLine is one of the three lines that qwinsta /COUNTER adds at the end.
var counterLine = regexp.MustCompile(`^[^ >].*\S ?: \d+$`)

// ParseQuser reads what quser.exe printed on its standard output. No rows with
// a header is no error; the caller knows by the exit code whether that can be.
// Output without a header is read too, as long as all of it is rows.
func ParseQuser(stdout string) ([]Row, error) { return parse(stdout, quser) }

// ParseQwinsta reads what qwinsta.exe printed on its standard output, in the
// narrow or the wide layout, with or without /COUNTER.
func ParseQwinsta(stdout string) ([]Row, error) { return parse(stdout, qwinsta) }

// parse reads the rows of one listing. One line that cannot be read fails all:
// a listing with a session missing looks like a free slot.
func parse(stdout string, t tool) ([]Row, error) {
	var (
		rows   []Row
		byID   = map[int]bool{}
		first  = true  // the next line may be the header
		footer = false // counters have begun
	)
	for i, line := range strings.Split(strings.TrimPrefix(stdout, "\ufeff"), "\n") {
		line = strings.TrimRight(strings.ReplaceAll(line, "\x00", ""), " \r")
		if line == "" {
			continue
		}
		fail := func(why string) error {
			return fmt.Errorf("%s, line %d (%q): %s", t.name, i+1, shorten(line), why)
		}
		switch {
		case len(line) > maxLine:
			return nil, fail("the line is too long for a row")
		case len(rows) >= maxRows:
			return nil, fail("too many rows")
		case t.counters && len(rows) > 0 && counterLine.MatchString(line):
			footer = true
			continue
		case footer:
			return nil, fail("a row after the counters")
		}
		row, err := t.row(line)
		if err != nil {
			if first && isHeader(line) {
				first = false
				continue
			}
			return nil, fail(err.Error())
		}
		first = false
		if byID[row.ID] {
			return nil, fail("a second row with this ID")
		}
		byID[row.ID] = true
		rows = append(rows, row)
	}
	if first {
		return nil, fmt.Errorf("%s printed nothing", t.name)
	}
	return rows, nil
}

// isHeader reports whether a line looks like the header of a listing: indented
// like a row, in columns, and without a number of its own. Its words differ by
// language and are sometimes garbled, so they say nothing.
func isHeader(line string) bool {
	if line[0] != ' ' || len(wideFields(line)) < 3 {
		return false
	}
	for _, word := range strings.Fields(line) {
		if _, err := strconv.Atoi(word); err == nil {
			return false
		}
	}
	return true
}

// anchor is a line cut around a number that may be its session ID.
type anchor struct {
	before string // with the blanks up to the number
	digits string
	id     int
	after  string // from the blanks behind the number
}

// anchors are all numbers of a line that could be its ID: they stand alone and
// two blanks follow.
func anchors(line string) []anchor {
	var as []anchor
	for i := 0; i < len(line); {
		if line[i] == ' ' {
			i++
			continue
		}
		end := i
		for end < len(line) && line[end] != ' ' {
			end++
		}
		digits := line[i:end]
		id, err := strconv.ParseInt(digits, 10, 32)
		if err == nil && id >= 0 && strconv.FormatInt(id, 10) == digits && strings.HasPrefix(line[end:], "  ") {
			as = append(as, anchor{before: line[:i], digits: digits, id: int(id), after: line[end:]})
		}
		i = end
	}
	return as
}

func hasDigit(s string) bool { return strings.ContainsFunc(s, unicode.IsDigit) }

func hasControl(s string) bool {
	return strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f })
}

// shorten cuts text for an error message.
func shorten(s string) string {
	const most = 64
	if len(s) <= most {
		return s
	}
	return s[:most]
}
