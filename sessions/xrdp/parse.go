package xrdp

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// reading is what read.sh printed, understood line by line but not judged.
type reading struct {
	now    time.Time     // the host's clock when the reading began
	looked time.Time     // the host's clock after it had looked for clients
	uptime time.Duration // since boot
	hz     int           // clock ticks per second
	boot   string        // boot ID
	booted time.Time     // to the second, by the host's clock
	limit  int           // MaxSessions; 0 means that none is set
	os     string
	ini    map[string]string // settings of [Sessions] in sesman.ini, in lower case
	sesman []int             // process IDs of running session managers
	orphan []int             // sessions of a session manager that has gone

	sessions []process
	children map[int][]process // by session
	display  map[int]int       // by X server
	users    map[int]string    // by uid
	programs map[int][]string  // by uid
	cpu      map[int]int64     // clock ticks used, by uid
	keeps    map[int]keep      // by uid, of users that nobody is connected for
	inUse    map[int]bool      // displays that a client is connected to
	sockets  map[int]socket    // by display
	logins   map[int]string    // by session: sesman's stamp of the last logon, "@", from where
}

// process is one process of a session.
type process struct {
	pid   int
	ticks uint64 // start time since boot
	uid   int    // -1 while it changes; not set for the session's own process
	name  string
}

// socket is a listening socket of a channel server.
type socket struct {
	stamp   string // as the host printed it, for comparing
	changed time.Time
}

// keep is a user's marker by which they want their session kept.
type keep struct {
	written time.Time
	text    string
}

// Bounds of a reading. No host has so many; a broken one must not fill our memory.
const (
	maxSessions        = 4096
	maxChildren        = 64
	maxPrograms        = 128 // names per user
	maxSettings        = 16
	maxLineValueLength = 256
)

// parseReading reads the lines that read.sh printed after its banner. Lines of a
// kind that it does not know are an error: the script comes from this package.
func parseReading(lines []string) (*reading, error) {
	r := &reading{
		ini: map[string]string{}, children: map[int][]process{}, display: map[int]int{}, users: map[int]string{}, programs: map[int][]string{}, cpu: map[int]int64{}, keeps: map[int]keep{},
		inUse: map[int]bool{}, sockets: map[int]socket{}, logins: map[int]string{},
	}
	if len(lines) == 0 || lines[len(lines)-1] != "end" {
		return nil, errors.New("the host's answer is cut off")
	}
	for _, l := range lines[:len(lines)-1] {
		if err := r.line(l); err != nil {
			return nil, fmt.Errorf("the host's answer: line %q: %w", cut(l, 64), err)
		}
	}
	return r, r.complete()
}

// complete says no if a reading lacks what every host has.
func (r *reading) complete() error {
	switch {
	case r.now.IsZero() || r.looked.IsZero() || r.boot == "" || r.booted.IsZero() || r.uptime == 0 || r.hz == 0:
		return errors.New("the host's answer lacks its clock")
	case len(r.sesman) == 0:
		return errors.New("xrdp-sesman is not running")
	case len(r.sesman) > 1:
		return fmt.Errorf("several xrdp-sesman are running (pids %v)", r.sesman)
	}
	return nil
}

var (
	errFields = errors.New("wrong number of fields")
	errRange  = errors.New("a number is out of range")
	errMany   = errors.New("too many of them")
	errUnkown = errors.New("unknown kind")
)

// arity is how many fields follow the kind of a line; user may hold spaces.
var arity = map[string]int{
	"now": 1, "looked": 1, "boot": 1, "uptime": 1, "hz": 1, "btime": 1, "setting": 2, "sesman": 1, "orphan": 1, "session": 2,
	"child": 5, "display": 2, "user": 2, "program": 2, "cpu": 2, "keep": 3, "os": 1, "in-use": 1, "socket": 4, "login": 2,
}

func (r *reading) line(l string) error {
	kind, rest, _ := strings.Cut(l, " ")
	want, known := arity[kind]
	if !known {
		return errUnkown
	}
	f := strings.SplitN(rest, " ", want)
	if len(f) != want || len(rest) > maxLineValueLength {
		return errFields
	}
	switch kind {
	case "now", "looked", "boot", "uptime", "hz", "btime":
		return r.clock(kind, f[0])
	case "os":
		r.os = printable(f[0])
		return nil
	case "setting":
		if len(r.ini) == maxSettings {
			return errMany
		}
		r.ini[f[0]] = f[1]
		if n, err := strconv.Atoi(f[1]); f[0] == "maxsessions" && err == nil {
			r.limit = max(0, n)
		}
		return nil
	case "sesman", "orphan":
		pid, err := number(f[0])
		if kind == "sesman" {
			r.sesman = append(r.sesman, pid)
		} else {
			r.orphan = append(r.orphan, pid)
		}
		return err
	case "session", "child", "display", "login":
		return r.session(kind, f)
	default:
		return r.fact(kind, f)
	}
}

func (r *reading) clock(kind, v string) (err error) {
	switch kind {
	case "now":
		r.now, err = epoch(v)
	case "looked":
		r.looked, err = epoch(v)
		if r.looked.Nanosecond() == 0 { // cut to seconds: this must not be too early
			r.looked = r.looked.Add(time.Second)
		}
	case "boot":
		r.boot = v
		if !isBootID(v) {
			err = errRange
		}
	case "uptime":
		var seconds float64
		if seconds, err = strconv.ParseFloat(v, 64); err == nil && !(seconds > 0 && seconds < 1e10) {
			err = errRange
		}
		r.uptime = time.Duration(seconds * float64(time.Second))
	case "hz":
		r.hz, err = number(v)
	case "btime":
		r.booted, err = epoch(v)
	}
	return err
}

func (r *reading) session(kind string, f []string) error {
	pid, err := number(f[0])
	if err != nil {
		return err
	}
	switch kind {
	case "session":
		ticks, err := strconv.ParseUint(f[1], 10, 63)
		if err != nil {
			return err
		}
		if len(r.sessions) == maxSessions {
			return errMany
		}
		r.sessions = append(r.sessions, process{pid: pid, ticks: ticks})
	case "child":
		p, err := parseChild(f[1:])
		if err != nil {
			return err
		}
		if len(r.children[pid]) == maxChildren {
			return errMany
		}
		r.children[pid] = append(r.children[pid], p)
	case "display":
		r.display[pid], err = number(f[1])
	case "login":
		r.logins[pid] = f[1]
	}
	return err
}

func parseChild(f []string) (p process, err error) {
	if p.pid, err = number(f[0]); err != nil {
		return p, err
	}
	if p.ticks, err = strconv.ParseUint(f[1], 10, 63); err != nil {
		return p, err
	}
	p.uid, p.name = -1, f[3]
	if f[2] != "-" {
		p.uid, err = number(f[2])
	}
	return p, err
}

// fact reads what is known of users and displays.
func (r *reading) fact(kind string, f []string) error {
	n, err := number(f[0])
	if err != nil {
		return err
	}
	switch kind {
	case "user":
		if !isUserName(f[1]) {
			return nil // the session will have no account, so nobody can be hurt
		}
		r.users[n] = f[1]
	case "program":
		if len(r.programs[n]) < maxPrograms && !slices.Contains(r.programs[n], f[1]) {
			r.programs[n] = append(r.programs[n], f[1])
		}
	case "cpu":
		ticks, err := strconv.ParseInt(f[1], 10, 64)
		r.cpu[n] = max(0, ticks)
		return err
	case "keep":
		written, err := epoch(f[1])
		r.keeps[n] = keep{written: written, text: strings.Trim(f[2], "-")}
		return err
	case "in-use":
		r.inUse[n] = true
	case "socket":
		stamp := strings.Join(f[1:], " ")
		changed, err := time.Parse("2006-01-02 15:04:05.999999999 -0700", stamp)
		if err != nil {
			return err
		}
		r.sockets[n] = socket{stamp: stamp, changed: changed}
	}
	return nil
}

// number reads a process, user or display number, or a rate: 0 to 2^31-1, digits only.
func number(s string) (int, error) {
	if strings.HasPrefix(s, "+") {
		return 0, errRange
	}
	n, err := strconv.ParseInt(s, 10, 32)
	if err != nil || n < 0 {
		return 0, errRange
	}
	return int(n), nil
}

// epoch reads seconds since 1970 with up to nine digits after the point. A date
// command that knows no fractions prints "1763862123.%N" or ends in the point.
func epoch(s string) (time.Time, error) {
	whole, fraction, _ := strings.Cut(s, ".")
	sec, err := strconv.ParseInt(whole, 10, 64)
	if err != nil || sec <= 0 || sec > math.MaxInt32*16 {
		return time.Time{}, errRange
	}
	var ns int64
	if len(fraction) > 0 && len(fraction) <= 9 && !strings.ContainsFunc(fraction, notDigit) {
		ns, _ = strconv.ParseInt(fraction+strings.Repeat("0", 9-len(fraction)), 10, 64)
	}
	return time.Unix(sec, ns), nil
}

func notDigit(r rune) bool { return r < '0' || r > '9' }

// isBootID: hexadecimal digits and dashes.
func isBootID(s string) bool {
	return len(s) >= 8 && len(s) <= 64 && !strings.ContainsFunc(s, func(r rune) bool {
		return notDigit(r) && (r < 'a' || r > 'f') && r != '-'
	})
}

// isUserName says whether s can name a user. Names of directory services may
// hold spaces, backslashes and letters of any language; nothing can hold what
// divides the fields of /etc/passwd, or control characters.
func isUserName(s string) bool {
	return s != "" && len(s) <= 256 && s[0] != '-' && s == strings.TrimSpace(s) &&
		!strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f || r == ':' || r == '\ufffd' })
}
