package xrdp

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"
	"golang.org/x/crypto/ssh"
)

// SSHConfig says how a host is reached over ssh.
type SSHConfig struct {
	// Addr is host:port. The port may be left out for 22.
	Addr string
	// User logs on; "" means root.
	User string
	// KeyFile is a private key without a passphrase; PasswordFile a file whose
	// first line is the password. At least one of them; the key is tried first.
	KeyFile, PasswordFile string
	// KnownHosts is a file as ssh(1) keeps it that has the host's key. Required:
	// a host with another key, or that is not in it, is not talked to.
	KnownHosts string
	// Sudo runs commands as root by "sudo -n", for a User who is not root.
	Sudo bool
	// DialTimeout is how long connecting and logging on may take; 0 means 10 s.
	DialTimeout time.Duration
	// KeepAlive is the time between two questions whether the host is still
	// there; it is given up when it does not answer one in that time. 0 means 15 s.
	KeepAlive time.Duration
}

// SSH runs commands on a host over one ssh connection, which it makes when it is
// first needed, keeps, and makes again when it has broken. Commands run side by
// side in sessions of their own. Close ends the connection.
type SSH struct {
	cfg SSHConfig
	log *zap.Logger

	turn chan struct{} // holds one token: who may connect

	mu     sync.Mutex
	conn   *sshConn // nil: none
	closed bool
}

// NewSSH makes a runner. It reads the files that cfg names, so as to find
// mistakes early, and again whenever it connects; it connects to nothing yet.
// log may be nil.
func NewSSH(cfg SSHConfig, log *zap.Logger) (*SSH, error) {
	cfg.User = cmp.Or(cfg.User, "root")
	cfg.DialTimeout = cmp.Or(max(cfg.DialTimeout, 0), 10*time.Second)
	cfg.KeepAlive = cmp.Or(max(cfg.KeepAlive, 0), 15*time.Second)
	if _, _, err := net.SplitHostPort(cfg.Addr); err != nil {
		cfg.Addr = net.JoinHostPort(strings.Trim(cfg.Addr, "[]"), "22")
	}
	if log == nil {
		log = zap.NewNop()
	}
	if _, err := cfg.client(); err != nil {
		return nil, fmt.Errorf("ssh to %s: %w", cfg.Addr, err)
	}
	return &SSH{cfg: cfg, log: log, turn: make(chan struct{}, 1)}, nil
}

// ErrClosed is what a closed SSH answers.
var ErrClosed = errors.New("ssh runner is closed")

// Close ends the connection and with it all running commands. Closing twice is harmless.
func (s *SSH) Close() error {
	s.mu.Lock()
	s.closed = true
	c := s.conn
	s.conn = nil
	s.mu.Unlock()
	if c != nil {
		c.close()
	}
	return nil
}

// Run implements [Runner].
func (s *SSH) Run(ctx context.Context, stdin string, argv ...string) ([]byte, error) {
	if s.cfg.Sudo {
		argv = append([]string{"sudo", "-n", "--"}, argv...)
	}
	for {
		c, fresh, err := s.connect(ctx)
		if err != nil {
			return nil, fmt.Errorf("ssh to %s: %w", s.cfg.Addr, err)
		}
		sess, err := c.session(ctx)
		if err != nil {
			s.drop(c)
			if fresh || ctx.Err() != nil {
				return nil, fmt.Errorf("ssh to %s: %w", s.cfg.Addr, err)
			}
			continue // the kept connection had broken: nothing was run yet
		}
		out, err := runSession(ctx, sess, stdin, commandLine(argv))
		if errors.Is(err, errBroken) {
			s.drop(c)
		}
		if err != nil {
			err = fmt.Errorf("ssh to %s: %w", s.cfg.Addr, err)
		}
		return out, err
	}
}

// connect is the kept connection, or a fresh one.
func (s *SSH) connect(ctx context.Context) (c *sshConn, fresh bool, err error) {
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
	case <-ctx.Done():
		return nil, false, ctx.Err()
	}
	s.mu.Lock()
	c, closed := s.conn, s.closed
	s.mu.Unlock()
	switch {
	case closed:
		return nil, false, ErrClosed
	case c != nil && c.alive():
		return c, false, nil
	case c != nil:
		s.drop(c)
	}
	conf, err := s.cfg.client()
	if err != nil {
		return nil, false, err
	}
	if c, err = dialSSH(ctx, s.cfg, conf); err != nil {
		return nil, false, err
	}
	s.log.Debug("ssh connected", zap.String("addr", s.cfg.Addr))
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		c.close()
		return nil, false, ErrClosed
	}
	s.conn = c
	s.mu.Unlock()
	return c, true, nil
}

// drop closes a connection that is of no use any more.
func (s *SSH) drop(c *sshConn) {
	s.mu.Lock()
	if s.conn == c {
		s.conn = nil
	}
	s.mu.Unlock()
	c.close()
}

// errBroken marks an error after which a connection is of no use.
var errBroken = errors.New("the connection has broken")

// runSession runs one command in a session of its own, and closes it.
func runSession(ctx context.Context, sess *ssh.Session, stdin, command string) ([]byte, error) {
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
			return nil, fmt.Errorf("%w: %w", errBroken, ctx.Err())
		}
	}
	var exit *ssh.ExitError
	switch {
	case stdout.over:
		err = errTooMuch
	case err == nil, ctx.Err() != nil, errors.As(err, &exit):
	default:
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
