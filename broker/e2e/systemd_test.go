package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rdpbroker/rdpbroker/deploy/testlab"
)

// machine is systemd as the first process of a machine of its own.
type machine struct {
	t   *testing.T
	s   *site
	r   *running
	pid string // of systemd, as this machine numbers it
}

// boot starts a machine with the project's own unit on s's configuration.
func boot(t *testing.T, s *site) *machine {
	t.Helper()
	testlab.Require(t, "unshare", "nsenter", "pivot_root", "systemctl", "useradd")
	testlab.RequireNamespaces(t)
	if _, err := os.Stat("/lib/systemd/systemd"); err != nil {
		t.Skip("SKIP: systemd is not installed")
	}
	from := t.TempDir()
	copyFile(t, program(t, "rdpbroker"), filepath.Join(from, "rdpbroker"), 0o755)
	copyFile(t, "../../deploy/systemd/rdpbroker.service", filepath.Join(from, "rdpbroker.service"), 0o644)
	if err := os.Mkdir(filepath.Join(from, "etc"), 0o755); err != nil {
		t.Fatal(err)
	}
	files, err := os.ReadDir(s.dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		copyFile(t, s.path(f.Name()), filepath.Join(from, "etc", f.Name()), 0o640)
	}
	m := &machine{t: t, s: s}
	m.r = startCommand(t, exec.Command("unshare", "--mount", "--pid", "--ipc", "--uts", "--cgroup", "--fork", "--kill-child", "sh", "testdata/systemd.sh", from))
	s.until("systemd runs", func() bool {
		out, err := exec.Command("pgrep", "-P", strconv.Itoa(m.r.cmd.Process.Pid)).Output()
		m.pid = strings.TrimSpace(string(out))
		if err != nil || m.pid == "" {
			return false
		}
		name, err := os.ReadFile("/proc/" + m.pid + "/comm")
		return err == nil && strings.TrimSpace(string(name)) == "systemd"
	})
	return m
}

func copyFile(t *testing.T, from, to string, mode os.FileMode) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, b, mode); err != nil {
		t.Fatal(err)
	}
}

// do runs a command on the machine.
func (m *machine) do(args ...string) (string, error) {
	out, err := exec.CommandContext(m.s.ctx, "nsenter", append([]string{"--target", m.pid, "--mount", "--pid", "--ipc", "--uts", "--cgroup", "--root", "--wd"}, args...)...).CombinedOutput()
	return string(out), err
}

func (m *machine) must(args ...string) string {
	m.t.Helper()
	out, err := m.do(args...)
	if err != nil {
		m.t.Fatalf("%s: %v\n%s\nsystemd: %s", strings.Join(args, " "), err, out, m.r.output())
	}
	return out
}

// mainPID is the broker's process, by the machine's own numbers.
func (m *machine) mainPID() string {
	return strings.TrimSpace(m.must("systemctl", "show", "--property=MainPID", "--value", "rdpbroker"))
}

// TestSystemdRestart: with the project's unit and a real systemd, `systemctl restart`
// ends no connection, and `systemctl stop` does. The unit's sandbox lets the broker do
// all that.
func TestSystemdRestart(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: a machine of its own")
	}
	s := newMirrorSite(t)
	text, err := os.ReadFile(s.path("broker.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	addr := freePort(t)
	s.write("broker.yaml", strings.NewReplacer(
		"address: '127.0.0.1:0', farm", "address: '"+addr+"', farm",
		"socket: admin.sock", "socket: /run/rdpbroker/admin.sock",
		"file: audit.jsonl", "file: /var/log/rdpbroker/audit.jsonl",
		"state_file: state.json", "state_file: /var/lib/rdpbroker/state.json",
	).Replace(string(text)))
	m := boot(t, s)
	s.until("the broker serves", func() bool {
		out, err := m.do("systemctl", "is-active", "rdpbroker")
		return err == nil && strings.TrimSpace(out) == "active"
	})
	s.until("the host is read", func() bool {
		out, err := m.do("rdpbroker", "hosts", "-c", "/etc/rdpbroker/broker.yaml")
		return err == nil && regexp.MustCompile(`ts1 .*\bup\b`).MatchString(out)
	})
	c := newCrowd(t, addr, 300)

	first := m.mainPID()
	began := time.Now()
	m.must("systemctl", "restart", "rdpbroker")
	took := time.Since(began)
	c.everybody(t, "goes on after the restart", 2)
	second := m.mainPID()
	if first == second || second == "0" {
		t.Errorf("the broker was process %s and is %s", first, second)
	}
	t.Logf("300 connections went on over a restart, which took %v", took.Round(time.Millisecond))
	said := regexp.MustCompile(`taken over from the process before","connections":(\d+),"lost":(\d+)`).FindStringSubmatch(m.must("cat", "/run/broker.log"))
	if said == nil {
		t.Fatalf("the new process does not say that it has taken over:\n%s", m.must("cat", "/run/broker.log"))
	}
	if said[1] != fmt.Sprint(len(c.rounds)) || said[2] != "0" {
		t.Errorf("it says: %s", said[0])
	}

	// And once more: what was taken over can be handed over.
	m.must("systemctl", "restart", "rdpbroker")
	c.everybody(t, "goes on after the second restart", 2)
	c.end(t)

	left, err := connectAs(addr, "user00001")
	if err != nil {
		t.Fatal(err)
	}
	defer left.Close()
	m.must("systemctl", "kill", "--signal=SIGTERM", "rdpbroker") // twice: at once
	m.must("systemctl", "stop", "rdpbroker")
	if _, err := left.Read(make([]byte, 1)); err == nil {
		t.Error("a connection outlived the stop")
	}
}
