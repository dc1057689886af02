package config

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
)

// Problem is one thing that is wrong, or risky, in a configuration file.
type Problem struct {
	// File is the file's name as it was given to Load or Parse, or the name of a
	// list that the configuration names.
	File string
	// Line and Column count from 1; 0 where the problem is the file as a whole.
	Line, Column int
	// Key is the dotted path of the key: farms.office.hosts[0].slots; "" where
	// there is none.
	Key string
	// What is wrong, to be read after the key.
	What string
	// Allowed says what to write instead, "" where there is nothing to say.
	Allowed string
}

// String is FILE:LINE:COLUMN: KEY: WHAT; ALLOWED, without the parts that p lacks.
func (p Problem) String() string {
	var b strings.Builder
	b.WriteString(p.File)
	if p.Line > 0 {
		b.WriteString(":" + strconv.Itoa(p.Line))
		if p.Column > 0 {
			b.WriteString(":" + strconv.Itoa(p.Column))
		}
	}
	b.WriteString(": ")
	if p.Key != "" {
		b.WriteString(p.Key + ": ")
	}
	b.WriteString(p.What)
	if p.Allowed != "" {
		b.WriteString("; " + p.Allowed)
	}
	return b.String()
}

// Problems are all that is wrong with a configuration, in the order of the
// file. As an error they are never empty.
type Problems []Problem

// Error lists the problems, one a line.
func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

// sorted is ps in the order of the lines, each problem once. The problems of
// main come before those of the lists that it names.
func (ps Problems) sorted(main string) Problems {
	rank := func(p Problem) int {
		if p.File == main {
			return 0
		}
		return 1
	}
	slices.SortFunc(ps, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a.File, b.File),
			cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column),
			cmp.Compare(a.Key, b.Key), cmp.Compare(a.What, b.What), cmp.Compare(a.Allowed, b.Allowed))
	})
	return slices.Compact(ps)
}
