package testlab

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// inNamespace are the processes whose pid namespace has this name.
func inNamespace(t *testing.T, ns string) (pids []string) {
	t.Helper()
	links, err := filepath.Glob("/proc/[0-9]*/ns/pid")
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range links {
		if target, err := os.Readlink(l); err == nil && target == ns {
			pids = append(pids, l)
		}
	}
	return pids
}

func TestStopLeavesNothing(t *testing.T) {
	t.Parallel()
	h := StartXRDP(t, "lab3", "", XRDPOptions{Port: 3390})
	ctx := deadline(t, 60*time.Second)
	ns, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", h.pid))
	if err != nil {
		t.Fatal(err)
	}
	XFreeRDP(t, StartDisplay(t), ClientOptions{Addr: h.Addr, User: "rbdave", Password: h.Users["rbdave"]})
	if _, err := h.WaitDesktop(ctx, "rbdave"); err != nil {
		t.Fatal(err)
	}
	if name, err := h.Exec("hostname"); err != nil || strings.TrimSpace(name) != "lab3" {
		t.Errorf("hostname on the host: %q, %v", name, err)
	}
	if n := len(inNamespace(t, ns)); n < 6 {
		t.Errorf("%d processes on the host; expected init, sesman, xrdp and a session", n)
	}

	h.Stop()
	h.Stop()
	waitFor(ctx, t, "end of the host's processes", func() bool { return len(inNamespace(t, ns)) == 0 })
	if left, err := filepath.Glob(fmt.Sprintf("/tmp/.X*%d*", h.DisplayBase)); err != nil || len(left) != 0 {
		t.Errorf("left in /tmp: %v, %v", left, err)
	}
	if err := h.portFree(); err != nil {
		t.Errorf("the address is still taken: %v", err)
	}
	if passwd, err := os.ReadFile("/etc/passwd"); err != nil || strings.Contains(string(passwd), "rbaccountant1") {
		t.Errorf("the machine's own users were touched (%v)", err)
	}
}

// TestKilledTestLeavesNothing kills a test program that runs a host, as a
// timeout or an operator would.
func TestKilledTestLeavesNothing(t *testing.T) {
	const marker = "host namespace: "
	if os.Getenv("TESTLAB_VICTIM") == "1" {
		h := StartXRDP(t, "lab4", "", XRDPOptions{})
		ns, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", h.pid))
		if err != nil {
			t.Fatal(err)
		}
		fmt.Println(marker + ns)
		time.Sleep(time.Minute)
		return
	}
	t.Parallel()
	RequireNamespaces(t)
	ctx := deadline(t, 60*time.Second)
	victim := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestKilledTestLeavesNothing$", "-test.v")
	victim.Env = append(os.Environ(), "TESTLAB_VICTIM=1", "TMPDIR="+t.TempDir())
	out, err := victim.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := victim.Start(); err != nil {
		t.Fatal(err)
	}
	defer victim.Wait()
	defer victim.Process.Kill()
	lines, ns := bufio.NewScanner(out), ""
	for ns == "" && lines.Scan() {
		if _, after, ok := strings.Cut(lines.Text(), marker); ok {
			ns = after
		}
	}
	if ns == "" || len(inNamespace(t, ns)) == 0 {
		t.Fatalf("the other test program told of no running host (%q, %v)", ns, lines.Err())
	}
	victim.Process.Kill()
	waitFor(ctx, t, "end of the killed program's host", func() bool { return len(inNamespace(t, ns)) == 0 })
}

func TestSetINI(t *testing.T) {
	const text = "; comment\n[A]\nx=1\n  X = 2\n[B]\nx=3\n"
	for _, tc := range []struct{ name, section, key, value, want string }{
		{"replaces all", "A", "x", "9", "; comment\n[A]\nx=9\n[B]\nx=3\n"},
		{"adds", "B", "y", "4", "; comment\n[A]\nx=1\n  X = 2\n[B]\ny=4\nx=3\n"},
		{"new section", "C", "z", "5", "; comment\n[A]\nx=1\n  X = 2\n[B]\nx=3\n\n[C]\nz=5\n"},
	} {
		if got := setINI(text, tc.section, tc.key, tc.value); got != tc.want {
			t.Errorf("%s: %q, want %q", tc.name, got, tc.want)
		}
	}
}

func TestContainsAllForgivesOCR(t *testing.T) {
	if !containsAll("HOST labl\nUSER rb bob", []string{"Host lab1", "rbbob"}) {
		t.Error("a look-alike or a gap hides the text")
	}
	if containsAll("HOST lab2", []string{"lab1"}) {
		t.Error("lab2 passes for lab1")
	}
}
