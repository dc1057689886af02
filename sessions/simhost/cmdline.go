package simhost

import (
	"fmt"
	"strconv"
	"strings"
)

// maxCommandLine is the longest line that cmd.exe takes.
const maxCommandLine = 8191

// Exit codes of cmd.exe.
const (
	exitNotFound = 9009       // ERRORLEVEL after a command that does not exist
	exitControlC = 0xc000013a // STATUS_CONTROL_C_EXIT
)

// console runs one command line: a small part of cmd.exe, and the programs that
// manage sessions. What it does, it does as cmd.exe does, traps included:
// %errorlevel% is replaced before the line runs, so that it never tells of a
// command in the same line, and !errorlevel! only works under cmd /v:on.
// What it does not know (pipes, blocks, variables, files) it refuses.
type console struct {
	host    *winrmServer
	who     *Manager
	command *command
	encode  func(string) []byte
	// variables are those of the shell. They reach programs; lines that use them are
	// not simulated.
	variables map[string]string

	errorLevel uint32
}

// out writes text to a stream in the console's code page; "" drops it.
func (p *console) out(stream, text string) {
	if stream != "" {
		p.command.write(stream, p.encode(text))
	}
}

// part is one command of a line, and when it runs.
type part struct {
	text string
	when string // operator before it: "", "&", "&&" or "||"
}

// cmd runs a line as "cmd /c LINE" does and returns its exit code. delayed
// replaces !errorlevel! before each command.
func (p *console) cmd(line string, delayed bool) uint32 {
	p.errorLevel = 0
	parts, ok := splitLine(p.percent(line))
	if !ok {
		p.out("stderr", "The syntax of the command is incorrect.\r\n")
		return 1
	}
	last := uint32(0)
	for _, part := range parts {
		if (part.when == "&&" && last != 0) || (part.when == "||" && last == 0) {
			continue
		}
		text := part.text
		if delayed {
			text = replaceFold(text, "!errorlevel!", fmt.Sprint(p.errorLevel))
		}
		code, exit := p.one(text)
		last = code
		if exit || p.stopped() {
			break
		}
	}
	return last
}

func (p *console) stopped() bool {
	select {
	case <-p.command.stop:
		return true
	default:
		return false
	}
}

// percent replaces the variables that the console has. Others stay as they
// are, as in a line that is not from a batch file.
func (p *console) percent(line string) string {
	for name, value := range map[string]string{
		"errorlevel":   fmt.Sprint(p.errorLevel),
		"computername": strings.ToUpper(p.host.machine),
		"username":     p.who.Account.User,
		"systemroot":   `C:\Windows`,
		"windir":       `C:\Windows`,
		"comspec":      `C:\Windows\system32\cmd.exe`,
	} {
		line = replaceFold(line, "%"+name+"%", value)
	}
	return line
}

// splitLine cuts a line at its operators, outside of quotes, and takes carets
// away. ok is false for syntax that the console does not have.
func splitLine(line string) (parts []part, ok bool) {
	var b strings.Builder
	when, quoted := "", false
	for i := 0; i < len(line); i++ {
		c := line[i]
		switch {
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '^':
			if i++; i < len(line) {
				b.WriteByte(line[i])
			}
			continue
		case c == '&' && i > 0 && line[i-1] == '>': // 2>&1
		case c == '&', strings.HasPrefix(line[i:], "||"):
			if strings.TrimSpace(b.String()) == "" {
				return nil, false
			}
			parts = append(parts, part{b.String(), when})
			b.Reset()
			when = "&"
			if strings.HasPrefix(line[i:], "&&") || c == '|' {
				when = line[i : i+2]
				i++
			}
			continue
		case c == '|':
			return nil, false
		}
		b.WriteByte(c)
	}
	if strings.TrimSpace(b.String()) != "" {
		parts = append(parts, part{b.String(), when})
	}
	return parts, len(parts) > 0 && !strings.HasPrefix(strings.TrimSpace(parts[0].text), "(")
}

// one runs one command. exit is true if it ends the line.
func (p *console) one(text string) (code uint32, exit bool) {
	text, stdout, stderr, ok := redirect(text)
	if !ok {
		p.out("stderr", "Access is denied.\r\n") // to files, of which there are none
		p.errorLevel = 1
		return 1, false
	}
	text = strings.TrimLeft(text, " \t@")
	name, rest := verb(text)
	switch strings.ToLower(name) {
	case "":
		return 0, false
	case "echo", "echo.", "echo(", "echo:":
		p.out(stdout, rest+"\r\n")
		return 0, false
	case "rem":
		return 0, false
	case "exit":
		args := strings.Fields(rest)
		if len(args) > 0 && strings.EqualFold(args[0], "/b") {
			args = args[1:]
		}
		if len(args) > 0 {
			n, _ := strconv.ParseInt(args[0], 10, 32)
			return uint32(int32(n)), true
		}
		return p.errorLevel, true
	case "call": // reads its line once more, variables included
		return p.one(p.percent(rest))
	case "chcp":
		return p.chcp(stdout, strings.TrimSpace(rest)), false
	}
	q := program{console: p, stdout: stdout, stderr: stderr}
	code, found := q.run(name, rest)
	p.errorLevel = code
	if !found {
		p.out(stderr, fmt.Sprintf("'%s' is not recognized as an internal or external command,\r\noperable program or batch file.\r\n", name))
		p.errorLevel = exitNotFound
		return 1, false
	}
	return code, false
}

func (p *console) chcp(stdout, page string) uint32 {
	n, err := strconv.Atoi(page)
	if _, ok := encodingOf(n); err != nil || !ok {
		p.out("stderr", "Invalid code page\r\n")
		p.errorLevel = 1
		return 1
	}
	p.encode = encoderOf(n)
	p.out(stdout, fmt.Sprintf("Active code page: %d\r\n", n))
	p.errorLevel = 0
	return 0
}

// exists reports whether line names a program, for shells without cmd.exe.
func (p *console) exists(line string) bool {
	name, _ := verb(line)
	return p.host.programs()[programName(name)] != nil
}

// program runs a line without cmd.exe: no operators, no variables.
func (p *console) program(line string) uint32 {
	name, rest := verb(line)
	q := program{console: p, stdout: "stdout", stderr: "stderr"}
	code, _ := q.run(name, rest)
	return code
}

// verb cuts the command's name, which may be quoted, off its arguments. One
// blank between them is dropped.
func verb(s string) (name, rest string) {
	s = strings.TrimLeft(s, " \t")
	if quoted, ok := strings.CutPrefix(s, `"`); ok {
		name, rest, _ = strings.Cut(quoted, `"`)
		return name, strings.TrimPrefix(rest, " ")
	}
	end := strings.IndexAny(s, " \t/")
	if end < 0 {
		return s, ""
	}
	return s[:end], strings.TrimPrefix(s[end:], " ")
}

// redirect takes redirections off a command: to nul, and of one stream to the
// other. ok is false for files.
func redirect(text string) (rest, stdout, stderr string, ok bool) {
	stdout, stderr = "stdout", "stderr"
	var b strings.Builder
	quoted := false
	for i := 0; i < len(text); i++ {
		c := text[i]
		if c == '"' {
			quoted = !quoted
		}
		if quoted || (c != '>' && c != '<') {
			b.WriteByte(c)
			continue
		}
		kept := b.String()
		from := &stdout
		if n := len(kept); n > 0 && strings.Contains("12", kept[n-1:]) && (n == 1 || kept[n-2] == ' ') {
			if kept[n-1] == '2' { // a digit by itself is a handle; that of "65001>" is not
				from = &stderr
			}
			b.Reset()
			b.WriteString(kept[:n-1])
		}
		target := strings.TrimLeft(strings.TrimLeft(text[i+1:], ">"), " ")
		switch {
		case strings.HasPrefix(target, "&1"):
			*from, target = stdout, target[2:]
		case strings.HasPrefix(target, "&2"):
			*from, target = stderr, target[2:]
		case strings.EqualFold(target[:min(3, len(target))], "nul"):
			if c == '>' {
				*from = ""
			}
			target = target[3:]
		default:
			return "", "", "", false
		}
		i = len(text) - len(target) - 1
	}
	return b.String(), stdout, stderr, true
}

// replaceFold is strings.ReplaceAll without regard to case (of ASCII).
func replaceFold(s, old, with string) string {
	var b strings.Builder
	for {
		i := indexFold(s, old)
		if i < 0 {
			return b.String() + s
		}
		b.WriteString(s[:i] + with)
		s = s[i+len(old):]
	}
}

func indexFold(s, sub string) int {
	for i := 0; i+len(sub) <= len(s); i++ {
		if strings.EqualFold(s[i:i+len(sub)], sub) {
			return i
		}
	}
	return -1
}
