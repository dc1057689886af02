package wintext

import (
	"errors"
	"fmt"
	"strings"
)

// layout is the printf format of a row up to and including the ID:
// "%c%-<first>s  %-<second>s<gap>%<id>d", in display cells.
type layout struct {
	first, second, gap, id int
}

// print is the left part of a row in this layout. Nothing is cut: what is wider
// than its column pushes the rest to the right, as printf does.
func (l layout) print(own bool, first, second, id string) string {
	mark := " "
	if own {
		mark = ">"
	}
	return mark + padRight(first, l.first) + "  " + padRight(second, l.second) +
		strings.Repeat(" ", l.gap) + padLeft(id, l.id)
}

// tool is one of the two programs: where its columns are and what they mean.
type tool struct {
	name    string
	layouts []layout
	// put fills a row from its two columns left of the ID. ok is false if the
	// tool never prints such a row.
	put func(r *Row, first, second string) (ok bool)
	// right reads what stands right of the ID into r. exact demands the printed
	// padding. ok is false if it cannot be that.
	right func(r *Row, after string, exact bool) (ok bool)
	// counters: three lines of totals may follow the rows.
	counters bool
}

var quser = tool{
	name:    "quser",
	layouts: []layout{{first: 20, second: 16, gap: 1, id: 4}},
	put: func(r *Row, first, second string) bool {
		r.User, r.SessionName = first, second
		return first != "" // quser lists users, not sessions
	},
	right: quserRight,
}

var qwinsta = tool{
	name: "qwinsta",
	layouts: []layout{
		{first: 16, second: 20, gap: 2, id: 5},
		{first: 24, second: 20, gap: 2, id: 5}, // newer Windows 11
	},
	put: func(r *Row, first, second string) bool {
		r.SessionName, r.User = first, second
		return true
	},
	right:    qwinstaRight,
	counters: true,
}

var (
	errNoRow     = errors.New("not a row of this listing")
	errAmbiguous = errors.New("the row can be read in more than one way")
)

// row reads one line: as printed if it can be, else by its words alone.
func (t tool) row(line string) (Row, error) {
	if hasControl(line) {
		return Row{}, errors.New("a control character")
	}
	found := t.exact(line)
	if len(found) == 0 {
		found = t.loose(line)
	}
	switch len(found) {
	case 0:
		return Row{}, errNoRow
	case 1:
		return found[0], nil
	}
	return Row{}, fmt.Errorf("%w (session %d or %d)", errAmbiguous, found[0].ID, found[1].ID)
}

// exact are all different readings of a line that print as that very line.
func (t tool) exact(line string) []Row {
	var found []Row
	for _, a := range anchors(line) {
		own := line[0] == '>'
		if a.before == "" || (line[0] != ' ' && !own) {
			continue
		}
		for _, l := range t.layouts {
			for _, s := range splits(a.before[1:], l.first) {
				if l.print(own, s.first, s.second, a.digits) != a.before+a.digits {
					continue
				}
				r := Row{Own: own, ID: a.id}
				if t.put(&r, s.first, s.second) && t.right(&r, a.after, true) {
					found = appendNew(found, r)
				}
			}
		}
	}
	return found
}

// loose are the readings of a line whose padding was changed, by hand or by a
// terminal: columns are what two or more blanks separate. A column counts only
// if it starts near its place, so that a lonely name is not taken for the
// wrong one.
func (t tool) loose(line string) []Row {
	var found []Row
	for _, a := range anchors(line) {
		before, own := strings.CutPrefix(a.before, ">")
		shift := 0
		if own {
			shift = 1
		}
		for _, l := range t.layouts {
			first, second, ok := l.near(wideFields(before), shift)
			r := Row{Own: own, ID: a.id}
			if ok && t.put(&r, first, second) && t.right(&r, a.after, false) {
				found = appendNew(found, r)
			}
		}
	}
	return found
}

// slack is how many cells a column may be off its place in a loose reading;
// published listings are up to four off.
const slack = 4

// near sorts the fields left of the ID into the two columns. shift is the cells
// that were cut off in front of them.
func (l layout) near(fs []field, shift int) (first, second string, ok bool) {
	if len(fs) > 0 && fs[0].cell+shift <= 1 {
		first, fs = fs[0].text, fs[1:]
	}
	place := 1 + l.first + 2
	if len(fs) > 0 && abs(fs[0].cell+shift-place) <= slack {
		second, fs = fs[0].text, fs[1:]
	}
	return first, second, len(fs) == 0
}

// split is a way to tell the two columns left of the ID apart.
type split struct{ first, second string }

// splits are the ways to cut text in two: at the column's place, and, for a
// first column that overflowed it, at each run of two or more blanks.
func splits(text string, column int) []split {
	var ss []split
	if before, after, ok := cutCells(text, column); ok {
		ss = append(ss, split{strings.TrimRight(before, " "), strings.Trim(after, " ")})
	}
	for _, f := range wideFields(text)[min(1, len(wideFields(text))):] {
		before, after, _ := cutCells(text, f.cell)
		ss = append(ss, split{strings.TrimRight(before, " "), strings.TrimRight(after, " ")})
	}
	return append(ss, split{strings.TrimRight(text, " "), ""})
}

// appendNew appends r unless the same reading is there already.
func appendNew(rows []Row, r Row) []Row {
	for _, have := range rows {
		if have == r {
			return rows
		}
	}
	return append(rows, r)
}

func abs(n int) int { return max(n, -n) }
