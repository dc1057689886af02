package testlab

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// maxOutput is how much of a program's output is handed out, in bytes from its end.
const maxOutput = 256 << 10

// processOptions are what a program gets besides its arguments.
type processOptions struct {
	env   []string // added to the environment
	stdin string   // its standard input, when pipe is nil
	pipe  *os.File // its standard input
	extra *os.File // its file descriptor 3
}

// process is one program that belongs to a test. Its output goes to a file, so
// that a child that outlives it can hold nobody up.
type process struct {
	cmd  *exec.Cmd
	log  string
	done chan struct{} // closed when the program has ended
	err  error         // how it ended; read after done
	stop sync.Once
}

// startProcess starts argv. The program is killed when the test ends, or this
// process dies; the caller may end it earlier.
func startProcess(t testing.TB, o processOptions, argv ...string) *process {
	t.Helper()
	p := &process{log: filepath.Join(t.TempDir(), "output"), done: make(chan struct{})}
	out, err := os.Create(p.log)
	if err != nil {
		t.Fatalf("output of %s: %v", argv[0], err)
	}
	defer out.Close()
	p.cmd = exec.Command("setpriv", append([]string{"--pdeathsig", "KILL", "--"}, argv...)...)
	p.cmd.Env = append(os.Environ(), o.env...)
	p.cmd.Stdout, p.cmd.Stderr = out, out
	switch {
	case o.pipe != nil:
		p.cmd.Stdin = o.pipe
	case o.stdin != "":
		p.cmd.Stdin = strings.NewReader(o.stdin)
	}
	if o.extra != nil {
		p.cmd.ExtraFiles = []*os.File{o.extra}
	}
	p.cmd.WaitDelay = time.Second
	if err := p.cmd.Start(); err != nil {
		t.Fatalf("start %s: %v", argv[0], err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	t.Cleanup(p.kill)
	return p
}

// kill ends the program at once and waits until it is gone.
func (p *process) kill() {
	p.stop.Do(func() { p.cmd.Process.Kill() })
	<-p.done
}

// terminate asks the program to end, and kills it after grace.
func (p *process) terminate(grace time.Duration) {
	p.cmd.Process.Signal(syscall.SIGTERM)
	p.awaitEnd(grace)
}

// awaitEnd waits until the program has ended, and kills it after grace.
func (p *process) awaitEnd(grace time.Duration) {
	select {
	case <-p.done:
	case <-time.After(grace):
	}
	p.kill()
}

// wait waits until the program has ended, and tells how; or ctx ends.
func (p *process) wait(ctx context.Context) error {
	select {
	case <-p.done:
		return p.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// output is the end of what the program has written so far, both streams.
func (p *process) output() string { return readTail(p.log) }

// readTail is the last maxOutput bytes of a file, "" if it cannot be read.
func readTail(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	return strings.ToValidUTF8(string(b[max(0, len(b)-maxOutput):]), "?")
}
