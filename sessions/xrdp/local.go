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
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	stdout, stderr := &bounded{limit: maxOutput}, &clipped{limit: maxComplaint}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), stdout, stderr
	cmd.WaitDelay = time.Second // what the prefix started may hold the pipes open
	err := cmd.Run()
	switch ctxErr := ctx.Err(); {
	case stdout.over: // upon which the command broke its pipe
		err = errTooMuch
	case ctxErr != nil && err != nil:
		err = ctxErr
	}
	if err != nil {
		return stdout.Bytes(), commandError(fmt.Errorf("run %s: %w", argv[0], err), stderr)
	}
	return stdout.Bytes(), nil
}
