package main

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rdpbroker/rdpbroker/sessions"
	"github.com/rdpbroker/rdpbroker/sessions/simhost"
)

// doctorRun runs the verb on a farm of two hosts that nobody answers for.
func doctorRun(t *testing.T, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ln.Close() // its port is closed now
	dir := t.TempDir()
	file := filepath.Join(dir, "broker.yaml")
	text := fmt.Sprintf(`listen: [{address: "127.0.0.1:0", farm: office}]
farms:
  office:
    hosts:
      - {name: ts1, address: "127.0.0.2:%[1]d", slots: 2, winrm: {user: svc, password_file: %[2]q, address: "127.0.0.2:%[1]d"}}
      - {name: x1, address: "127.0.0.3:%[1]d", xrdp: {ssh: {user: root, password_file: %[2]q, known_hosts: %[2]q, address: "127.0.0.3:%[1]d"}}}
`, ln.Addr().(*net.TCPAddr).Port, filepath.Join(dir, "empty"))
	for path, content := range map[string]string{file: text, filepath.Join(dir, "empty"): ""} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c := doctorCommand()
	c.SilenceUsage, c.SilenceErrors = true, true
	var out, progress bytes.Buffer
	c.SetOut(&out)
	c.SetErr(&progress)
	c.SetArgs(append([]string{"-c", file}, args...))
	err = c.ExecuteContext(t.Context())
	return out.String(), progress.String(), err
}

func TestDoctorTellsOfEachHost(t *testing.T) {
	stdout, stderr, err := doctorRun(t)
	var quiet quietFailure
	if !errors.As(err, &quiet) {
		t.Errorf("error %v, want the exit code of a failure", err)
	}
	for _, part := range []string{"ts1 (127.0.0.2:", "x1 (127.0.0.3:", "connection refused", "2 hosts: 4 failures, "} {
		if !strings.Contains(stdout, part) {
			t.Errorf("no %q in\n%s", part, stdout)
		}
	}
	for _, part := range []string{"ts1: 2 failures", "x1: 2 failures", "--name"} {
		if !strings.Contains(stderr, part) {
			t.Errorf("no %q in the progress\n%s", part, stderr)
		}
	}
}

func TestDoctorOfOneHostAsJSON(t *testing.T) {
	stdout, _, err := doctorRun(t, "TS1", "--json", "--name", "rdp.contoso.example")
	var quiet quietFailure
	if !errors.As(err, &quiet) {
		t.Errorf("error %v, want the exit code of a failure", err)
	}
	var result struct {
		Failures int
		Hosts    []struct {
			Host     string
			Findings []struct{ Check, Level, Text, Advice string }
		}
	}
	if err := json.Unmarshal([]byte(stdout), &result); err != nil {
		t.Fatal(err)
	}
	if len(result.Hosts) != 1 || result.Hosts[0].Host != "ts1" || result.Failures != 2 {
		t.Errorf("%+v", result)
	}
}

// TestDoctorOfAGoodHost: from the configuration file to a reading, and exit code 0.
func TestDoctorOfAGoodHost(t *testing.T) {
	cert, err := simhost.SelfSigned(time.Now(), "ts1", "127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	host, err := simhost.New(simhost.Config{Name: "ts1", WinRM: simhost.WinRM{TLS: cert,
		Managers: []simhost.Manager{{Account: sessions.Account{User: "svc"}, Password: "right"}}}})
	if err != nil {
		t.Fatal(err)
	}
	var listeners [2]net.Listener
	for i := range listeners {
		if listeners[i], err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	rdp, manage := listeners[0].Addr(), listeners[1].Addr()
	go func() { ended <- host.Run(ctx, listeners[0], listeners[1]) }()
	defer func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	dir := t.TempDir()
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Certificates[0].Certificate[0]})
	for name, text := range map[string]string{"password": "right\n", "ca.pem": string(ca), "broker.yaml": fmt.Sprintf(`
listen: [{address: "127.0.0.1:0", farm: office}]
farms: {office: {hosts: [{name: ts1, address: %q, slots: 2, winrm: {address: %q, user: svc, password_file: password, ca_file: ca.pem}}]}}
`, rdp, manage)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c := doctorCommand()
	var out bytes.Buffer
	c.SetOut(&out)
	c.SetErr(io.Discard)
	c.SetArgs([]string{"-c", filepath.Join(dir, "broker.yaml"), "--quiet"})
	if err := c.ExecuteContext(t.Context()); err != nil {
		t.Errorf("%v\n%s", err, out.String())
	}
	if text := out.String(); !strings.Contains(text, "1 host: 0 failures, ") || strings.Contains(text, "  ok ") {
		t.Errorf("printed\n%s", text)
	}
}

func TestDoctorsUsage(t *testing.T) {
	for _, args := range [][]string{{"ts9"}, {"ts1", "x1"}, {"--parallel", "-1"}, {"--timeout", "-1s"}} {
		_, _, err := doctorRun(t, args...)
		var usage usageError
		if !errors.As(err, &usage) {
			t.Errorf("%q: error %v, want one of usage", args, err)
		}
	}
}
