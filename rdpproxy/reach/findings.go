package reach

import (
	"fmt"
	"io"
	"strings"
	"time"
	"unicode"
)

// Level says how bad a finding is.
type Level string

// All levels.
const (
	LevelOK      Level = "ok"
	LevelWarning Level = "warning" // it works, but not as well as it could
	LevelFailure Level = "failure" // users cannot get in, or some of them
)

// Finding is one judgement of a Result.
type Finding struct {
	Level Level  `json:"level"`
	Text  string `json:"text"`
	// Advice is what to do about it; empty if nothing.
	Advice string `json:"advice,omitempty"`
}

// renewBefore is how long before its end a certificate begins to be a warning.
// Windows renews the ones that it signs itself.
const renewBefore = 14 * 24 * time.Hour

// Findings judges the answers, in the order in which they were found.
func (r Result) Findings() []Finding {
	if r.ConnectError != "" {
		return []Finding{failure("no connection to %s: %s", r.Addr, r.ConnectError).
			advise("check that the host is on, that Remote Desktop is enabled, and that its firewall lets the broker's address in")}
	}
	all := []Finding{ok("connected to %s in %.1f ms", r.Remote, r.ConnectMillis)}
	for _, a := range r.Answers {
		all = append(all, a.finding())
	}
	if f, found := r.networkLevel(); found {
		all = append(all, f)
	}
	if r.TLS == nil {
		return all
	}
	all = append(all, r.TLS.finding())
	if len(r.TLS.Chain) > 0 {
		all = append(all, r.TLS.Chain[0].findings(r.Time)...)
	}
	for _, n := range r.Names {
		all = append(all, n.finding())
	}
	return all
}

// Summary prints the findings for people, one a line, the advice below.
func (r Result) Summary(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n", printable(r.Addr))
	for _, f := range r.Findings() {
		fmt.Fprintf(&b, "  %-8s %s\n", f.Level, printable(f.Text))
		if f.Advice != "" {
			fmt.Fprintf(&b, "  %-8s → %s\n", "", f.Advice)
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// printable replaces what could move a terminal's cursor: a certificate's names
// are the host's to choose.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return unicode.ReplacementChar
		}
		return r
	}, s)
}

// Worst is the highest level among the findings.
func (r Result) Worst() Level {
	worst := LevelOK
	for _, f := range r.Findings() {
		switch {
		case f.Level == LevelFailure:
			return LevelFailure
		case f.Level == LevelWarning:
			worst = LevelWarning
		}
	}
	return worst
}

func ok(format string, args ...any) Finding {
	return Finding{Level: LevelOK, Text: fmt.Sprintf(format, args...)}
}

func warning(format string, args ...any) Finding {
	return Finding{Level: LevelWarning, Text: fmt.Sprintf(format, args...)}
}

func failure(format string, args ...any) Finding {
	return Finding{Level: LevelFailure, Text: fmt.Sprintf(format, args...)}
}

func (f Finding) advise(format string, args ...any) Finding {
	f.Advice = fmt.Sprintf(format, args...)
	return f
}
