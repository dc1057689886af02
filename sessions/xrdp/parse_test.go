package xrdp

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rdpbroker/rdpbroker/sessions"
)

// capture is one reading of a real host, from testdata: what read.sh printed on
// hosts of package testlab with Debian's xrdp 0.9.21 and a build of 0.10.1.
func capture(t testing.TB, name string) []string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	lines, err := answer(b)
	if err != nil {
		t.Fatal(err)
	}
	return lines
}

func mustParse(t testing.TB, lines []string) *reading {
	t.Helper()
	r, err := parseReading(lines)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestCaptures(t *testing.T) {
	const programs = " openbox sleep xrdp-chansrv xterm] CPU "
	for _, tc := range []struct {
		file string
		want []string // ID, display, user, state, programs, CPU time
	}{
		{"0.9.21-xvnc-empty.txt", nil},
		{"0.9.21-xorg-empty.txt", nil},
		{"0.10.1-xvnc-empty.txt", nil},
		{"0.9.21-xvnc-starting.txt", []string{"785 :720 rbalice Init [Xvnc] CPU 0"}},
		{"0.9.21-xorg-starting.txt", []string{"1694 :720 rbalice Init [Xorg] CPU 0"}},
		{"0.10.1-xvnc-starting.txt", []string{"1486 :3060 rbalice Init [Xvnc waitforx] CPU 0"}},
		{"0.9.21-xvnc-connected.txt", []string{
			"785 :720 rbalice Active [Xvnc" + programs + "4", "1646 :721 rbaccountant1 Active [Xvnc" + programs + "3"}},
		{"0.9.21-xvnc-disconnected.txt", []string{
			"785 :720 rbalice Disconnected [Xvnc" + programs + "4", "1646 :721 rbaccountant1 Active [Xvnc" + programs + "3"}},
		{"0.9.21-xorg-connected.txt", []string{
			"1694 :720 rbalice Active [Xorg" + programs + "3", "2583 :721 rbaccountant1 Active [Xorg" + programs + "5"}},
		{"0.9.21-xorg-disconnected.txt", []string{
			"1694 :720 rbalice Disconnected [Xorg" + programs + "3", "2583 :721 rbaccountant1 Active [Xorg" + programs + "5"}},
		{"0.10.1-xvnc-connected.txt", []string{
			"1486 :3060 rbalice Active [Xvnc" + programs + "5", "2915 :3061 rbaccountant1 Active [Xvnc" + programs + "4"}},
		{"0.10.1-xvnc-disconnected.txt", []string{
			"1486 :3060 rbalice Disconnected [Xvnc" + programs + "5", "2915 :3061 rbaccountant1 Active [Xvnc" + programs + "4"}},
	} {
		t.Run(tc.file, func(t *testing.T) {
			r := mustParse(t, capture(t, tc.file))
			views, _ := judge(r, nil, time.Second)
			var got []string
			for _, v := range views {
				s := v.session
				got = append(got, fmt.Sprintf("%d %s %s %s %v CPU %d", s.ID, s.Name, s.Account, s.State, s.Processes, s.CPUTime))
				if s.LogonAt.After(r.now) || s.LogonAt.Before(r.booted) || s.Incarnation == "" {
					t.Errorf("session %d: logon at %v, incarnation %q", s.ID, s.LogonAt, s.Incarnation)
				}
			}
			if !slices.Equal(got, tc.want) {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(tc.want, "\n"))
			}
			if r.limit != 10 || r.os != "Debian GNU/Linux 12 (bookworm)" || len(r.warnings(0)) != 0 {
				t.Errorf("limit %d, OS %q, warnings %q", r.limit, r.os, r.warnings(0))
			}
		})
	}
}

// TestCaptureTimes: a socket's change time is taken for the disconnect where the
// log bears it out, in the words of either version.
func TestCaptureTimes(t *testing.T) {
	for file, want := range map[string]time.Time{
		"0.9.21-xvnc-disconnected.txt": time.Date(2026, 11, 23, 3, 0, 50, 881907823, time.UTC),
		"0.9.21-xorg-disconnected.txt": time.Date(2026, 11, 23, 3, 0, 58, 845908108, time.UTC),
		"0.10.1-xvnc-disconnected.txt": time.Date(2026, 11, 23, 3, 1, 7, 117908404, time.UTC),
	} {
		views, _ := judge(mustParse(t, capture(t, file)), nil, time.Second)
		if at := views[0].session.DisconnectedAt; !at.Equal(want) {
			t.Errorf("%s: disconnected at %v, want %v", file, at, want)
		}
	}
}

// TestCaptureRoles: what would be ended, and since when it runs.
func TestCaptureRoles(t *testing.T) {
	views, _ := judge(mustParse(t, capture(t, "0.9.21-xorg-disconnected.txt")), nil, time.Second)
	v := views[0]
	if v.process.pid != 1694 || v.wm.pid != 1695 || v.x.pid != 1696 || v.uid != 1008 || v.user != "rbalice" || v.display != 720 {
		t.Errorf("roles %+v", v)
	}
	// btime 1795396920 plus 593278 ticks of 10 ms.
	if want := time.Unix(1795396920, 0).Add(5932780 * time.Millisecond); !v.session.LogonAt.Equal(want) {
		t.Errorf("logon at %v, want %v", v.session.LogonAt, want)
	}
}

func TestParseRefuses(t *testing.T) {
	base := capture(t, "0.9.21-xvnc-disconnected.txt")
	for _, tc := range []struct {
		name   string
		change func([]string) []string
		want   string
	}{
		{"cut off", func(l []string) []string { return l[:len(l)-1] }, "cut off"},
		{"empty", func([]string) []string { return nil }, "cut off"},
		{"no session manager", drop("sesman"), "xrdp-sesman is not running"},
		{"two session managers", add("sesman 4711"), "several xrdp-sesman"},
		{"no clock", drop("now"), "lacks its clock"},
		{"no boot ID", drop("boot"), "lacks its clock"},
		{"no look at clients", drop("looked"), "lacks its clock"},
		{"an unknown line", add("surprise 1"), "unknown kind"},
		{"a field too few", add("session 12"), "wrong number of fields"},
		{"a long line", add("user 7 " + strings.Repeat("x", 300)), "wrong number of fields"},
		{"a negative number", add("in-use -1"), "out of range"},
		{"a signed number", add("in-use +1"), "out of range"},
		{"a large number", add("in-use 4294967296"), "out of range"},
		{"no number", add("in-use many"), "out of range"},
		{"endless children", func(l []string) []string {
			for i := range maxChildren + 1 {
				l = add(fmt.Sprintf("child 1 %d 5 0 a", i+1))(l)
			}
			return l
		}, "too many"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := parseReading(tc.change(slices.Clone(base)))
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v, want one with %q", err, tc.want)
			}
		})
	}
}

// drop and add change a reading's lines; add puts one before the last.
func drop(kind string) func([]string) []string {
	return func(l []string) []string {
		return slices.DeleteFunc(l, func(s string) bool { return strings.HasPrefix(s, kind+" ") })
	}
}

func add(line string) func([]string) []string {
	return func(l []string) []string { return slices.Insert(l, len(l)-1, line) }
}

func TestAnswer(t *testing.T) {
	for _, tc := range []struct{ out, want string }{
		{"", "did not run the script"},
		{"Welcome!\n" + banner + "\n", "did not run the script"},
		{banner + "\nerror rights the command runs as uid 7, but must run as root\n", "rights are missing: the command runs as uid 7"},
		{banner + "\nnow 1\nerror tools flock is missing\n", "a tool is missing: flock"},
		{banner + "\n" + strings.Repeat("x", 1<<17) + "\n", "token too long"},
	} {
		if _, err := answer([]byte(tc.out)); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%.40q: error %v, want one with %q", tc.out, err, tc.want)
		}
	}
}

func TestEpoch(t *testing.T) {
	for in, want := range map[string]time.Time{
		"1795401044.433180051": time.Unix(1795401044, 433180051),
		"1795401044.5":         time.Unix(1795401044, 500000000),
		"1795401044":           time.Unix(1795401044, 0),
		"1795401044.%N":        time.Unix(1795401044, 0), // a date that knows no fractions
	} {
		if got, err := epoch(in); err != nil || !got.Equal(want) {
			t.Errorf("%s: %v, %v; want %v", in, got, err, want)
		}
	}
	for _, in := range []string{"", "x", "-5", "0", "99999999999999999"} {
		if got, err := epoch(in); err == nil {
			t.Errorf("%s: %v, want an error", in, got)
		}
	}
}

// TestLookedIsNotTooEarly: on a host whose date knows no fractions.
func TestLookedIsNotTooEarly(t *testing.T) {
	lines := add("looked 1795402731.%N")(drop("looked")(capture(t, "0.9.21-xvnc-empty.txt")))
	if r := mustParse(t, lines); !r.looked.Equal(time.Unix(1795402732, 0)) {
		t.Errorf("looked %v", r.looked)
	}
}

func TestIsUserName(t *testing.T) {
	for _, ok := range []string{"alice", `CORP\alice smith`, "bob@corp.example", "müller", "a"} {
		if !isUserName(ok) {
			t.Errorf("%q is refused", ok)
		}
	}
	for _, bad := range []string{"", "-rf", "a:b", "a\tb", "a\x00", " a", "a ", strings.Repeat("a", 300), "\xff\ufffd"} {
		if isUserName(bad) {
			t.Errorf("%q is taken", bad)
		}
	}
}

// FuzzReading: no text makes the parser or the judge panic, and no session is
// called disconnected unless it is known whose it is, since when, and what would
// have to end.
func FuzzReading(f *testing.F) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		f.Fatalf("no captures: %v", err)
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(b))
	}
	f.Fuzz(func(t *testing.T, out string) {
		lines, err := answer([]byte(out))
		if err != nil {
			return
		}
		r, err := parseReading(lines)
		if err != nil {
			return
		}
		views, memory := judge(r, nil, time.Second)
		again, _ := judge(r, memory, time.Second)
		for i, v := range views {
			s := v.session
			if s.State == sessions.StateDisconnected &&
				(s.Account.IsZero() || s.DisconnectedAt.IsZero() || v.wm.pid == 0 || v.x.pid == 0 || r.inUse[v.display]) {
				t.Errorf("called disconnected: %+v", v)
			}
			if len(views) == len(memory) && !again[i].session.SameIncarnation(s) {
				t.Errorf("read twice: %+v and %+v", s, again[i].session)
			}
		}
	})
}
