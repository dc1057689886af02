package wintext

import (
	"strings"
	"unicode"
)

// quserRight reads "  %-6s  %9s  %s": state, idle time, logon time. The words
// for "no idle time" are not padded to nine cells but bring blanks of their
// own, so only the left edge of the state is certain.
func quserRight(r *Row, after string, exact bool) bool {
	text, ok := stateColumn(after, exact)
	if !ok {
		return false
	}
	state, rest := cutWide(text)
	idle, logon, ok := cutIdle(rest)
	if !ok || !r.putState(state) {
		return false
	}
	r.IdleText, r.LogonText = idle, logon
	r.Idle, r.HasIdle = parseIdle(idle)
	return true
}

// cutIdle cuts what follows quser's state into idle and logon time. The idle
// time is a number or a word or words without a digit, the logon time has
// digits and no second column in it.
func cutIdle(s string) (idle, logon string, ok bool) {
	idle, logon, _ = strings.Cut(s, " ")
	if !idlePattern.MatchString(idle) && !isNone(idle) {
		if wide, rest := cutWide(s); !hasDigit(wide) {
			idle, logon = wide, rest
		} else {
			// One blank only, as behind the Russian word: the date begins with
			// the first word that has a digit in it.
			date := strings.IndexFunc(s, unicode.IsDigit)
			word := strings.LastIndexByte(s[:date], ' ')
			if word < 0 {
				return "", "", false
			}
			idle, logon = s[:word], s[word:]
		}
	}
	idle, logon = strings.TrimSpace(idle), strings.TrimSpace(logon)
	return idle, logon, idle != "" && hasDigit(logon) && !strings.Contains(logon, "  ")
}

// qwinstaRight reads "  %-6s  %-12s%8s": state, type, device.
func qwinstaRight(r *Row, after string, exact bool) bool {
	text, ok := stateColumn(after, exact)
	if !ok {
		return false
	}
	state, rest := cutWide(text)
	if !r.putState(state) {
		return false
	}
	if rest == "" {
		return true
	}
	if !exact {
		return r.putLooseType(strings.Fields(rest))
	}
	const typeCells, deviceCells = 12, 8
	_, columns, ok := cutCells(text, max(6, cells(state))+2)
	if !ok {
		return false
	}
	kind, device, _ := cutCells(padRight(columns, typeCells), typeCells)
	kind, device = strings.TrimRight(kind, " "), strings.TrimLeft(device, " ")
	r.Type, r.Device = kind, device
	printed := padRight(state, 6) + "  " + padRight(kind, typeCells) + padLeft(device, deviceCells)
	return strings.TrimRight(printed, " ") == text
}

// putLooseType takes what follows qwinsta's state in a row of changed padding.
// A number there is the ID, and what was taken for it part of a user name.
func (r *Row) putLooseType(words []string) bool {
	if len(words) > 2 || !strings.ContainsFunc(words[0], unicode.IsLetter) {
		return false
	}
	r.Type, r.Device = words[0], strings.Join(words[1:], "")
	return true
}

// stateColumn is what follows the ID, from its first word on: two cells away in
// an exact row, two or more in a loose one.
func stateColumn(after string, exact bool) (string, bool) {
	text := strings.TrimLeft(after, " ")
	if text == "" || (exact && len(after)-len(text) != 2) {
		return "", false
	}
	return text, true
}

// putState takes a state word. No language has one with a digit in it; what has
// is another column.
func (r *Row) putState(word string) bool {
	if word == "" || hasDigit(word) {
		return false
	}
	r.StateText, r.State = word, stateOf(word)
	return true
}
