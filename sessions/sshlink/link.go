package sshlink

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"
	"golang.org/x/crypto/ssh"

	"github.com/rdpbroker/rdpbroker/sessions/lockout"
)

// Link is the way to one host. Its methods may be called at the same time.
type Link struct {
	cfg  Config
	log  *zap.Logger
	gate gate

	turn chan struct{} // holds one token: who may make the kept connection

	mu     sync.Mutex
	kept   *Conn // nil: none
	closed bool
}

// New makes a link. It reads the files that cfg names, so as to find mistakes
// early, and again whenever it connects; it connects to nothing yet. log may be nil.
func New(cfg Config, log *zap.Logger) (*Link, error) {
	cfg = cfg.withDefaults()
	if log == nil {
		log = zap.NewNop()
	}
	if _, err := cfg.logon(); err != nil {
		return nil, fmt.Errorf("ssh to %s: %w", cfg.Addr, err)
	}
	return &Link{cfg: cfg, log: log, gate: gate{Gate: lockout.New[fingerprint](time.Now)}, turn: make(chan struct{}, 1)}, nil
}

// Addr is host:port of the host.
func (l *Link) Addr() string { return l.cfg.Addr }

// ErrClosed is what a closed link answers.
var ErrClosed = errors.New("the ssh link is closed")

// Close ends the kept connection, and with it all sessions on it. Closing twice is
// harmless.
func (l *Link) Close() error {
	l.mu.Lock()
	l.closed = true
	c := l.kept
	l.kept = nil
	l.mu.Unlock()
	if c != nil {
		c.Close()
	}
	return nil
}

// Refresh allows refused credentials to be offered once more before
// AuthError.RetryAt, but not within five minutes of the last time so allowed.
func (l *Link) Refresh() { l.gate.Refresh() }

// Connect makes a connection, which the caller closes. An *AuthError says that the
// host did not accept the credentials, now or when they were last offered.
func (l *Link) Connect(ctx context.Context) (*Conn, error) {
	c, err := l.connect(ctx)
	if err != nil {
		return nil, fmt.Errorf("ssh to %s: %w", l.cfg.Addr, err)
	}
	return c, nil
}

func (l *Link) connect(ctx context.Context) (*Conn, error) {
	lo, err := l.cfg.logon()
	if err != nil {
		return nil, err
	}
	if err := l.gate.Pass(lo.credentials); err != nil {
		return nil, err
	}
	c, err := dial(ctx, l.cfg, lo.conf)
	if l.gate.tried(lo, err) != nil {
		return nil, err
	}
	l.log.Debug("ssh connected", zap.String("addr", l.cfg.Addr))
	return c, nil
}

// Session is a session on a link's kept connection.
type Session struct {
	*ssh.Session
	link *Link
	conn *Conn
}

// Drop closes the connection that the session is on. To be called when the host
// does not do with the session what it ought to: the next one gets a new connection.
func (s *Session) Drop() { s.link.drop(s.conn) }

// Session opens a session on the kept connection, which is made if there is none or
// if it has broken. The caller closes the session.
func (l *Link) Session(ctx context.Context) (*Session, error) {
	for {
		c, fresh, err := l.connection(ctx)
		if err != nil {
			return nil, fmt.Errorf("ssh to %s: %w", l.cfg.Addr, err)
		}
		sess, err := c.Session(ctx)
		if err == nil {
			return &Session{Session: sess, link: l, conn: c}, nil
		}
		l.drop(c)
		if fresh || ctx.Err() != nil {
			return nil, fmt.Errorf("ssh to %s: %w", l.cfg.Addr, err)
		}
		// The kept connection had broken.
	}
}

// connection is the kept connection, or a fresh one.
func (l *Link) connection(ctx context.Context) (c *Conn, fresh bool, err error) {
	select {
	case l.turn <- struct{}{}:
		defer func() { <-l.turn }()
	case <-ctx.Done():
		return nil, false, ctx.Err()
	}
	l.mu.Lock()
	c, closed := l.kept, l.closed
	l.mu.Unlock()
	switch {
	case closed:
		return nil, false, ErrClosed
	case c != nil && c.Alive():
		return c, false, nil
	case c != nil:
		l.drop(c)
	}
	if c, err = l.connect(ctx); err != nil {
		return nil, false, err
	}
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		c.Close()
		return nil, false, ErrClosed
	}
	l.kept = c
	l.mu.Unlock()
	return c, true, nil
}

// drop closes a connection that is of no use any more.
func (l *Link) drop(c *Conn) {
	l.mu.Lock()
	if l.kept == c {
		l.kept = nil
	}
	l.mu.Unlock()
	c.Close()
}
