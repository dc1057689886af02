package e2e

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/pem"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"sync"
	"syscall"
	"testing"
	"time"
)

// binaries is the folder of the programs under test, made once.
var binaries string

func TestMain(m *testing.M) {
	flag.Parse()
	if testing.Short() {
		fmt.Println("SKIP: the tests against real peers take minutes; run them without -short")
		os.Exit(0)
	}
	code := func() int {
		dir, err := os.MkdirTemp("", "rdpbroker-e2e-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		binaries = dir
		return m.Run()
	}()
	os.Exit(code)
}

var building sync.Mutex

// program builds one of the commands, the first time that it is asked for.
func program(t *testing.T, name string) string {
	t.Helper()
	building.Lock()
	defer building.Unlock()
	path := filepath.Join(binaries, name)
	if _, err := os.Stat(path); err == nil {
		return path
	}
	if out, err := exec.Command("go", "build", "-o", path, "../cmd/"+name).CombinedOutput(); err != nil {
		t.Fatalf("building %s: %v\n%s", name, err, out)
	}
	return path
}

// running is a program under test.
type running struct {
	t    *testing.T
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
	err  error         // how

	mu  sync.Mutex
	out bytes.Buffer
}

// Write collects what the program prints.
func (r *running) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.out.Write(p)
}

func (r *running) output() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.out.String()
}

// start runs a program in the background; it is killed when the test ends.
func start(t *testing.T, name string, args ...string) *running {
	t.Helper()
	return startCommand(t, exec.Command(program(t, name), args...))
}

// startCommand is start for a command that is made already.
func startCommand(t *testing.T, cmd *exec.Cmd) *running {
	t.Helper()
	r := &running{t: t, cmd: cmd, done: make(chan struct{})}
	r.cmd.Stdout, r.cmd.Stderr = r, r
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		r.err = r.cmd.Wait()
		close(r.done)
	}()
	t.Cleanup(func() {
		r.cmd.Process.Kill()
		<-r.done
		if t.Failed() {
			t.Logf("%s printed:\n%s", cmd.Path, r.output())
		}
	})
	return r
}

// waitPrinted waits until the output matches, and returns the submatches.
func (r *running) waitPrinted(ctx context.Context, pattern string) []string {
	r.t.Helper()
	re := regexp.MustCompile(pattern)
	for {
		if m := re.FindStringSubmatch(r.output()); m != nil {
			return m
		}
		select {
		case <-ctx.Done():
			r.t.Fatalf("it never printed %q; it printed:\n%s", pattern, r.output())
		case <-r.done:
			if re.MatchString(r.output()) {
				continue
			}
			r.t.Fatalf("it ended (%v) without printing %q; it printed:\n%s", r.err, pattern, r.output())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// end sends the signal and waits for the end; the error is how it ended.
func (r *running) end(ctx context.Context, s syscall.Signal) error {
	r.t.Helper()
	if err := r.cmd.Process.Signal(s); err != nil {
		r.t.Fatal(err)
	}
	select {
	case <-r.done:
	case <-ctx.Done():
		r.t.Fatalf("it does not end; it printed:\n%s", r.output())
	}
	return r.err
}

// call runs a program to its end and returns what it printed and its exit code.
func call(t *testing.T, name string, args ...string) (output string, code int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, program(t, name), args...)
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		t.Fatalf("%s: %v", name, err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

// certificatePEM is the certificate of a server's TLS settings.
func certificatePEM(c *tls.Config) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Certificates[0].Certificate[0]}))
}
