// Package agenttest runs the agent for Windows hosts where there is no Windows:
// compiled by Mono's compiler as PowerShell's Add-Type would, and run against a
// library that stands in for wtsapi32.dll (wtsapi32.c) and shows what a test wants.
package agenttest

import (
	"crypto/sha256"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
)

// Require skips a test whose programs are missing, but fails it in continuous
// integration, where they must be there.
func Require(t testing.TB, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			if os.Getenv("CI") == "true" {
				t.Fatalf("%v (deploy/install-test-peers.sh installs it)", err)
			}
			t.Skip(err)
		}
	}
}

// Host is a Windows host made of files. Its sessions and settings are changed by
// Set only. New makes one.
type Host struct {
	// Sessions are rows without their IDs, by ID; see wtsapi32.c and Row. Lines
	// after the first are rows of processes.
	Sessions map[int]string
	// Settings are "own", "console", "admin", "noevents", "fail"; see wtsapi32.c.
	Settings map[string]string

	t        testing.TB
	mu       sync.Mutex
	bin      string // directory of the compiled agent
	path     string // of the file that the stand-in reads
	registry string // directory
}

// New makes a host with the services session, a console that nobody is at, and
// the RDP listener, seen by an administrator. It compiles the agent, if nobody
// has before, and needs mcs, mono and gcc.
func New(t testing.TB) *Host {
	t.Helper()
	Require(t, "mcs", "mono", "gcc")
	bin, err := build()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	h := &Host{
		Sessions: map[int]string{0: "4|Services", 1: "1|Console", 65536: "6|RDP-Tcp"},
		Settings: map[string]string{"own": "0", "console": "1", "admin": "1"},
		t:        t, bin: bin, path: filepath.Join(dir, "host"), registry: filepath.Join(dir, "registry"),
	}
	h.write()
	return h
}

// build compiles the agent (C# 5, warnings are errors) and the stand-in, into a
// directory named by what they are made of, so that the next test finds them.
var build = sync.OnceValues(func() (string, error) {
	_, here, _, _ := runtime.Caller(0)
	here = filepath.Dir(here)
	program, stub := filepath.Join(here, "testdata", "program.cs"), filepath.Join(here, "testdata", "wtsapi32.c")
	class, err := source(filepath.Join(here, ".."))
	if err != nil {
		return "", err
	}
	sum := sha256.New()
	sum.Write(class)
	sum.Write([]byte(tool("gcc")))
	for _, f := range []string{program, stub} {
		b, err := os.ReadFile(f)
		if err != nil {
			return "", err
		}
		sum.Write(b)
	}
	dir := filepath.Join(os.TempDir(), fmt.Sprintf("rdpbroker-agenttest-%d-%x", os.Getuid(), sum.Sum(nil)[:8]))
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	work, err := os.MkdirTemp("", "agenttest")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(work)
	one := filepath.Join(work, "agent.cs")
	if err := os.WriteFile(one, class, 0o600); err != nil {
		return "", err
	}
	for _, args := range [][]string{
		{"mcs", "-langversion:5", "-warn:4", "-warnaserror", "-out:" + filepath.Join(work, "agent.exe"), one, program},
		{tool("gcc"), "-Wall", "-Werror", "-shared", "-fPIC", "-o", filepath.Join(work, "stub.so"), stub, "-lpthread"},
	} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			return "", fmt.Errorf("%s: %w\n%s", strings.Join(args, " "), err, out)
		}
	}
	config := "<configuration>"
	for _, dll := range []string{"wtsapi32", "kernel32", "shell32", "advapi32"} {
		config += fmt.Sprintf(`<dllmap dll="%s.dll" target="%s"/>`, dll, filepath.Join(dir, "stub.so"))
	}
	if err := os.WriteFile(filepath.Join(work, "agent.exe.config"), []byte(config+"</configuration>"), 0o600); err != nil {
		return "", err
	}
	if err := os.Rename(work, dir); err != nil {
		if _, there := os.Stat(dir); there != nil { // another test has been faster
			return "", err
		}
	}
	return dir, nil
})

// tool is mono or gcc, those of 32 bits if RDPBROKER_MONO32 says where they are
// (deploy/mono32.sh).
func tool(name string) string {
	if dir := os.Getenv("RDPBROKER_MONO32"); dir != "" {
		return filepath.Join(dir, "bin", name)
	}
	return name
}

// source is the agent's class as it is sent: its files in one text, the one with the
// using directives first.
func source(dir string) ([]byte, error) {
	parts, err := filepath.Glob(filepath.Join(dir, "agent*.cs"))
	if err != nil {
		return nil, err
	}
	var all []byte
	for _, f := range parts { // agent.cs comes before agent_act.cs in any order of names
		b, err := os.ReadFile(f)
		if err != nil {
			return nil, err
		}
		all = append(all, b...)
	}
	return all, nil
}

// Command runs what bootstrap.ps1 runs: it takes the line with the class, ignores
// it, and is the agent; or takes it from the variable, if there is one in
// Cmd.Environ.
func (h *Host) Command() *exec.Cmd {
	cmd := exec.Command(tool("mono"), filepath.Join(h.bin, "agent.exe"))
	cmd.Env = append(os.Environ(), "WTS_STUB="+h.path, "MONO_REGISTRY_PATH="+h.registry)
	return cmd
}

// Row is a session of CONTOSO: its state as WTS_CONNECTSTATE_CLASS, its times as
// FILETIMEs, options as wtsapi32.c has them.
func Row(state int, user string, logon, disconnect int64, options string) string {
	return fmt.Sprintf("%d||%s|CONTOSO|%d|%d|%d|%d||||%s", state, user, logon, logon, disconnect, logon, options)
}

// Set changes Sessions and Settings in one step.
func (h *Host) Set(change func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	change()
	h.write()
}

func (h *Host) write() {
	var b strings.Builder
	for name, value := range h.Settings {
		fmt.Fprintf(&b, "%s|%s\n", name, value)
	}
	for _, id := range slices.Sorted(maps.Keys(h.Sessions)) {
		fmt.Fprintf(&b, "S|%d|%s\n", id, h.Sessions[id])
	}
	if err := os.WriteFile(h.path+".new", []byte(b.String()), 0o600); err != nil {
		h.t.Error(err)
		return
	}
	if err := os.Rename(h.path+".new", h.path); err != nil {
		h.t.Error(err)
	}
}

// Logoffs is what has been done to sessions so far: "ID WAIT" for
// WTSLogoffSession, "disconnect ID WAIT", "message ID STYLE SECONDS WAIT TITLE: TEXT".
func (h *Host) Logoffs() []string {
	b, err := os.ReadFile(h.path + ".log")
	if err != nil {
		return nil // there was none
	}
	return strings.Split(strings.TrimSpace(string(b)), "\n")
}

// Registry puts a value into the host's registry, below HKEY_LOCAL_MACHINE. kind
// is "int" or "string".
func (h *Host) Registry(key, name, kind, value string) {
	h.t.Helper()
	dir := filepath.Join(append([]string{h.registry, "LocalMachine"}, strings.Split(strings.ToLower(key), `\`)...)...)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		h.t.Fatal(err)
	}
	path := filepath.Join(dir, "values.xml")
	old, _ := os.ReadFile(path) // none at first
	inner := strings.TrimSuffix(strings.TrimPrefix(string(old), "<values>\n"), "</values>")
	text := fmt.Sprintf("<values>\n%s<value name=\"%s\"\ntype=\"%s\">%s</value>\n</values>", inner, name, kind, value)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		h.t.Fatal(err)
	}
}
