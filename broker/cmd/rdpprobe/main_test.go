// SPDX-License-Identifier: GPL-3.0-only

package main

import (
	"bytes"
	"encoding/json"
	"image"
	"image/png"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rdpbroker/rdpbroker/deploy/testlab"
	"github.com/rdpbroker/rdpbroker/rdpproxy/probe"
)

func withPassword(name string) string {
	if name == passwordVariable {
		return "from the environment"
	}
	return ""
}

func TestFlags(t *testing.T) {
	file := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte("from a file \r\nsecond line\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	args := []string{
		"--user", "alice", "--domain=CORP", "--password-file", file, "--timeout", "5s", "--settle", "2s", "--security", "nla",
		"--cookie", "Cookie: msts=x", "--size", "800x600", "--depth", "16", "--client-name", "pc", "--accept-unconfirmed",
		"--screenshot", "out.png", "--json", "host",
	}
	c, err := parseFlags(args, withPassword, os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	want := command{picture: "out.png", json: true, options: probe.Options{
		Addr: "host:3389", User: "alice", Domain: "CORP", Password: "from a file ", Timeout: 5 * time.Second, Settle: 2 * time.Second,
		Security: probe.SecurityNLA, Cookie: "Cookie: msts=x", Width: 800, Height: 600, Depth: 16, ClientName: "pc", AcceptUnconfirmed: true,
	}}
	if c != want {
		t.Errorf("got %+v\nwant %+v", c, want)
	}
	c, err = parseFlags([]string{"-user", "alice", "127.0.0.1:3390"}, withPassword, os.Stderr)
	if err != nil || c.options.Password != "from the environment" || c.options.Addr != "127.0.0.1:3390" || c.options.Timeout != 20*time.Second {
		t.Errorf("%+v, %v", c, err)
	}
}

func TestWrongUsage(t *testing.T) {
	for name, args := range map[string][]string{
		"no host":            {"--user", "u"},
		"two hosts":          {"--user", "u", "a", "b"},
		"no user":            {"host"},
		"an unknown flag":    {"--password", "secret", "--user", "u", "host"},
		"a size":             {"--user", "u", "--size", "800", "host"},
		"a size with a tail": {"--user", "u", "--size", "800x600x7", "host"},
		"a negative size":    {"--user", "u", "--size", "-800x600", "host"},
		"no time":            {"--user", "u", "--timeout", "0s", "host"},
		"a security":         {"--user", "u", "--security", "best", "host"},
		"a missing file":     {"--user", "u", "--password-file", "/nonexistent", "host"},
	} {
		var stdout, stderr bytes.Buffer
		if code := run(t.Context(), args, withPassword, &stdout, &stderr); code != exitUsage {
			t.Errorf("%s: exit code %d", name, code)
		}
		if stdout.Len() != 0 || !strings.HasPrefix(stderr.String(), "rdpprobe: ") || strings.Count(stderr.String(), "\n") != 1 {
			t.Errorf("%s: printed %q and %q", name, stdout.String(), stderr.String())
		}
	}
	var stderr bytes.Buffer
	if code := run(t.Context(), []string{"--user", "u", "host"}, func(string) string { return "" }, &stderr, &stderr); code != exitUsage ||
		!strings.Contains(stderr.String(), passwordVariable) {
		t.Errorf("no password: exit code %d, %q", code, stderr.String())
	}
}

func TestHelp(t *testing.T) {
	var stdout, stderr bytes.Buffer
	if code := run(t.Context(), []string{"--help"}, withPassword, &stdout, &stderr); code != 0 {
		t.Errorf("exit code %d", code)
	}
	for _, want := range []string{"usage: rdpprobe --user", passwordVariable, "Exit codes", "-screenshot", "-accept-unconfirmed"} {
		if !strings.Contains(stderr.String(), want) {
			t.Errorf("%q is not in the help", want)
		}
	}
}

func TestWithPort(t *testing.T) {
	for in, want := range map[string]string{
		"host": "host:3389", "host:3390": "host:3390", "10.0.0.7": "10.0.0.7:3389",
		"::1": "[::1]:3389", "[::1]": "[::1]:3389", "[::1]:3390": "[::1]:3390",
	} {
		if got := withPort(in); got != want {
			t.Errorf("%s: got %s, want %s", in, got, want)
		}
	}
}

// closedPort is an address where nobody listens.
func closedPort(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

func TestNoDesktop(t *testing.T) {
	addr, picture := closedPort(t), filepath.Join(t.TempDir(), "out.png")
	var stdout, stderr bytes.Buffer
	code := run(t.Context(), []string{"--user", "alice", "--json", "--screenshot", picture, addr}, withPassword, &stdout, &stderr)
	if code != exitNoDesktop {
		t.Errorf("exit code %d", code)
	}
	var r map[string]any
	if err := json.Unmarshal(stdout.Bytes(), &r); err != nil {
		t.Fatalf("%v in %s", err, stdout.String())
	}
	if r["desktop"] != false || r["addr"] != addr || r["logon"] != "unknown" || r["error"] == "" {
		t.Errorf("%v", r)
	}
	if stages, ok := r["stages"].([]any); !ok || len(stages) != 0 {
		t.Errorf("stages %v: want an empty list", r["stages"])
	}
	if _, err := os.Stat(picture); err == nil || !strings.Contains(stderr.String(), "no screenshot") {
		t.Errorf("a picture of nothing: %q", stderr.String())
	}
	if strings.Contains(stdout.String()+stderr.String(), "from the environment") {
		t.Error("the password was printed")
	}
}

func TestDescribe(t *testing.T) {
	session := uint32(3)
	r := &probe.Result{
		Addr: "host:3389", User: "alice", Domain: "CORP", Error: "the host did not log the user on", Reached: probe.StagePicture,
		Stages: []probe.StageTime{{Stage: probe.StageTCP, Millis: 1.25}, {Stage: probe.StagePicture, Millis: 100}},
		Millis: 1234.5, Protocol: "HYBRID_EX", TLS: &probe.TLS{Version: "TLS 1.2", Cipher: "C", SHA256: "abc"},
		Logon: probe.LogonRefused, LogonBy: "credssp", Account: `CORP\alice`, SessionID: &session,
		LogonNotice: &probe.Code{Value: "0xfffffffb", Name: "LOGON_MSG_BUMP_OPTIONS"}, ErrorInfo: &probe.Code{Value: "0x77"},
		Redirects: []probe.Redirect{{Token: "Cookie: msts=x"}},
		Screen:    &probe.Screen{Width: 1024, Height: 768, Updates: 3, Coverage: 0.5, Colors: 1, Undecoded: 2, Fault: "why"},
	}
	want := `result    no desktop for "CORP\\alice" at host:3389 after 1234 ms
why       the host did not log the user on
security  HYBRID_EX
tls       TLS 1.2, C, certificate SHA-256 abc
stages    tcp 1.2 ms, picture 100.0 ms
logon     refused (credssp), as "CORP\\alice", session 3; logon screen LOGON_MSG_BUMP_OPTIONS (0xfffffffb); error info 0x77
redirect  address "", token "Cookie: msts=x"
screen    1024 x 768, 3 updates, 50 % painted, blank
          2 rectangles could not be decoded: why
`
	if got := describe(r); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

// TestDesktop runs the program as rdpbroker does, against a host with NLA.
func TestDesktop(t *testing.T) {
	h := testlab.StartShadow(t, "rdpprobe", testlab.ShadowOptions{Accounts: []testlab.ShadowAccount{{User: "rbalice", Password: "from the environment"}}})
	picture := filepath.Join(t.TempDir(), "out.png")
	var stdout, stderr bytes.Buffer
	args := []string{"--user", "rbalice", "--json", "--settle", "200ms", "--size", "640x480", "--screenshot", picture, h.Addr}
	if code := run(t.Context(), args, withPassword, &stdout, &stderr); code != exitDesktop {
		t.Fatalf("exit code %d, printed %s%s", code, stdout.String(), stderr.String())
	}
	var r probe.Result
	if err := json.Unmarshal(stdout.Bytes(), &r); err != nil || !r.Desktop || r.Logon != probe.LogonAccepted {
		t.Errorf("%v: %s", err, stdout.String())
	}
	f, err := os.Open(picture)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	img, err := png.Decode(f)
	if err != nil || img.Bounds() != image.Rect(0, 0, r.Screen.Width, r.Screen.Height) {
		t.Errorf("picture: %v, %v", img, err)
	}

	stdout.Reset()
	wrong := func(string) string { return "wrong" }
	if code := run(t.Context(), []string{"--user", "rbalice", h.Addr}, wrong, &stdout, &stderr); code != exitNoDesktop {
		t.Errorf("wrong password: exit code %d", code)
	}
	if !strings.Contains(stdout.String(), "logon     refused") {
		t.Errorf("printed %s", stdout.String())
	}
}
