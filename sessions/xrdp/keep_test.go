package xrdp

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// nobody owns the markers of these tests.
const nobody = 65534

// keepMarker runs keep_marker, as root, for a home of nobody's.
func keepMarker(t *testing.T, home string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, "sh", "-s")
	cmd.Stdin = strings.NewReader(script(fmt.Sprintf("keep_marker %d %d '%s'", nobody, nobody, home)))
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil || stderr.Len() > 0 {
		t.Fatalf("%v: %s", err, &stderr)
	}
	return string(out)
}

func TestKeepMarkerIsReadWithTheUsersRights(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root, as the broker's account on the host")
	}
	written := time.Unix(1_790_000_000, 0)
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("8h"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		make func(path string) error
		want string
	}{
		"no marker":           {func(string) error { return nil }, ""},
		"empty":               {func(p string) error { return os.WriteFile(p, nil, 0o644) }, "-"},
		"hours":               {func(p string) error { return os.WriteFile(p, []byte("8h\n"), 0o600) }, "8h"},
		"much":                {func(p string) error { return os.WriteFile(p, bytes.Repeat([]byte("9"), 1<<20), 0o644) }, strings.Repeat("9", 17)},
		"words for a shell":   {func(p string) error { return os.WriteFile(p, []byte("$(id)\nend\n"), 0o644) }, "idend"},
		"a link":              {func(p string) error { return os.Symlink("/etc/hostname", p) }, ""},
		"a link to a secret":  {func(p string) error { return os.Symlink(secret, p) }, ""},
		"a pipe without end":  {func(p string) error { return syscall.Mkfifo(p, 0o644) }, ""},
		"a directory":         {func(p string) error { return os.Mkdir(p, 0o755) }, ""},
		"not the user's":      {func(p string) error { return os.WriteFile(p, []byte("8h"), 0o000) }, "-"},
		"in a dir that links": {func(p string) error { return relink(p, filepath.Dir(secret)) }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			home, err := os.MkdirTemp("/tmp", "home")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { os.RemoveAll(home) })
			dir := filepath.Join(home, ".config", "rdpbroker")
			marker := filepath.Join(dir, "keep")
			if err := os.MkdirAll(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			if err := c.make(marker); err != nil {
				t.Fatal(err)
			}
			for _, p := range []string{home, filepath.Dir(dir), dir, marker} {
				if name == "not the user's" && p == marker {
					continue
				}
				_ = os.Lchown(p, nobody, nobody) // some are not there
			}
			if err := os.Chmod(home, 0o700); err != nil {
				t.Fatal(err)
			}
			_ = os.Chtimes(marker, written, written)
			want := ""
			if c.want != "" {
				want = fmt.Sprintf("keep %d %d %s\n", nobody, written.Unix(), c.want)
			}
			if got := keepMarker(t, home); got != want {
				t.Errorf("%q, want %q", got, want)
			}
		})
	}
}

// relink makes a marker's folder a link to one that only root can read.
func relink(marker, to string) error {
	if err := os.Rename(filepath.Join(to, "secret"), filepath.Join(to, "keep")); err != nil {
		return err
	}
	if err := os.Chmod(to, 0o700); err != nil {
		return err
	}
	if err := os.Remove(filepath.Dir(marker)); err != nil {
		return err
	}
	return os.Symlink(to, filepath.Dir(marker))
}

func TestKeepInAReading(t *testing.T) {
	lines := capture(t, "0.9.21-xvnc-disconnected.txt")
	r, err := parseReading(lines)
	if err != nil {
		t.Fatal(err)
	}
	found, _ := judge(r, nil, 0)
	uid := found[0].uid
	for _, c := range []struct {
		line string
		want time.Duration // from now on; 0: none
	}{
		{fmt.Sprintf("keep %d %d 8h", uid, r.now.Unix()), 8 * time.Hour},
		{fmt.Sprintf("keep %d %d -", uid, r.now.Unix()), 7 * 24 * time.Hour},
		{fmt.Sprintf("keep %d %d 8h", uid, r.now.Unix()-1e6), 0}, // of an earlier session
		{fmt.Sprintf("keep %d %d 8h", uid+100, r.now.Unix()), 0},
	} {
		all := append(append([]string{}, lines[:len(lines)-1]...), c.line, "end")
		r, err := parseReading(all)
		if err != nil {
			t.Fatal(err)
		}
		views, _ := judge(r, nil, 0)
		got := views[0].session.KeepUntil
		if (c.want == 0) != got.IsZero() || c.want > 0 && got.Sub(r.now.Truncate(time.Second)) != c.want {
			t.Errorf("%s: kept until %s, now is %s", c.line, got, r.now)
		}
	}
}
