package sessions

import (
	"cmp"
	"strings"
	"unicode"
	"unicode/utf8"
)

// FoldUser is the form of a user name to find accounts by: names that are
// equal without regard to case, or in lower case, have the same one. Others may
// share it too, so what is found by it is compared once more (Account.Matches).
// It returns s itself where nothing changes. A beginning of whole characters
// folds to a beginning.
func FoldUser(s string) string {
	for i := 0; i < len(s); i++ {
		if c := s[i]; c >= utf8.RuneSelf || 'A' <= c && c <= 'Z' {
			return s[:i] + strings.Map(foldRune, s[i:])
		}
	}
	return s
}

// compareFolded is strings.Compare(folded, FoldUser(s)). Where s is ASCII it
// allocates nothing.
func compareFolded(folded, s string) int {
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c >= utf8.RuneSelf {
			return strings.Compare(folded[i:], FoldUser(s[i:]))
		}
		if i == len(folded) {
			return -1
		}
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		if folded[i] != c {
			return cmp.Compare(folded[i], c)
		}
	}
	return cmp.Compare(len(folded), len(s))
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
