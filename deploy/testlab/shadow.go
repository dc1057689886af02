package testlab

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// ShadowAccount is one account that may log on to a [Shadow].
type ShadowAccount struct {
	// Domain is "" for any.
	Domain, User, Password string
}

// ShadowOptions describe a host with NLA.
type ShadowOptions struct {
	// Accounts may log on; there is no other.
	Accounts []ShadowAccount
	// IP is "" for an address that no other host has; Port is 0 for 3389.
	IP   string
	Port int
	// Security is the only one offered, "nla" or "tls"; "" means "nla".
	Security string
}

// Shadow is a running FreeRDP shadow server: a real host with NLA whose one
// desktop shows HOST and its name in big letters on green (#227744).
type Shadow struct {
	// Addr is where it speaks RDP.
	Addr string
	// Display is the desktop that it shows to its clients.
	Display *Display

	proc *process
}

// StartShadow starts a FreeRDP shadow server and waits until it listens. It
// ends with the test.
func StartShadow(t testing.TB, name string, o ShadowOptions) *Shadow {
	t.Helper()
	const program = "freerdp-shadow-cli|freerdp-shadow-cli3"
	Require(t, program, "winpr-hash|winpr-hash3", "xterm", "xsetroot", "setpriv")
	lease, err := takeLease()
	if err != nil {
		t.Fatalf("shadow server %s: %v", name, err)
	}
	t.Cleanup(lease.release)
	if o.IP == "" {
		o.IP = lease.ip()
	}
	if o.Port == 0 {
		o.Port = 3389
	}
	if o.Security == "" {
		o.Security = "nla"
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	dir := t.TempDir()
	sam := filepath.Join(dir, "sam")
	if err := writeSAM(ctx, sam, o.Accounts); err != nil {
		t.Fatalf("shadow server %s: %v", name, err)
	}
	s := &Shadow{Addr: net.JoinHostPort(o.IP, strconv.Itoa(o.Port)), Display: StartDisplay(t)}
	env := []string{s.Display.Env(), "HOME=" + dir}
	// Drawn again and again: the server sends a new client only what changes.
	const draw = `while :; do printf '\033[2J\033[HHOST %s\n%s' "$0" "$(date +%T)"; sleep 0.5; done`
	startProcess(t, processOptions{env: env}, "xterm", "-fa", "DejaVu Sans Mono", "-fs", "28",
		"-geometry", "20x4+40+40", "-e", "sh", "-c", draw, name)
	if out, err := exec.CommandContext(ctx, "xsetroot", "-display", s.Display.Name(), "-solid", "#227744").CombinedOutput(); err != nil {
		t.Fatalf("shadow server %s: xsetroot: %v: %s", name, err, out)
	}
	path, _ := lookPath(program)
	s.proc = startProcess(t, processOptions{env: env}, path, "/bind-address:"+o.IP, fmt.Sprintf("/port:%d", o.Port),
		"/sec:"+o.Security, "/sam-file:"+sam)
	if err := reach(ctx, s.Addr); err != nil {
		t.Fatalf("shadow server %s: %v\n%s", name, err, s.Output())
	}
	return s
}

// Output is what the server has printed so far.
func (s *Shadow) Output() string { return s.proc.output() }

// Stop ends the server with its connections; its display stays until the test ends.
func (s *Shadow) Stop() { s.proc.kill() }

// writeSAM writes the accounts as WinPR's NTLM reads them, one
// user:domain:LMHASH:NTHASH::: a line.
func writeSAM(ctx context.Context, path string, accounts []ShadowAccount) error {
	var b strings.Builder
	for _, a := range accounts {
		program, err := lookPath("winpr-hash|winpr-hash3")
		if err != nil {
			return err
		}
		hash, err := exec.CommandContext(ctx, program, "-u", a.User, "-p", a.Password).Output()
		if err != nil {
			return fmt.Errorf("winpr-hash: %w", err)
		}
		fmt.Fprintf(&b, "%s:%s::%s:::\n", a.User, a.Domain, strings.TrimSpace(string(hash)))
	}
	return os.WriteFile(path, []byte(b.String()), 0o600)
}
