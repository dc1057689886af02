package simhost

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/rdpbroker/rdpbroker/sessions"
	"github.com/rdpbroker/rdpbroker/sessions/wintext"
)

// program is one run of an .exe file.
type program struct {
	*console
	stdout, stderr string // streams; "" drops what is written
}

func (q program) print(text string) { q.out(q.stdout, text) }
func (q program) fail(text string) uint32 {
	q.out(q.stderr, text)
	return 1
}

// programs are what is installed, by name without .exe.
func (s *winrmServer) programs() map[string]func(program, string) uint32 {
	all := map[string]func(program, string) uint32{
		"cmd":      program.cmdExe,
		"hostname": func(q program, _ string) uint32 { q.print(s.machine + "\r\n"); return 0 },
		"whoami":   func(q program, _ string) uint32 { q.print(strings.ToLower(q.who.Account.String()) + "\r\n"); return 0 },
		"logoff":   program.logoff,
		"quser":    program.quser,
		"qwinsta":  program.qwinsta,
		"query":    program.query,

		"powershell": program.powerShell,
	}
	if s.cfg.NoPowerShell {
		delete(all, "powershell")
	}
	if s.cfg.NoTools {
		for _, name := range []string{"quser", "qwinsta", "query"} {
			delete(all, name)
		}
	}
	return all
}

// programName is what a program is called without folder and extension.
func programName(path string) string {
	name := strings.ToLower(path[strings.LastIndexByte(path, '\\')+1:])
	return strings.TrimSuffix(name, ".exe")
}

func (q program) run(name, args string) (code uint32, found bool) {
	f := q.host.programs()[programName(name)]
	if f == nil {
		return 0, false
	}
	return f(q, args), true
}

// cmdExe is cmd.exe with a line to run: "/v:on /c LINE".
func (q program) cmdExe(args string) uint32 {
	delayed := false
	for {
		args = strings.TrimLeft(args, " ")
		option, rest, _ := strings.Cut(args, " ")
		switch strings.ToLower(option) {
		case "/d", "/q", "/s", "/v:off", "/a", "/e:on":
		case "/v", "/v:on":
			delayed = true
		case "/c":
			line := strings.TrimSpace(rest)
			if strings.HasPrefix(line, `"`) && strings.HasSuffix(line, `"`) && len(line) > 1 {
				line = line[1 : len(line)-1]
			}
			inner := *q.console // a process of its own, with an ERRORLEVEL of its own
			return inner.cmd(line, delayed)
		default:
			return q.fail("cmd.exe without /c is not simulated.\r\n")
		}
		args = rest
	}
}

// sessions are what the caller may see. failed is true if they cannot be
// listed: the message has been printed then.
func (q program) sessions() (list []sessions.Session, failed bool) {
	if e := q.host.model.Options().ListError; e != nil {
		q.fail(fmt.Sprintf("Error 0x%08X enumerating sessionnames\r\nError [%d]:%s\r\n", e.Code, e.Code, e.Text))
		return nil, true
	}
	if q.who.LowRights {
		return q.host.model.VisibleSessions(), false
	}
	return q.host.model.Sessions(), false
}

// chosen keeps the sessions that args name: by ID, user or session name.
// server is an argument that is accepted and ignored: /server:THISHOST.
func chosen(list []sessions.Session, args string) (kept []sessions.Session, name string) {
	name = "*"
	for _, a := range strings.Fields(args) {
		if !strings.HasPrefix(a, "/") {
			name = a
		}
	}
	for _, s := range list {
		if name == "*" || strconv.Itoa(s.ID) == name || strings.EqualFold(s.Name, name) || strings.EqualFold(s.Account.User, name) {
			kept = append(kept, s)
		}
	}
	return kept, name
}

func (q program) quser(args string) uint32 {
	list, failed := q.sessions()
	if failed {
		return 1
	}
	list, name := chosen(list, args)
	now := q.host.model.HostTime()
	var rows []wintext.Row
	for _, s := range list {
		if !s.HasUser() {
			continue
		}
		rows = append(rows, wintext.Row{
			SessionName: s.Name, User: s.Account.User, ID: s.ID, State: s.State,
			Idle: idleOf(s, now), IdleText: idleWord(s),
			LogonText: q.host.cfg.Locale.LogonText(s.LogonAt.In(q.host.cfg.Zone)),
		})
	}
	if len(rows) == 0 {
		if q.host.cfg.Locale.Name == "de" {
			return q.fail("Kein Benutzer vorhanden für " + name + "\r\n")
		}
		return q.fail("No User exists for " + name + "\r\n")
	}
	var b bytes.Buffer
	_ = wintext.RenderQuser(&b, q.host.cfg.Locale, rows) // a Buffer does not fail
	q.print(b.String())
	return 0
}

// idleOf is how long nobody has done anything in s, by the host's clock.
func idleOf(s sessions.Session, now time.Time) time.Duration {
	if s.State == sessions.StateDisconnected && !s.DisconnectedAt.IsZero() {
		return now.Sub(s.DisconnectedAt)
	}
	return now.Sub(s.LastInputAt)
}

// idleWord is "none" where the host does not know the idle time.
func idleWord(s sessions.Session) string {
	if s.LastInputAt.IsZero() {
		return "none"
	}
	return ""
}

func (q program) qwinsta(args string) uint32 {
	list, failed := q.sessions()
	if failed {
		return 1
	}
	list, name := chosen(list, args)
	if len(list) == 0 {
		return q.fail("No session exists for " + name + "\r\n")
	}
	var rows []wintext.Row
	for _, s := range list {
		rows = append(rows, wintext.Row{
			Own: s.ID == 0, SessionName: s.Name, User: s.Account.User, ID: s.ID, State: s.State,
		})
	}
	var b bytes.Buffer
	_ = wintext.RenderQwinsta(&b, q.host.cfg.Locale, rows, q.host.cfg.Wide)
	q.print(b.String())
	return 0
}

// query is the wrapper around the other two. "query user" ends with 1 even
// when it has printed rows.
func (q program) query(args string) uint32 {
	what, rest := verb(args)
	switch strings.ToLower(what) {
	case "user":
		q.quser(rest)
		return 1
	case "session":
		return q.qwinsta(rest)
	}
	return q.fail("Invalid parameter(s)\r\n")
}

// logoff tells a session to go and waits until it is gone. Without an ID it
// means the caller's own session, which over WinRM is the services session.
func (q program) logoff(args string) uint32 {
	id, verbose := 0, false
	for _, a := range strings.Fields(args) {
		n, err := strconv.Atoi(a)
		switch {
		case err == nil:
			id = n
		case strings.EqualFold(a, "/v"):
			verbose = true
		case strings.HasPrefix(strings.ToLower(a), "/server:"), strings.EqualFold(a, "/vm"):
		default:
			return q.fail("Invalid parameter(s)\r\n")
		}
	}
	changed, stop := q.host.model.Watch()
	defer stop()
	before, there := q.session(id)
	var err error = &WinError{errAccessDenied, "Access is denied."}
	if !q.who.LowRights {
		err = q.host.model.Logoff(id)
	}
	if e, ok := err.(*WinError); ok {
		name := before.Name
		if name == "" {
			name = "(none)"
		}
		return q.fail(fmt.Sprintf("Could not logoff session ID %d from session %s, Error code %d\r\nError [%d]: %s\r\n", id, name, e.Code, e.Code, e.Text))
	}
	if verbose {
		q.print(fmt.Sprintf("Logging off session ID %d\r\n", id))
	}
	for there {
		now, still := q.session(id)
		if !still || !now.LogonAt.Equal(before.LogonAt) || now.Account != before.Account {
			break
		}
		select {
		case <-changed:
		case <-q.command.stop:
			return exitControlC
		}
	}
	return 0
}

func (q program) session(id int) (sessions.Session, bool) {
	for _, s := range q.host.model.Sessions() {
		if s.ID == id {
			return s, true
		}
	}
	return sessions.Session{}, false
}
