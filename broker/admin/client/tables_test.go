package client

import (
	"bytes"
	"encoding/json"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/rdpbroker/rdpbroker/broker/admin"
	"github.com/rdpbroker/rdpbroker/broker/admin/admintest"
	"github.com/rdpbroker/rdpbroker/broker/placement"
	"github.com/rdpbroker/rdpbroker/sessions"
)

var update = flag.Bool("update", false, "write the golden files anew")

// TestTables holds what people see against the files in testdata.
func TestTables(t *testing.T) {
	st := admintest.FarmStatus()
	all, err := st.SessionList(admin.Filter{})
	if err != nil {
		t.Fatal(err)
	}
	made, err := admintest.Explain(admin.Question{User: "alice", From: admintest.Client7, Farm: "office"})
	if err != nil {
		t.Fatal(err)
	}
	quiet := st.HostList()
	quiet.Waiting = nil
	shadow := made
	shadow.Mode = "shadow"
	shadow.Decision.Kind, shadow.Decision.Host = placement.WaitForSlot, ""
	shadow.Decision.Would, shadow.Decision.Victim = made.Decision.Victim, nil
	shadow.Identity = sessions.Identity{Confidence: sessions.ConfidencePrefix, Said: "administr", Accounts: []sessions.Account{admintest.Alice, {User: admintest.Hostile}}}
	own := admin.Explanation{Farm: "linux", Identity: sessions.Identity{Confidence: sessions.ConfidenceName, Accounts: []sessions.Account{admintest.Bob}}, Decision: placement.Decision{
		Kind: placement.Reconnect, Host: "lx3", Own: &sessions.Ref{Host: "lx3", ID: 1234}, Reason: "the caller's own session",
	}}
	for name, write := range map[string]func(io.Writer) error{
		"hosts":          func(w io.Writer) error { return WriteHosts(w, st.HostList()) },
		"hosts-quiet":    func(w io.Writer) error { return WriteHosts(w, quiet) },
		"hosts-none":     func(w io.Writer) error { return WriteHosts(w, admin.Hosts{}) },
		"sessions":       func(w io.Writer) error { return WriteSessions(w, all) },
		"sessions-none":  func(w io.Writer) error { return WriteSessions(w, admin.Sessions{}) },
		"explain":        func(w io.Writer) error { return WriteExplanation(w, made) },
		"explain-shadow": func(w io.Writer) error { return WriteExplanation(w, shadow) },
		"explain-own":    func(w io.Writer) error { return WriteExplanation(w, own) },
		"explain-nobody": func(w io.Writer) error { return WriteExplanation(w, admin.Explanation{}) },
		"hosts.json":     func(w io.Writer) error { return WriteJSON(w, st.HostList()) },
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
	st := admintest.FarmStatus()
	r, w := io.Pipe()
	_ = r.Close()
	if err := WriteHosts(w, st.HostList()); err == nil {
		t.Error("no error")
	}
}

// FuzzText: whatever text comes from a host or a client, tables and JSON are safe
// for a terminal, and a table keeps its rows.
func FuzzText(f *testing.F) {
	f.Add(admintest.Hostile)
	f.Add("alice")
	f.Add("\U0010ffff\U000e0001")
	f.Fuzz(func(t *testing.T, s string) {
		checkPrintable(t, admin.Clean(s, maxWord))
		list := admin.Sessions{Sessions: []admin.Session{{Host: s, Account: sessions.Account{Domain: s, User: s}, ClientName: s, Program: s}}}
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
		var back admin.Sessions
		if err := json.Unmarshal(out.Bytes(), &back); err != nil {
			t.Fatal(err)
		}
		if got, want := back.Sessions[0].Program, string([]rune(s)); got != want {
			t.Errorf("JSON tells %q of %q", got, want)
		}
	})
}
