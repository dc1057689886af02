package doctor

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"unicode"

	"github.com/rdpbroker/rdpbroker/rdpproxy/reach"
)

// Text prints r for people: grouped by host, a line per finding with what to do
// below it, a summary at the end. With quiet what is in order is left out.
func (r Result) Text(w io.Writer, quiet bool) error {
	var b strings.Builder
	for _, h := range r.Hosts {
		h.text(&b, quiet)
	}
	fmt.Fprintf(&b, "%s: %s\n", count(len(r.Hosts), "host", "hosts"), verdictText(r.Failures, r.Warnings))
	_, err := io.WriteString(w, b.String())
	return err
}

func (h Report) text(b *strings.Builder, quiet bool) {
	if quiet && h.Count(reach.LevelOK) == len(h.Findings) {
		return
	}
	fmt.Fprintf(b, "%s (%s, farm %s)\n", h.Host, h.Addr, h.Farm)
	for _, f := range h.Findings {
		if quiet && f.Level == reach.LevelOK {
			continue
		}
		fmt.Fprintf(b, "  %-8s %-16s %s\n", f.Level, f.Check, printable(f.Text))
		if f.Advice != "" {
			fmt.Fprintf(b, "  %-8s %-16s → %s\n", "", "", printable(f.Advice))
		}
	}
	b.WriteString("\n")
}

// Line is r in one line: what is printed as soon as a host is done.
func (r Report) Line() string {
	return r.Host + ": " + verdictText(r.Count(reach.LevelFailure), r.Count(reach.LevelWarning))
}

// JSON prints r for scripts.
func (r Result) JSON(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(r)
}

func verdictText(failures, warnings int) string {
	if failures+warnings == 0 {
		return "everything is in order"
	}
	return count(failures, "failure", "failures") + ", " + count(warnings, "warning", "warnings")
}

// printable replaces what could move a terminal's cursor: much of the text is
// what hosts and certificates say.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return unicode.ReplacementChar
		}
		return r
	}, s)
}
