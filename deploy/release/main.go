// Command release builds everything that a release of rdpbroker consists of, into
// one folder: archives for Linux and Windows, Debian packages, what is in them
// (CycloneDX), and SHA256SUMS. It is a module of its own, so that what packs the
// program does not stand among what the program is made of.
//
// Two runs on the same commit give the same bytes: nothing in them depends on the
// time, the folder, or the machine, as long as the Go version is the same.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// target is one platform that is built for.
type target struct{ os, arch string }

func (t target) String() string { return t.os + "/" + t.arch }

// exe is what the name of a program ends with.
func (t target) exe() string {
	if t.os == "windows" {
		return ".exe"
	}
	return ""
}

const allTargets = "linux/amd64,linux/arm64,windows/amd64,windows/arm64"

// release is one run.
type release struct {
	root    string // of the project
	out     string
	version string    // "1.2.3" or "0.0.0~git20261127.b598daa", without a "v"
	at      time.Time // of the commit; the time of every file
	work    string    // for what is only needed on the way
	made    []string  // names of files in out, in the order of making
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

func run(args []string) (err error) {
	flags := flag.NewFlagSet("release", flag.ContinueOnError)
	root := flags.String("root", ".", "the project's `folder`")
	out := flags.String("out", "dist", "the `folder` to build into; what is in it is removed")
	targets := flags.String("targets", allTargets, "`platforms` to build for, separated by commas")
	if err := flags.Parse(args); err != nil {
		return err
	}
	ts, err := parseTargets(*targets)
	if err != nil {
		return err
	}
	r, err := newRelease(*root, *out)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(r.work)) }()
	fmt.Printf("rdpbroker %s, as of %s\n", r.version, r.at.UTC().Format(time.RFC3339))
	man, err := r.manual()
	if err != nil {
		return err
	}
	for _, t := range ts {
		fmt.Printf("  %s\n", t)
		if err := r.build(t, man); err != nil {
			return fmt.Errorf("%s: %w", t, err)
		}
	}
	return r.checksums()
}

func parseTargets(s string) ([]target, error) {
	var ts []target
	for _, part := range strings.Split(s, ",") {
		os, arch, ok := strings.Cut(strings.TrimSpace(part), "/")
		if !ok || os == "" || arch == "" {
			return nil, fmt.Errorf("%q is no platform such as linux/amd64", part)
		}
		ts = append(ts, target{os, arch})
	}
	return ts, nil
}

// build makes everything for one platform.
func (r *release) build(t target, man []file) error {
	broker, err := r.compile(t, "rdpbroker")
	if err != nil {
		return err
	}
	probe, err := r.compile(t, "rdpprobe")
	if err != nil {
		return err
	}
	if err := r.sbom(t, broker, "rdpbroker", "Apache-2.0"); err != nil {
		return err
	}
	if err := r.sbom(t, probe, "rdpprobe", "GPL-3.0-only"); err != nil {
		return err
	}
	if err := r.archive(t, "rdpbroker", append(r.contents(t, broker), man...)); err != nil {
		return err
	}
	if err := r.archive(t, "rdpprobe", []file{
		{name: "rdpprobe" + t.exe(), from: probe, mode: 0o755},
		{name: "LICENSE", from: r.source("rdpproxy/probe/LICENSE"), mode: 0o644},
		{name: "COPYING", from: r.source("rdpproxy/probe/COPYING"), mode: 0o644},
	}); err != nil {
		return err
	}
	if t.os != "linux" {
		return nil
	}
	return r.deb(t, broker, man)
}

// contents are the files of the archive for t, beside the manual.
func (r *release) contents(t target, broker string) []file {
	fs := []file{
		{name: "rdpbroker" + t.exe(), from: broker, mode: 0o755},
		{name: "broker.yaml", from: r.source("broker.yaml"), mode: 0o644},
		{name: "README.md", from: r.source("README.md"), mode: 0o644},
		{name: "LICENSE", from: r.source("LICENSE"), mode: 0o644},
		{name: "prepare-host.ps1", from: r.source("deploy/windows/prepare-host.ps1"), mode: 0o644},
	}
	if t.os == "linux" {
		fs = append(fs,
			file{name: "rdpbroker.service", from: r.source("deploy/systemd/rdpbroker.service"), mode: 0o644},
			file{name: "rdpbroker.openrc", from: r.source("deploy/openrc/rdpbroker"), mode: 0o755},
		)
	}
	return fs
}

func (r *release) source(name string) string { return filepath.Join(r.root, filepath.FromSlash(name)) }
