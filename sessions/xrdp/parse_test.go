package xrdp

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/rdpbroker/rdpbroker/sessions"
)

// capture is one reading of a real host, from testdata: what read.sh printed on
// hosts of package testlab with Debian's xrdp 0.9.21 and a build of 0.10.1, written
// by TestFarmCapture.
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
	const programs = " openbox sleep xrdp-chansrv xterm]"
	for state, want := range map[string][]string{ // user, state, programs
		"empty":        nil,
		"starting":     {"rbalice Init"},
		"connected":    {"rbalice Active" + programs, "rbaccountant1 Active" + programs},
		"disconnected": {"rbalice Disconnected" + programs, "rbaccountant1 Active" + programs},
	} {
		for _, host := range []string{"0.9.21-xvnc", "0.9.21-xorg", "0.10.1-xvnc"} {
			t.Run(host+"-"+state, func(t *testing.T) {
				r := mustParse(t, capture(t, host+"-"+state+".txt"))
				views, _ := judge(r, nil, time.Second)
				var got []string
				for _, v := range views {
					s := v.session
					if s.KeepUntil.After(r.now.Add(sessions.KeepAtMost)) {
						t.Errorf("%+v is kept for too long", s)
					}
					line := fmt.Sprintf("%s %s", s.Account, s.State)
					if s.State != sessions.StateInit { // then it depends on the moment
						line += " " + strings.Join(s.Processes[1:], " ") + "]" // without the X server
						if !isXServer(s.Processes[0]) || s.CPUTime <= 0 || s.CPUTime > 1000*perTick {
							t.Errorf("programs %q, CPU time %d", s.Processes, s.CPUTime)
						}
					}
					got = append(got, line)
					if s.LogonAt.After(r.now) || s.LogonAt.Before(r.booted) || s.Incarnation == "" || v.display >= 0 && s.Name != fmt.Sprintf(":%d", v.display) {
						t.Errorf("%+v", s)
					}
				}
				if !slices.Equal(got, want) {
					t.Errorf("got %q, want %q", got, want)
				}
				if r.limit != 10 || !strings.HasPrefix(r.os, "Debian GNU/Linux") || len(r.warnings(0)) != 0 {
					t.Errorf("limit %d, OS %q, warnings %q", r.limit, r.os, r.warnings(0))
				}
			})
		}
	}
}

// TestCaptureTimes: a socket's change time is taken for the disconnect where the
// log bears it out, in the words of either version.
func TestCaptureTimes(t *testing.T) {
	for _, host := range []string{"0.9.21-xvnc", "0.9.21-xorg", "0.10.1-xvnc"} {
		lines := capture(t, host+"-disconnected.txt")
		views, _ := judge(mustParse(t, lines), nil, time.Second)
		v := views[0]
		want := fmt.Sprintf("socket %d %s", v.display, v.session.DisconnectedAt.Format("2006-01-02 15:04:05.000000000 -0700"))
		if !slices.Contains(lines, want) {
			t.Errorf("%s: disconnected at %v, no line %q", host, v.session.DisconnectedAt, want)
		}
	}
}

// TestReadingInFull: one session, told in all its lines.
func TestReadingInFull(t *testing.T) {
	r := mustParse(t, strings.Split(`now 1795402741.25
boot 0b331fb8-de2b-4d89-b483-2d34edf8a28b
uptime 5821.25
hz 100
btime 1795396920
os Some Linux
setting maxsessions 7
sesman 51
session 436 580888
child 436 440 580890 1008 Xvnc
display 440 12
child 436 439 580889 1008 openbox
child 436 486 580914 1008 xrdp-chansrv
program 1008 openbox
program 1008 Xvnc
program 1009 cron
user 1008 CORP\alice smith
cpu 1008 42
looked 1795402741.5
socket 12 2026-11-23 02:58:53.861903495 +0000
login 436 20261123-02:58:49@10.0.0.1:5
end`, "\n"))
	views, _ := judge(r, nil, time.Second)
	got := views[0].session
	want := sessions.Session{
		ID: 436, Name: ":12", Account: sessions.Account{Domain: "CORP", User: "alice smith"}, State: sessions.StateDisconnected,
		LogonAt: time.Unix(1795396920, 0).Add(5808880 * time.Millisecond), DisconnectedAt: time.Date(2026, 11, 23, 2, 58, 53, 861903495, time.UTC),
		Incarnation: "0b331fb8-de2b-4d89-b483-2d34edf8a28b/580888/436", Processes: []string{"Xvnc", "openbox"}, CPUTime: 42 * perTick,
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
		t.Errorf("session (-want +got):\n%s", diff)
	}
	if v := views[0]; v.wm.pid != 439 || v.x.pid != 440 || v.chansrv.pid != 486 || v.uid != 1008 || v.user != `CORP\alice smith` {
		t.Errorf("roles %+v", v)
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
		f.Add(strings.Replace(string(b), "\nend\n", "\nkeep 1007 1795403201 8h\nend\n", 1))
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
