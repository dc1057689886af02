package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
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

func TestDoctorsUsage(t *testing.T) {
	for _, args := range [][]string{{"ts9"}, {"ts1", "x1"}, {"--parallel", "-1"}, {"--timeout", "-1s"}} {
		_, _, err := doctorRun(t, args...)
		var usage usageError
		if !errors.As(err, &usage) {
			t.Errorf("%q: error %v, want one of usage", args, err)
		}
	}
}
