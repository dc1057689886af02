package xrdp

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"
	"golang.org/x/crypto/ssh"

	"github.com/rdpbroker/rdpbroker/sessions/sshlink"
)

// SSHConfig says how commands get to a host over ssh.
type SSHConfig struct {
	// Link is the way there. No User means root.
	Link sshlink.Config
	// Prefix is put before each command, to become root: {"sudo", "-n"}. May be empty.
	Prefix []string
}

// SSH runs commands on a host over one ssh connection, which it makes when it is
// first needed, keeps, and makes again when it has broken. Commands run side by
// side in sessions of their own. Close ends the connection.
type SSH struct {
	link   *sshlink.Link
	prefix []string
}

// NewSSH makes a runner. It reads the files that cfg names, so as to find
// mistakes early; it connects to nothing yet. log may be nil.
func NewSSH(cfg SSHConfig, log *zap.Logger) (*SSH, error) {
	cfg.Link.User = cmp.Or(cfg.Link.User, "root")
	link, err := sshlink.New(cfg.Link, log)
	if err != nil {
		return nil, err
	}
	return &SSH{link: link, prefix: slices.Clone(cfg.Prefix)}, nil
}

// Close ends the connection and with it all running commands. Closing twice is harmless.
func (s *SSH) Close() error { return s.link.Close() }

// Refresh allows refused credentials to be offered once more, see [sshlink.Link.Refresh].
func (s *SSH) Refresh() { s.link.Refresh() }

// Run implements [Runner].
func (s *SSH) Run(ctx context.Context, stdin string, argv ...string) ([]byte, error) {
	sess, err := s.link.Session(ctx)
	if err != nil {
		return nil, err
	}
	out, err := runSession(ctx, sess, stdin, commandLine(slices.Concat(s.prefix, argv)))
	if err != nil {
		err = fmt.Errorf("ssh to %s: %w", s.link.Addr(), err)
	}
	return out, err
}

// errBroken: something went wrong that is not the command's business. Its
// connection is of no use any more.
var errBroken = errors.New("the connection has broken")

// runSession runs one command in a session of its own, and closes it.
func runSession(ctx context.Context, sess *sshlink.Session, stdin, command string) ([]byte, error) {
	defer sess.Close()
	stdout, stderr := &bounded{limit: maxOutput}, &clipped{limit: maxComplaint}
	stdout.full = func() { sess.Close() }
	sess.Stdin, sess.Stdout, sess.Stderr = strings.NewReader(stdin), stdout, stderr
	done := make(chan error, 1) // the buffers are the session's until it has ended
	go func() { done <- sess.Run(command) }()
	var err error
	select {
	case err = <-done:
	case <-ctx.Done():
		sess.Close()
		select {
		case <-done:
			err = ctx.Err()
		case <-time.After(time.Second):
			sess.Drop()
			return nil, fmt.Errorf("%w: %w", errBroken, ctx.Err())
		}
	}
	var exit *ssh.ExitError
	switch {
	case stdout.over:
		err = errTooMuch
	case err == nil, ctx.Err() != nil, errors.As(err, &exit):
	default:
		sess.Drop()
		err = fmt.Errorf("%w: %w", errBroken, err)
	}
	if err != nil {
		err = commandError(err, stderr)
	}
	return stdout.b, err
}

// commandLine is argv as one line for the host's shell, which sshd hands it to.
// Each argument is quoted whole, so that none can become anything but data.
func commandLine(argv []string) string {
	quoted := make([]string, len(argv))
	for i, a := range argv {
		quoted[i] = "'" + strings.ReplaceAll(a, "'", `'\''`) + "'"
	}
	return strings.Join(quoted, " ")
}
