package simhost

import (
	"encoding/base64"
	"strings"
	"testing"
	"time"

	"github.com/rdpbroker/rdpbroker/sessions"
)

func decode64(t *testing.T, b []byte) []byte {
	t.Helper()
	out, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(b)))
	if err != nil {
		t.Fatalf("base64 %.60q: %v", b, err)
	}
	return out
}

// runLine runs a line without a network.
func runLine(t *testing.T, h *Host, line string, direct bool) result {
	t.Helper()
	c := newCommand()
	p := &console{host: h.winrm, who: &h.winrm.cfg.Managers[0], command: c, encode: encoderOf(65001)}
	var code uint32
	if direct {
		code = p.program(line)
	} else {
		code = p.cmd(line, false)
	}
	out := result{exit: int(code)}
	for _, o := range c.output {
		if o.stream == "stdout" {
			out.stdout += string(o.data)
		} else {
			out.stderr += string(o.data)
		}
	}
	return out
}

func quietHost(t *testing.T, w WinRM, seeds ...Seed) *Host {
	t.Helper()
	w.Managers = []Manager{broker}
	h, err := New(Config{Name: "essen", Clock: newClock().Now, WinRM: w})
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Model().Seed(seeds...); err != nil {
		t.Fatal(err)
	}
	return h
}

func TestCommandLines(t *testing.T) {
	const unknown = "'nosuch' is not recognized as an internal or external command,\r\noperable program or batch file.\r\n"
	for _, c := range []struct {
		line           string
		stdout, stderr string
		exit           int
	}{
		{"echo hello", "hello\r\n", "", 0},
		{"echo a & echo b", "a \r\nb\r\n", "", 0},
		{`echo "a & b"`, "\"a & b\"\r\n", "", 0},
		{"echo a^&b", "a&b\r\n", "", 0},
		{"nosuch", "", unknown, 1},
		// %errorlevel% is replaced before the line runs.
		{"quser & echo %errorlevel%", "0\r\n", "No User exists for *\r\n", 0},
		{"quser & call echo %^errorlevel%", "1\r\n", "No User exists for *\r\n", 0},
		{"quser & echo !errorlevel!", "!errorlevel!\r\n", "No User exists for *\r\n", 0},
		{`cmd /v:on /c "quser & echo !errorlevel!"`, "1\r\n", "No User exists for *\r\n", 0},
		{`cmd /v:on /c "nosuch & echo !ERRORLEVEL!"`, "9009\r\n", unknown, 0},
		{"quser && echo yes", "", "No User exists for *\r\n", 1},
		{"quser || echo no", "no\r\n", "No User exists for *\r\n", 0},
		{"hostname && echo yes || echo no", "essen\r\nyes \r\n", "", 0},
		{"quser 2>nul & echo done", "done\r\n", "", 0},
		{"quser 2>&1", "No User exists for *\r\n", "", 1},
		{"quser >nul 2>&1", "", "", 1},
		{"exit 3", "", "", 3},
		{"echo a & exit /b 5 & echo b", "a \r\n", "", 5},
		{`C:\Windows\System32\hostname.exe`, "essen\r\n", "", 0},
		{`"%SystemRoot%\System32\HOSTNAME.EXE"`, "essen\r\n", "", 0},
		{"chcp 65001>nul & echo ü", "ü\r\n", "", 0},
		{"chcp 437 & echo ü", "Active code page: 437\r\n\x81\r\n", "", 0},
		{"chcp 437>nul & echo 会", "?\r\n", "", 0},
		{"whoami", "contoso\\svc-broker\r\n", "", 0},
		{"quser | find x", "", "The syntax of the command is incorrect.\r\n", 1},
		{"quser > file.txt", "", "Access is denied.\r\n", 1},
		{"& echo a", "", "The syntax of the command is incorrect.\r\n", 1},
		{"logoff", "", "Could not logoff session ID 0 from session services, Error code 5\r\nError [5]: Access is denied.\r\n", 1},
		{"logoff 77", "", "Could not logoff session ID 77 from session (none), Error code 7022\r\nError [7022]: The specified session cannot be found.\r\n", 1},
		{"query process", "", "Invalid parameter(s)\r\n", 1},
	} {
		got := runLine(t, quietHost(t, WinRM{}), c.line, false)
		if got.stdout != c.stdout || got.stderr != c.stderr || got.exit != c.exit {
			t.Errorf("%s\n got %q %q %d\nwant %q %q %d", c.line, got.stdout, got.stderr, got.exit, c.stdout, c.stderr, c.exit)
		}
	}
}

func TestWithoutCmdOperatorsAreArguments(t *testing.T) {
	h := quietHost(t, WinRM{}, Seed{Account: user("a"), ID: 3})
	if got := runLine(t, h, "logoff 3 & hostname", true); got.exit != 1 || got.stderr != "Invalid parameter(s)\r\n" || !has(h.Model(), 3) {
		t.Errorf("%+v", got)
	}
}

func TestListings(t *testing.T) {
	seeds := []Seed{
		{Account: user("Alice Liddell"), ID: 2, State: sessions.StateActive, LogonAgo: 26 * time.Hour, IdleFor: 65 * time.Minute},
		{Account: user("bob"), ID: 3, DisconnectedAgo: 51 * time.Hour},
		{Account: user("admin"), ID: 7, State: sessions.StateActive, Console: true},
	}
	h := quietHost(t, WinRM{}, seeds...)
	for line, want := range map[string]string{
		"quser": " USERNAME              SESSIONNAME        ID  STATE   IDLE TIME  LOGON TIME\r\n" +
			" alice liddell         rdp-tcp#0           2  Active       1:05  3/1/2026 7:00 AM\r\n" +
			" bob                                       3  Disc      2+03:00  3/2/2026 9:00 AM\r\n" +
			" admin                 console             7  Active      none   3/2/2026 9:00 AM\r\n",
		"qwinsta 3": " SESSIONNAME       USERNAME                 ID  STATE   TYPE        DEVICE\r\n" +
			"                   bob                       3  Disc                        \r\n",
	} {
		if got := runLine(t, h, line, false); got.stdout != want || got.exit != 0 {
			t.Errorf("%s gave %d, %q\n%s\nwant\n%s", line, got.exit, got.stderr, got.stdout, want)
		}
	}
	if got := runLine(t, h, "query user", false); got.exit != 1 || !strings.Contains(got.stdout, "bob") {
		t.Errorf("query user: %+v", got)
	}
	if got := runLine(t, h, "qwinsta", false); !strings.Contains(got.stdout, ">services                                    0  Disc") ||
		!strings.Contains(got.stdout, " rdp-tcp                                 65536  Listen") {
		t.Errorf("qwinsta: %s", got.stdout)
	}
	h.Model().Configure(func(o *Options) { o.ListError = &WinError{1722, "The RPC server is unavailable."} })
	if got := runLine(t, h, "quser", false); got.exit != 1 || got.stdout != "" ||
		got.stderr != "Error 0x000006BA enumerating sessionnames\r\nError [1722]:The RPC server is unavailable.\r\n" {
		t.Errorf("with an error: %+v", got)
	}
	if got := runLine(t, quietHost(t, WinRM{NoTools: true}), "quser", false); got.exit != 1 || !strings.HasPrefix(got.stderr, "'quser' is not recognized") {
		t.Errorf("Home edition: %+v", got)
	}
}

func TestLogoffCommandWaitsUntilTheSessionIsGone(t *testing.T) {
	h := quietHost(t, WinRM{}, Seed{Account: user("bob"), ID: 3})
	if got := runLine(t, h, "logoff.exe 3 /V", false); got.exit != 0 || got.stdout != "Logging off session ID 3\r\n" || has(h.Model(), 3) {
		t.Errorf("%+v", got)
	}
}
