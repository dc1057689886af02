package xrdp

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"
)

// Local runs commands on this machine.
type Local struct {
	// Prefix is put before each command, to get to the host or to become root:
	// {"sudo", "-n"}, {"nsenter", "-t", "1234", "-m", "-u", "-p"}. May be empty.
	Prefix []string
}

// Run implements [Runner].
func (l Local) Run(ctx context.Context, stdin string, argv ...string) ([]byte, error) {
	argv = append(append([]string(nil), l.Prefix...), argv...)
	if len(argv) == 0 {
		return nil, errors.New("no command")
	}
	killable, kill := context.WithCancel(ctx)
	defer kill()
	cmd := exec.CommandContext(killable, argv[0], argv[1:]...)
	stdout, stderr := &bounded{limit: maxOutput, full: kill}, &clipped{limit: maxComplaint}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), stdout, stderr
	cmd.WaitDelay = time.Second // what the prefix started may hold the pipes open
	err := cmd.Run()
	switch ctxErr := ctx.Err(); {
	case stdout.over:
		err = errTooMuch
	case ctxErr != nil && err != nil:
		err = ctxErr
	}
	if err != nil {
		return stdout.b, commandError(fmt.Errorf("run %s: %w", argv[0], err), stderr)
	}
	return stdout.b, nil
}
