package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestVersionSortsAsDebianDoes(t *testing.T) {
	at := time.Date(2026, 11, 27, 0, 0, 0, 0, time.UTC)
	for described, want := range map[string]string{
		"b598daa123":              "0.0.0~git20261127.b598daa123",
		"v1.2.3-0-gb598daa123":    "1.2.3",
		"v1.2.3-5-gb598daa123":    "1.2.3+5.gb598daa123",
		"v2.0.0-rc1-0-gb598daa12": "2.0.0-rc1",
	} {
		if got := version(described, at); got != want {
			t.Errorf("%s is %q, want %q", described, got, want)
		}
	}
	dpkg, err := exec.LookPath("dpkg")
	if err != nil {
		t.Skip("SKIP: dpkg is not installed, so the order is not asked for")
	}
	order := []string{"0.0.0~git20261127.b598daa123", "1.2.3", "1.2.3+5.gb598daa123", "1.2.4"}
	for i := 1; i < len(order); i++ {
		if err := exec.Command(dpkg, "--compare-versions", order[i-1], "lt", order[i]).Run(); err != nil {
			t.Errorf("%s is not before %s: %v", order[i-1], order[i], err)
		}
	}
}

func TestTargets(t *testing.T) {
	ts, err := parseTargets("linux/amd64, windows/arm64")
	if err != nil || len(ts) != 2 || ts[0] != (target{"linux", "amd64"}) || ts[1].exe() != ".exe" {
		t.Errorf("%v, %v", ts, err)
	}
	for _, bad := range []string{"", "linux", "linux/", "/amd64", "linux/amd64,,"} {
		if _, err := parseTargets(bad); err == nil {
			t.Errorf("%q was taken for platforms", bad)
		}
	}
}

// Only a folder that an earlier run has made is emptied.
func TestAFolderOfSomebodyElseIsLeftAlone(t *testing.T) {
	dir := t.TempDir()
	keep := filepath.Join(dir, "thesis.txt")
	if err := os.WriteFile(keep, []byte("years of work"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := clear(dir); err == nil || !strings.Contains(err.Error(), "name another folder") {
		t.Errorf("a folder with other things in it: %v", err)
	}
	if _, err := os.Stat(keep); err != nil {
		t.Error(err)
	}
	own := filepath.Join(dir, "dist")
	for range 2 {
		if err := clear(own); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(own, "old"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := clear(own); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(own, "old")); err == nil {
		t.Error("what an earlier run left is still there")
	}
}
