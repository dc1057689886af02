package testlab

import (
	"context"
	_ "embed"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

//go:embed files/host.sh
var hostScript string

//go:embed files/startwm.sh
var desktopScript string

// Backend is the X server that holds a host's sessions.
type Backend string

// The two backends of xrdp.
const (
	Xvnc Backend = "Xvnc"
	Xorg Backend = "Xorg"
)

// XRDPOptions describe an xrdp host.
type XRDPOptions struct {
	// MaxSessions is sesman's limit; 0 means 2. Negative: no limit is configured.
	MaxSessions int
	// Backend is the X server; "" means Xvnc.
	Backend Backend
	// Port is where the host speaks RDP; 0 means 3389.
	Port int
	// Users are the host's users and their passwords; nil means [DefaultUsers].
	Users map[string]string
	// Background is the colour of the desktops, "#rrggbb"; "" means #336699.
	Background string
}

// DefaultUsers are the users of a host that names none, with their passwords.
// The last one is longer than the nine bytes that mstsc leaves of a name.
func DefaultUsers() map[string]string {
	return map[string]string{
		"rbalice": "pw-alice-1", "rbbob": "pw-bob-1", "rbcarol": "pw-carol-1", "rbdave": "pw-dave-1",
		"rbaccountant1": "pw-accountant-1",
	}
}

// XRDPHost is a running xrdp host: xrdp, sesman and their sessions, alone in
// namespaces of their own, on an address of their own.
type XRDPHost struct {
	// Name is its host name.
	Name string
	// IP and Port are where it speaks RDP; Addr is both.
	IP   string
	Port int
	Addr string
	// SesmanPort is sesman's port on the loopback address.
	SesmanPort int
	// DisplayBase is the number of the first display it hands out.
	DisplayBase int
	// Users are its users with their passwords.
	Users map[string]string
	// Etc, Home and Log are the host's /etc, /home and /var/log as seen from outside.
	Etc, Home, Log string

	proc  *process
	input io.Closer // closing it ends the host
	pid   int       // of its first process, as seen from outside
	lease *lease
	stop  sync.Once
}

// StartXRDP starts an xrdp host and waits until it listens. An ip of "" chooses
// an address that no other host has. The host ends with the test, or by Stop.
func StartXRDP(t testing.TB, name, ip string, opts XRDPOptions) *XRDPHost {
	t.Helper()
	Require(t, "xrdp", "xrdp-sesman", string(opts.backend()), "openbox", "xterm", "xsetroot",
		"bash", "setpriv", "chpasswd", "useradd", "ss", "cp")
	RequireNamespaces(t)
	h, err := startXRDP(t, name, ip, opts)
	if err != nil {
		t.Fatalf("xrdp host %s: %v", name, err)
	}
	return h
}

func (o XRDPOptions) backend() Backend {
	if o.Backend == "" {
		return Xvnc
	}
	return o.Backend
}

// namespaces are the arguments of unshare for an xrdp host.
func namespaces() []string {
	return []string{"--mount", "--uts", "--ipc", "--pid", "--fork", "--kill-child", "--mount-proc"}
}

func startXRDP(t testing.TB, name, ip string, opts XRDPOptions) (*XRDPHost, error) {
	lease, err := takeLease()
	if err != nil {
		return nil, err
	}
	h := &XRDPHost{Name: name, IP: ip, Port: opts.Port, Users: opts.Users, lease: lease,
		SesmanPort: lease.sesmanPort(), DisplayBase: lease.displayBase()}
	t.Cleanup(h.Stop)
	if h.IP == "" {
		h.IP = lease.ip()
	}
	if h.Port == 0 {
		h.Port = 3389
	}
	if h.Users == nil {
		h.Users = DefaultUsers()
	}
	h.Addr = net.JoinHostPort(h.IP, strconv.Itoa(h.Port))
	if err := h.portFree(); err != nil {
		return nil, err
	}
	dir := t.TempDir()
	h.Etc, h.Home, h.Log = filepath.Join(dir, "etc"), filepath.Join(dir, "home"), filepath.Join(dir, "log")
	if err := h.writeFiles(opts); err != nil {
		return nil, err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	h.input = w
	argv := append([]string{"unshare"}, namespaces()...)
	h.proc = startProcess(t, processOptions{pipe: r, env: []string{"PATH=" + hostPath()}}, append(argv, "bash", "-c", hostScript, "bash", name, dir)...)
	t.Cleanup(h.Stop) // once more: before the directories are removed
	if err := h.sendUsers(w); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := h.waitListening(ctx); err != nil {
		return nil, fmt.Errorf("%w\n%s%s%s%s%s", err, h.proc.output(),
			readTail(filepath.Join(h.Log, "sesman.out")), readTail(filepath.Join(h.Log, "xrdp.out")), h.SesmanLog(), h.XRDPLog())
	}
	return h, nil
}

// portFree says no if something else listens where the host shall.
func (h *XRDPHost) portFree() error {
	ln, err := net.Listen("tcp", h.Addr)
	if err != nil {
		return err
	}
	return ln.Close()
}

// writeFiles makes the host's directories: a copy of the machine's /etc with
// xrdp's settings, and room for homes and logs.
func (h *XRDPHost) writeFiles(opts XRDPOptions) error {
	for _, d := range []string{h.Home, h.Log} {
		if err := os.Mkdir(d, 0o755); err != nil {
			return err
		}
	}
	if out, err := exec.Command("cp", "-a", "/etc", h.Etc).CombinedOutput(); err != nil {
		return fmt.Errorf("copy /etc: %w: %s", err, out)
	}
	if other := otherXRDP(); other != "" {
		from, to := filepath.Join(other, "etc/xrdp"), filepath.Join(h.Etc, "xrdp")
		if out, err := exec.Command("cp", "-aT", from, to).CombinedOutput(); err != nil {
			return fmt.Errorf("copy %s: %w: %s", from, err, out)
		}
	}
	return h.writeSettings(opts)
}

// otherXRDP is where another xrdp than the machine's own is installed, to run the
// same tests with it: below it are sbin, and etc/xrdp in place of /etc/xrdp. It
// comes from the environment, TESTLAB_XRDP; "" for the machine's own.
func otherXRDP() string { return os.Getenv("TESTLAB_XRDP") }

// hostPath is the PATH of a host.
func hostPath() string {
	p := os.Getenv("PATH")
	if other := otherXRDP(); other != "" {
		p = filepath.Join(other, "sbin") + ":" + p
	}
	return p
}

func (h *XRDPHost) writeSettings(opts XRDPOptions) error {
	limit := opts.MaxSessions
	switch {
	case limit == 0:
		limit = 2
	case limit < 0:
		limit = 0 // sesman's word for no limit
	}
	sesman := [][3]string{
		{"Globals", "ListenPort", strconv.Itoa(h.SesmanPort)}, // 0.10 has a socket, and takes no notice
		{"Sessions", "MaxSessions", strconv.Itoa(limit)},
		{"Sessions", "X11DisplayOffset", strconv.Itoa(h.DisplayBase)},
		{"Sessions", "MaxDisplayNumber", "9999"}, // 0.10
		{"Logging", "EnableSyslog", "false"},
	}
	xrdp := [][3]string{
		{"Globals", "port", "tcp://" + h.Addr},
		{"Globals", "autorun", string(opts.backend())},
		{"Logging", "EnableSyslog", "false"},
	}
	for file, settings := range map[string][][3]string{"sesman.ini": sesman, "xrdp.ini": xrdp} {
		path := filepath.Join(h.Etc, "xrdp", file)
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		text := string(b)
		for _, s := range settings {
			text = setINI(text, s[0], s[1], s[2])
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			return err
		}
	}
	background := opts.Background
	if background == "" {
		background = "#336699"
	}
	desktop := strings.ReplaceAll(desktopScript, "@BACKGROUND@", background)
	return os.WriteFile(filepath.Join(h.Etc, "xrdp", "startwm.sh"), []byte(desktop), 0o755)
}

// sendUsers tells the host's first process which users to make.
func (h *XRDPHost) sendUsers(w io.Writer) error {
	for _, user := range slices.Sorted(maps.Keys(h.Users)) {
		if _, err := fmt.Fprintf(w, "%s:%s\n", user, h.Users[user]); err != nil {
			return err
		}
	}
	_, err := io.WriteString(w, "\n")
	return err
}

// waitListening waits until xrdp and sesman listen, and finds the first process.
func (h *XRDPHost) waitListening(ctx context.Context) error {
	for {
		if h.pid == 0 {
			h.pid = firstChild(h.proc.cmd.Process.Pid)
		}
		if h.pid != 0 && h.listening(ctx) {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("xrdp does not listen on %s: %w", h.Addr, ctx.Err())
		case <-h.proc.done:
			return fmt.Errorf("the host's first process ended: %v", h.proc.err)
		case <-time.After(30 * time.Millisecond):
		}
	}
}

// listening reports whether xrdp and sesman listen: sesman on a loopback address,
// of which kind it decides itself, or (0.10) on a socket.
func (h *XRDPHost) listening(ctx context.Context) bool {
	out, err := exec.CommandContext(ctx, "ss", "-Hltn").Output()
	listeners := string(out)
	if err != nil || !strings.Contains(listeners, h.Addr+" ") {
		return false
	}
	for _, socket := range []string{"sesman.socket", "sockdir/sesman.socket"} {
		if _, err := os.Stat(fmt.Sprintf("/proc/%d/root/run/xrdp/%s", h.pid, socket)); err == nil {
			return true
		}
	}
	return strings.Contains(listeners, fmt.Sprintf("[::1]:%d ", h.SesmanPort)) ||
		strings.Contains(listeners, fmt.Sprintf("127.0.0.1:%d ", h.SesmanPort))
}

// firstChild is the process ID of a child of pid, 0 if there is none.
func firstChild(pid int) int {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		return 0
	}
	first, _, _ := strings.Cut(string(b), " ")
	child, _ := strconv.Atoi(first)
	return child
}

// Stop ends the host with all its processes, and gives back its address. What
// its sessions had in /tmp and /run goes with its namespaces. Stopping twice is harmless.
func (h *XRDPHost) Stop() {
	h.stop.Do(func() {
		if h.proc != nil {
			h.input.Close() // and unshare ends when the last process has
			h.proc.awaitEnd(5 * time.Second)
		}
		h.lease.release()
	})
}

// Prefix is the start of an argument list that runs a command on the host: what
// a driver for a local command would be given.
func (h *XRDPHost) Prefix() []string {
	return []string{"nsenter", "-t", strconv.Itoa(h.pid), "-m", "-u", "-p"}
}

// Command is a command that runs on the host as root when it is started.
func (h *XRDPHost) Command(ctx context.Context, argv ...string) *exec.Cmd {
	all := append(h.Prefix(), argv...)
	return exec.CommandContext(ctx, all[0], all[1:]...)
}

// Exec runs a command on the host as root, for at most 30 seconds, and returns
// what it printed; an error carries the command's error output.
func (h *XRDPHost) Exec(argv ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	cmd := h.Command(ctx, argv...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return string(out), fmt.Errorf("%s on %s: %w: %s", argv[0], h.Name, err, strings.TrimSpace(stderr.String()))
	}
	return string(out), nil
}

// SesmanLog is the end of the session manager's log.
func (h *XRDPHost) SesmanLog() string { return readTail(filepath.Join(h.Log, "xrdp-sesman.log")) }

// XRDPLog is the end of xrdp's own log.
func (h *XRDPHost) XRDPLog() string { return readTail(filepath.Join(h.Log, "xrdp.log")) }
