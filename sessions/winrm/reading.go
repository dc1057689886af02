package winrm

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/rdpbroker/rdpbroker/sessions"
	"github.com/rdpbroker/rdpbroker/sessions/wintext"
)

// reading is what both tools said of the host.
type reading struct {
	rows []wintext.Row
	// begun is when the reading began: what happened after it may be missing.
	begun time.Time
	// idleAt is when quser had ended: idle times are at least this old, so
	// idleAt less the idle time is never before the last input.
	idleAt time.Time
}

// Exit codes of cmd.exe that are not the tools' own.
const exitNotFound = 9009 // "is not recognized as an internal or external command"

// commandRunner runs one command line on the host.
type commandRunner func(ctx context.Context, command string) (*output, error)

// read lists the host's sessions with quser.exe and qwinsta.exe. The two run in
// shells of their own: one command line for both would mix their error texts
// and lose the first exit code, and the exit code with the error text is all
// that tells "nobody is logged on" from "you may not know". quser runs first,
// as wintext.Merge wants it. The "query" wrapper is not used, it exits with 1
// whatever happens.
//
// Sessions come and go between the two; listings that contradict each other are
// read once more.
func read(ctx context.Context, run commandRunner) (*reading, error) {
	r, err := readOnce(ctx, run)
	var unlike *contradiction
	if errors.As(err, &unlike) {
		r, err = readOnce(ctx, run)
	}
	return r, err
}

// contradiction: both tools were read and do not fit together.
type contradiction struct{ error }

func readOnce(ctx context.Context, run commandRunner) (*reading, error) {
	r := &reading{begun: time.Now()}
	out, err := run(ctx, "quser.exe")
	if err != nil {
		return nil, err
	}
	r.idleAt = time.Now()
	users, nobody, err := quserRows(out)
	if err != nil {
		return nil, fmt.Errorf("quser.exe: %w", err)
	}
	out, err = run(ctx, "qwinsta.exe")
	if err != nil {
		return nil, err
	}
	all, err := qwinstaRows(out)
	if err != nil {
		return nil, fmt.Errorf("qwinsta.exe: %w", err)
	}
	if err := seesOthers(all); err != nil {
		return nil, err
	}
	if nobody == nobodyPerhaps && hasUser(all) {
		return nil, &contradiction{errors.New("quser.exe failed with a text that is not known, and qwinsta.exe shows users")}
	}
	if r.rows, err = wintext.Merge(users, all); err != nil {
		return nil, &contradiction{err}
	}
	return r, nil
}

// nobody is whether quser said that nobody is logged on.
type nobody int

const (
	somebody      nobody = iota
	nobodyCertain        // it said so
	// nobodyPerhaps: it failed as it does then, with a text that may mean so in
	// the host's language. True only if qwinsta shows nobody either.
	nobodyPerhaps
)

// quserRows reads what quser.exe left behind. It exits with 0 and rows, or with
// 1 and a text on its standard error.
func quserRows(out *output) ([]wintext.Row, nobody, error) {
	if out.exitCode == 1 && strings.TrimSpace(out.stdout) == "" && out.stderr != "" {
		if wintext.NoUsers(out.stderr) {
			return nil, nobodyCertain, nil
		}
		if _, failed := wintext.ParseError(out.stderr); !failed {
			return nil, nobodyPerhaps, nil
		}
	}
	rows, err := rowsOf(out, wintext.ParseQuser)
	return rows, somebody, err
}

// qwinstaRows reads what qwinsta.exe left behind. A host always has sessions.
func qwinstaRows(out *output) ([]wintext.Row, error) { return rowsOf(out, wintext.ParseQwinsta) }

// rowsOf reads a listing. Anything on the standard error, any exit code but 0
// (or 1 with clean rows, as some builds are said to do) and a listing without
// rows is an error: never an empty host.
func rowsOf(out *output, parse func(string) ([]wintext.Row, error)) ([]wintext.Row, error) {
	said := excerpt(out.stderr)
	code, failed := wintext.ParseError(out.stderr)
	switch {
	case failed:
		return nil, fmt.Errorf("%s (exit code %d): %q", winError(code), out.exitCode, said)
	case out.exitCode == exitNotFound:
		return nil, errors.New("not found on the host; Windows Home editions do not have it")
	case said != "":
		return nil, fmt.Errorf("exit code %d: %q", out.exitCode, said)
	case out.exitCode != 0 && out.exitCode != 1:
		return nil, fmt.Errorf("exit code %d", out.exitCode)
	}
	rows, err := parse(out.stdout)
	if err != nil {
		return nil, fmt.Errorf("exit code %d: %w", out.exitCode, err)
	}
	if len(rows) == 0 {
		return nil, fmt.Errorf("exit code %d and no session", out.exitCode)
	}
	return rows, nil
}

// winError names the Win32 errors that an operator can do something about.
func winError(code int) string {
	switch code {
	case 5, 7045: // ERROR_ACCESS_DENIED, ERROR_CTX_WINSTATION_ACCESS_DENIED
		return fmt.Sprintf("access denied, Win32 error %d", code)
	case 1722:
		return "the RPC server does not answer, Win32 error 1722"
	case 2, 7022: // ERROR_FILE_NOT_FOUND, ERROR_CTX_WINSTATION_NOT_FOUND
		return fmt.Sprintf("no such session, Win32 error %d", code)
	}
	return fmt.Sprintf("Win32 error %d", code)
}

// seesOthers is an error if the listing holds nothing that only a privileged
// account sees. Windows leaves out the sessions that the caller may not query,
// without a word ([MS-TSTS] RpcGetEnumResult), so a short list may be a lack of
// rights and not a lack of sessions. Every host that takes RDP has a listener,
// and every host session 0; the caller's own session, which is session 0 over
// WinRM, proves nothing.
func seesOthers(rows []wintext.Row) error {
	for _, r := range rows {
		if r.ID >= sessions.FirstListenerID || (!r.Own && (r.ID == 0 || r.SessionName == "services")) {
			return nil
		}
	}
	return errors.New("qwinsta.exe shows neither a listener nor the services session: " +
		"the account may not query the sessions of others, so those could be there unseen")
}

func hasUser(rows []wintext.Row) bool {
	for _, r := range rows {
		if r.User != "" {
			return true
		}
	}
	return false
}

// unknownWords names the state words that no table has, each once: with them
// somebody can tell which language is missing.
func (rd *reading) unknownWords() (warnings []string) {
	seen := map[string]bool{}
	for _, row := range rd.rows {
		word := excerpt(row.StateText)
		if row.State == sessions.StateUnknown && word != "" && !seen[word] {
			seen[word] = true
			warnings = append(warnings, fmt.Sprintf("the state word %q is not known; such sessions count, and are never logged off", word))
		}
	}
	return warnings
}
