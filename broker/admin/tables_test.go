package admin

import (
	"bytes"
	"encoding/json"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/rdpbroker/rdpbroker/broker/placement"
	"github.com/rdpbroker/rdpbroker/sessions"
)

var update = flag.Bool("update", false, "write the golden files anew")

// TestTables holds what people see against the files in testdata.
func TestTables(t *testing.T) {
	st := farmStatus()
	all, err := st.sessions(Filter{})
	if err != nil {
		t.Fatal(err)
	}
	made, err := explanation(Question{User: "alice", From: client7, Farm: "office"})
	if err != nil {
		t.Fatal(err)
	}
	quiet := st.hosts()
	quiet.Waiting = nil
	shadow := made
	shadow.Mode = "shadow"
	shadow.Decision.Kind, shadow.Decision.Host = placement.WaitForSlot, ""
	shadow.Decision.Would, shadow.Decision.Victim = made.Decision.Victim, nil
	shadow.Identity = sessions.Identity{Confidence: sessions.ConfidencePrefix, Said: "administr", Accounts: []sessions.Account{alice, {User: hostile}}}
	own := Explanation{Farm: "linux", Identity: sessions.Identity{Confidence: sessions.ConfidenceName, Accounts: []sessions.Account{bob}}, Decision: placement.Decision{
		Kind: placement.Reconnect, Host: "lx3", Own: &sessions.Ref{Host: "lx3", ID: 1234}, Reason: "the caller's own session",
	}}
	for name, write := range map[string]func(io.Writer) error{
		"hosts":          func(w io.Writer) error { return WriteHosts(w, st.hosts()) },
		"hosts-quiet":    func(w io.Writer) error { return WriteHosts(w, quiet) },
		"hosts-none":     func(w io.Writer) error { return WriteHosts(w, Hosts{}) },
		"sessions":       func(w io.Writer) error { return WriteSessions(w, all) },
		"sessions-none":  func(w io.Writer) error { return WriteSessions(w, Sessions{}) },
		"explain":        func(w io.Writer) error { return WriteExplanation(w, made) },
		"explain-shadow": func(w io.Writer) error { return WriteExplanation(w, shadow) },
		"explain-own":    func(w io.Writer) error { return WriteExplanation(w, own) },
		"explain-nobody": func(w io.Writer) error { return WriteExplanation(w, Explanation{}) },
		"hosts.json":     func(w io.Writer) error { return WriteJSON(w, st.hosts()) },
		"sessions.json":  func(w io.Writer) error { return WriteJSON(w, all) },
		"explain.json":   func(w io.Writer) error { return WriteJSON(w, made) },
	} {
		t.Run(name, func(t *testing.T) {
			var got bytes.Buffer
			if err := write(&got); err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(name, ".") {
				name += ".txt"
			}
			golden := filepath.Join("testdata", name)
			if *update {
				if err := os.WriteFile(golden, got.Bytes(), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if got.String() != string(want) {
				t.Errorf("got\n%s\nwant\n%s", &got, want)
			}
			checkPrintable(t, got.String())
			for _, line := range strings.Split(got.String(), "\n") {
				if strings.TrimRight(line, " ") != line {
					t.Errorf("blanks at the end of %q", line)
				}
			}
		})
	}
}

func checkPrintable(t *testing.T, s string) {
	t.Helper()
	if !utf8.ValidString(s) {
		t.Errorf("not text: %q", s)
	}
	for _, r := range s {
		if r != '\n' && !unicode.IsPrint(r) {
			t.Errorf("%U reaches the terminal in %q", r, s)
		}
	}
}

func TestBrokenPipeIsAnError(t *testing.T) {
	st := farmStatus()
	r, w := io.Pipe()
	_ = r.Close()
	if err := WriteHosts(w, st.hosts()); err == nil {
		t.Error("no error")
	}
}

func TestAge(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Second: "0s", 0: "0s", 59*time.Second + 999*time.Millisecond: "59s", time.Minute: "1m", 59 * time.Minute: "59m",
		time.Hour: "1h0m", 192 * time.Minute: "3h12m", 24 * time.Hour: "1d0h", 52 * time.Hour: "2d4h", 4000 * time.Hour: "166d16h",
	} {
		if got := age(d); got != want {
			t.Errorf("age(%v) = %s, want %s", d, got, want)
		}
	}
}

func TestClean(t *testing.T) {
	for in, want := range map[string]string{
		"":                     "",
		`CONTOSO\alice`:        `CONTOSO\alice`,
		"Zoë Müller 田中":        "Zoë Müller 田中",
		"a\tb\nc\r\x00\x7f":    `a\x09b\x0ac\x0d\x00\x7f`,
		"\x1b]0;title\x07":     `\x1b]0;title\x07`,
		"\u009b31m\u202eevil":  `\u009b31m\u202eevil`,
		"\xff\xfe":             `\xff\xfe`,
		"\U000e0041":           `\U000e0041`,
		strings.Repeat("ä", 9): strings.Repeat("ä", 9),
	} {
		if got := clean(in, 20); got != want {
			t.Errorf("clean(%q) = %q, want %q", in, got, want)
		}
	}
	if got := clean("äöüß", 3); got != "äöü…" {
		t.Errorf("cut: %q", got)
	}
}

// FuzzText: whatever text comes from a host or a client, tables and JSON are safe
// for a terminal, and a table keeps its rows.
func FuzzText(f *testing.F) {
	f.Add(hostile)
	f.Add("alice")
	f.Add("\U0010ffff\U000e0001")
	f.Fuzz(func(t *testing.T, s string) {
		checkPrintable(t, clean(s, maxWord))
		list := Sessions{Sessions: []Session{{Host: s, Account: sessions.Account{Domain: s, User: s}, ClientName: s, Program: s}}}
		var out bytes.Buffer
		if err := WriteSessions(&out, list); err != nil {
			t.Fatal(err)
		}
		checkPrintable(t, out.String())
		if n := strings.Count(out.String(), "\n"); n != 2 {
			t.Errorf("%d lines:\n%s", n, &out)
		}
		out.Reset()
		if err := WriteJSON(&out, list); err != nil {
			t.Fatal(err)
		}
		checkPrintable(t, out.String())
		var back Sessions
		if err := json.Unmarshal(out.Bytes(), &back); err != nil {
			t.Fatal(err)
		}
		if got, want := back.Sessions[0].Program, string([]rune(s)); got != want {
			t.Errorf("JSON tells %q of %q", got, want)
		}
	})
}
