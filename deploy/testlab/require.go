package testlab

import (
	"context"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// Require ends the test unless every tool is in PATH: as failed where the
// environment has CI=true, as skipped elsewhere. Under -short it skips the test,
// because what needs tools is slow. A tool may be written as alternatives,
// "xfreerdp|xfreerdp3".
func Require(t testing.TB, tools ...string) {
	t.Helper()
	if testing.Short() {
		t.Skip("-short: no real peers")
	}
	for _, tool := range tools {
		if _, err := lookPath(tool); err != nil {
			missing(t, "%s is not installed", tool)
		}
	}
}

// RequireNamespaces ends the test, by the rule of [Require], unless this
// process may make the namespaces that an xrdp host lives in: as a rule, it is root.
func RequireNamespaces(t testing.TB) {
	t.Helper()
	Require(t, "unshare", "nsenter", "mount", "true")
	if os.Geteuid() != 0 {
		missing(t, "xrdp hosts need root")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, "unshare", append(namespaces(), "true")...).CombinedOutput()
	if err != nil {
		missing(t, "no namespaces here: %v: %s", err, strings.TrimSpace(string(out)))
	}
}

func missing(t testing.TB, format string, args ...any) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("required under CI=true: "+format, args...)
	}
	t.Skipf(format, args...)
}

// lookPath finds the first of the alternatives a|b|c.
func lookPath(tool string) (path string, err error) {
	for name := range strings.SplitSeq(tool, "|") {
		if path, err = exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", err
}
