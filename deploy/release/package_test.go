package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// need skips a test whose tool is missing; under CI it fails.
func need(t *testing.T, tools ...string) {
	t.Helper()
	for _, tool := range tools {
		if _, err := exec.LookPath(tool); err != nil {
			if os.Getenv("CI") == "true" {
				t.Fatalf("%s is not installed", tool)
			}
			t.Skipf("SKIP: %s is not installed", tool)
		}
	}
}

// output runs a command and returns what it printed.
func output(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// TestRelease builds a release for this platform twice, finds the same bytes, and
// looks into the package: what Debian's own checker says of it, and that it can be
// installed, runs, and goes away again.
func TestRelease(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the program twice")
	}
	need(t, "git", "dpkg-deb", "dpkg", "lintian")
	var outs []string
	for _, name := range []string{"one", "two"} {
		out := filepath.Join(t.TempDir(), name)
		if err := run([]string{"-root", "../..", "-out", out, "-targets", "linux/amd64"}); err != nil {
			t.Fatal(err)
		}
		outs = append(outs, out)
	}
	first, err := os.ReadFile(filepath.Join(outs[0], "SHA256SUMS"))
	if err != nil {
		t.Fatal(err)
	}
	second, err := os.ReadFile(filepath.Join(outs[1], "SHA256SUMS"))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first, second) {
		t.Errorf("two builds of one commit differ:\n%s\n%s", first, second)
	}
	output(t, "sh", "-c", "cd '"+outs[0]+"' && sha256sum --check --strict SHA256SUMS")

	debs, err := filepath.Glob(filepath.Join(outs[0], "*.deb"))
	if err != nil || len(debs) != 1 {
		t.Fatalf("packages: %v, %v", debs, err)
	}
	deb := debs[0]
	if out, err := exec.Command("lintian", "--allow-root", "--fail-on", "error,warning", deb).CombinedOutput(); err != nil {
		t.Errorf("lintian: %v\n%s", err, out)
	}
	for _, want := range []string{
		"-rwxr-xr-x root/root", "./usr/bin/rdpbroker", "./usr/lib/systemd/system/rdpbroker.service",
		"drwxr-x--- root/root", "./usr/share/man/man1/rdpbroker-serve.1.gz", "./usr/share/doc/rdpbroker/examples/broker.yaml",
	} {
		if list := output(t, "dpkg-deb", "--contents", deb); !strings.Contains(list, want) {
			t.Errorf("%q is not in the package:\n%s", want, list)
		}
	}
	hardened(t, deb)
	t.Run("life", func(t *testing.T) { life(t, deb) })
}

// hardened asks systemd how exposed the unit leaves the machine.
func hardened(t *testing.T, deb string) {
	need(t, "systemd-analyze")
	dir := t.TempDir()
	output(t, "dpkg-deb", "--extract", deb, dir)
	// Above 2.0 something of the hardening was lost.
	out := output(t, "systemd-analyze", "security", "--offline=true", "--threshold=20", filepath.Join(dir, "usr/lib/systemd/system/rdpbroker.service"))
	t.Log(lastLine(out))
}

// life installs, starts, upgrades and removes the package, on this machine's files
// with a layer over them that is thrown away.
func life(t *testing.T, deb string) {
	if os.Getuid() != 0 {
		t.Skip("SKIP: only root may install packages")
	}
	need(t, "unshare", "setpriv", "chroot")
	if out, err := exec.Command("unshare", "--mount", "mount", "-t", "tmpfs", "tmpfs", t.TempDir()).CombinedOutput(); err != nil {
		t.Skipf("SKIP: nothing may be mounted here: %v: %s", err, out)
	}
	// All that it starts ends with it.
	t.Log(output(t, "unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "testdata/life.sh", deb))
}

func lastLine(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return lines[len(lines)-1]
}

// The scripts of the package are run by sh, and say nothing that it would not take.
func TestPackageScripts(t *testing.T) {
	for _, name := range []string{"postinst", "prerm", "postrm"} {
		output(t, "sh", "-n", filepath.Join("..", "debian", name))
	}
	output(t, "sh", "-n", filepath.Join("..", "openrc", "rdpbroker"))
}
