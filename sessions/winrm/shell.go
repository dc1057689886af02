package winrm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"
)

// Bounds of one command's output: a listing of a thousand sessions has 80 kB.
const (
	maxStdout = 1 << 20
	maxStderr = 64 << 10
)

// deleteTimeout bounds the deletion of a shell, which happens also when the
// caller's context has ended. What is not deleted ends by idleTimeout.
const deleteTimeout = 3 * time.Second

// Pace of Receive. A host answers it when there is output, or after
// OperationTimeout; one that answers at once and empty, again and again, must
// not be asked thousands of times a second.
const (
	quickAnswer = 100 * time.Millisecond
	slowDown    = 250 * time.Millisecond
)

// errTimeout is the cause of a command that ran out of its own time.
var errTimeout = errors.New("the command did not end in time")

// output is what a command left behind.
type output struct {
	stdout, stderr string
	exitCode       int
}

// run executes one command line in a shell of its own, within the target's
// timeout. The shell is always deleted: commands in a shell use up a quota that
// not even their end gives back ([MS-WSMV] appendix A, <118>).
func (c *client) run(ctx context.Context, command string) (*output, error) {
	out, err := c.runInShell(ctx, command)
	if err != nil {
		return nil, fmt.Errorf("run %q on %s: %w", command, c.target.addr, err)
	}
	return out, nil
}

func (c *client) runInShell(ctx context.Context, command string) (*output, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, c.target.timeout, errTimeout)
	defer cancel()
	e, err := c.post(ctx, createMessage(c.target.url, nil, c.operation), true)
	if err != nil {
		return nil, fmt.Errorf("open shell: %w", err)
	}
	shell, err := e.shellID()
	if err != nil {
		return nil, fmt.Errorf("open shell: %w", err)
	}
	defer c.deleteShell(ctx, shell)

	e, err = c.post(ctx, commandMessage(c.target.url, shell, command, c.operation), false)
	if err != nil {
		return nil, fmt.Errorf("start command: %w", err)
	}
	id, err := checkID(e.Body.CommandID)
	if err != nil {
		return nil, fmt.Errorf("start command: %w", err)
	}
	out, err := c.receive(ctx, shell, id)
	if err != nil {
		return nil, startedError{err}
	}
	return out, nil
}

// startedError is of a command that the host has started, unlike one that the
// host may never have been told of.
type startedError struct{ error }

func (e startedError) Unwrap() error { return e.error }

// receive collects the output of a command until it has ended.
func (c *client) receive(ctx context.Context, shell, command string) (*output, error) {
	var stdout, stderr bytes.Buffer
	for {
		asked := time.Now()
		e, err := c.post(ctx, receiveMessage(c.target.url, shell, command, c.operation), false)
		var fault *Fault
		switch {
		case errors.As(err, &fault) && fault.Code == FaultTimedOut:
			e = &envelope{} // the command runs and has said nothing
		case err != nil:
			return nil, fmt.Errorf("read output: %w", err)
		case e.Body.Receive == nil:
			return nil, errors.New("read output: the answer has no output and no state")
		}
		before := stdout.Len() + stderr.Len()
		done, code, err := e.output(command, &stdout, &stderr)
		if err != nil {
			return nil, fmt.Errorf("read output: %w", err)
		}
		if done {
			return &output{stdout: stdout.String(), stderr: stderr.String(), exitCode: code}, nil
		}
		if stdout.Len()+stderr.Len() == before && time.Since(asked) < quickAnswer {
			if err := sleep(ctx, slowDown); err != nil {
				return nil, err
			}
		}
	}
}

// output adds what an answer to Receive brought of a command.
func (e *envelope) output(command string, stdout, stderr *bytes.Buffer) (done bool, exitCode int, err error) {
	r := e.Body.Receive
	if r == nil {
		return false, 0, nil
	}
	for _, s := range r.Streams {
		if !strings.EqualFold(s.CommandID, command) {
			continue
		}
		b, err := s.bytes()
		if err != nil {
			return false, 0, err
		}
		switch s.Name {
		case "stdout":
			stdout.Write(b)
		case "stderr":
			stderr.Write(b)
		}
		if stdout.Len() > maxStdout || stderr.Len() > maxStderr {
			return false, 0, errTooLarge
		}
	}
	if !strings.EqualFold(r.State.CommandID, command) || !strings.HasSuffix(r.State.State, "/CommandState/Done") {
		return false, 0, nil
	}
	code, err := strconv.ParseInt(strings.TrimSpace(r.State.ExitCode), 10, 64)
	if err != nil { // an end without an exit code is no success
		return false, 0, fmt.Errorf("the command ended without an exit code (%q)", excerpt(r.State.ExitCode))
	}
	return true, int(code), nil
}

// deleteShell ends a shell, also when ctx has ended.
func (c *client) deleteShell(ctx context.Context, shell string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), deleteTimeout)
	defer cancel()
	if _, err := c.post(ctx, deleteMessage(c.target.url, shell, deleteTimeout), true); err != nil {
		var fault *Fault
		if errors.As(err, &fault) && fault.Code == FaultShellGone {
			return
		}
		c.log.Warn("remote shell not deleted, it will idle out", zap.String("endpoint", c.target.addr),
			zap.Duration("within", idleTimeout), zap.Error(err))
	}
}

// sleep waits for d or until ctx ends, which is an error.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
