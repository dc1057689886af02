package sessions

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// foldUser is the form of a user name that the index is kept in: names that are
// equal without regard to case, or in lower case, have the same one. Others may
// share it too, so what is found by it is compared once more (Account.Matches).
// It returns s itself where nothing changes, and the sum of a cut is the cut of
// the sum: a prefix of whole characters folds to a prefix.
func foldUser(s string) string {
	for i := 0; i < len(s); i++ {
		if c := s[i]; c >= utf8.RuneSelf || 'A' <= c && c <= 'Z' {
			return s[:i] + strings.Map(foldRune, s[i:])
		}
	}
	return s
}

// foldRune is the lowest of the characters that c is equal to without regard to
// case, but in lower case where that is a letter of ASCII.
func foldRune(c rune) rune {
	if c < utf8.RuneSelf {
		return unicode.ToLower(c)
	}
	c = unicode.ToLower(c) // İ becomes i, which it does not fold to
	least := c
	for r := unicode.SimpleFold(c); r != c; r = unicode.SimpleFold(r) {
		least = min(least, r)
	}
	if least < utf8.RuneSelf {
		return unicode.ToLower(least)
	}
	return least
}
