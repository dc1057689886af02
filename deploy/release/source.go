package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// newRelease looks at the commit and clears the output folder.
func newRelease(root, out string) (*release, error) {
	root, err := filepath.Abs(root)
	if err != nil {
		return nil, err
	}
	out, err = filepath.Abs(out)
	if err != nil {
		return nil, err
	}
	r := &release{root: root, out: out}
	described, err := r.git("describe", "--tags", "--always", "--long", "--abbrev=10", "--match", "v[0-9]*")
	if err != nil {
		return nil, err
	}
	epoch, err := r.git("log", "-1", "--format=%ct")
	if err != nil {
		return nil, err
	}
	seconds, err := strconv.ParseInt(epoch, 10, 64)
	if err != nil {
		return nil, fmt.Errorf("the commit's time: %w", err)
	}
	r.at = time.Unix(seconds, 0).UTC()
	r.version = version(described, r.at)
	if changed, err := r.git("status", "--porcelain", "--untracked-files=no"); err != nil {
		return nil, err
	} else if changed != "" {
		fmt.Println("warning: there are changes that no commit has; nobody else can build this again")
		r.version += "+dirty"
	}
	if err := clear(out); err != nil {
		return nil, err
	}
	r.work, err = os.MkdirTemp("", "rdpbroker-release-")
	return r, err
}

// marker is in every folder that this program has made. Without it none is emptied.
const marker = ".rdpbroker-release"

func clear(out string) error {
	entries, err := os.ReadDir(out)
	if err == nil && len(entries) > 0 {
		if _, err := os.Stat(filepath.Join(out, marker)); err != nil {
			return fmt.Errorf("%s was not made by this program, so it is not emptied; name another folder", out)
		}
		if err := os.RemoveAll(out); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(out, marker), nil, 0o644)
}

var tagged = regexp.MustCompile(`^v([0-9]+\.[0-9]+\.[0-9]+(?:-[0-9A-Za-z.]+)?)-([0-9]+)-g([0-9a-f]+)$`)

// version is the version of a release as Debian sorts it: "1.2.3" on a tag,
// "1.2.3+5.gabcdef" behind one, "0.0.0~git20261127.abcdef" where there is none.
func version(described string, at time.Time) string {
	m := tagged.FindStringSubmatch(described)
	switch {
	case m == nil:
		return "0.0.0~git" + at.Format("20060102") + "." + described
	case m[2] == "0":
		return m[1]
	}
	return m[1] + "+" + m[2] + ".g" + m[3]
}

func (r *release) git(args ...string) (string, error) {
	cmd := exec.Command("git", append([]string{"-C", r.root}, args...)...)
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("git %s: %w: %s", args[0], err, strings.TrimSpace(complaint.String()))
	}
	return strings.TrimSpace(string(out)), nil
}

// compile builds one program and returns where it is.
func (r *release) compile(t target, program string) (string, error) {
	to := filepath.Join(r.work, t.os+"_"+t.arch, program+t.exe())
	cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false",
		"-ldflags", "-s -w -buildid= -X main.version="+r.version, "-o", to, "./broker/cmd/"+program)
	cmd.Dir = r.root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS="+t.os, "GOARCH="+t.arch, "GOFLAGS=", "GOAMD64=v1", "GOARM64=v8.0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build %s: %w\n%s", program, err, out)
	}
	return to, nil
}

// manual is what the program says of itself as manual pages.
func (r *release) manual() ([]file, error) {
	dir := filepath.Join(r.work, "man")
	cmd := exec.Command("go", "run", "./broker/cmd/rdpbroker", "man", dir)
	cmd.Dir = r.root
	cmd.Env = append(os.Environ(), "SOURCE_DATE_EPOCH="+strconv.FormatInt(r.at.Unix(), 10))
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("rdpbroker man: %w\n%s", err, out)
	}
	pages, err := filepath.Glob(filepath.Join(dir, "*.[1-8]"))
	if err != nil {
		return nil, err
	}
	if len(pages) == 0 {
		return nil, fmt.Errorf("rdpbroker man wrote no pages into %s", dir)
	}
	var fs []file
	for _, p := range pages {
		fs = append(fs, file{name: "man/" + filepath.Base(p), from: p, mode: 0o644})
	}
	return fs, nil
}
