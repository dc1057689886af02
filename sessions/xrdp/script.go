package xrdp

import (
	"bufio"
	"bytes"
	"context"
	_ "embed"
	"fmt"
	"strings"
)

var (
	//go:embed scripts/lib.sh
	libScript string
	//go:embed scripts/read.sh
	readScript string
	//go:embed scripts/evict.sh
	evictScript string
	//go:embed scripts/wait.sh
	waitScript string
)

// banner is the first line that every script prints: its name, and the version
// of the format.
const banner = "rdpbroker-xrdp 1"

// script is the library with one of the scripts, made such that the shell must
// have read all of it before it runs any of it: a broken connection cannot run half.
func script(body string) string {
	return "{\n" + libScript + body + "\n} </dev/null\n"
}

// runScript runs a script on the host. The arguments are data: they reach the
// script as positional parameters and are never part of its text. It returns
// the lines after the banner; with an error, those that came before it.
func runScript(ctx context.Context, r Runner, body string, args ...string) ([]string, error) {
	out, err := r.Run(ctx, script(body), append([]string{"sh", "-s", "--"}, args...)...)
	lines, scriptErr := answer(out)
	if err != nil {
		return lines, err
	}
	return lines, scriptErr
}

// answer takes the banner off and turns an error line into an error.
func answer(out []byte) ([]string, error) {
	var lines []string
	sc := bufio.NewScanner(bytes.NewReader(out))
	sc.Buffer(nil, 64<<10)
	for sc.Scan() {
		lines = append(lines, sc.Text())
	}
	if err := sc.Err(); err != nil {
		return nil, fmt.Errorf("the host's answer: %w", err)
	}
	if len(lines) == 0 || lines[0] != banner {
		return nil, fmt.Errorf("the host did not run the script, it answered %q", cut(string(out), 64))
	}
	lines = lines[1:]
	for _, l := range lines {
		if msg, ok := strings.CutPrefix(l, "error "); ok {
			return nil, hostError(msg)
		}
	}
	return lines, nil
}

// hostError is what a script says about itself: "KIND text".
func hostError(msg string) error {
	kind, text, _ := strings.Cut(msg, " ")
	text = printable(cut(text, 100))
	switch kind {
	case "rights":
		return fmt.Errorf("rights are missing: %s", text)
	case "tools":
		return fmt.Errorf("a tool is missing: %s", text)
	default:
		return fmt.Errorf("the host cannot be read: %s", text)
	}
}

// printable is s with everything but printable ASCII replaced.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
}

// cut is the first n bytes of s.
func cut(s string, n int) string { return s[:min(len(s), n)] }
