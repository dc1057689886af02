package sshlink

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"
	"time"
)

// AuthError says that the host did not accept the credentials. They are offered
// no more until RetryAt, unless they have changed or Refresh was called: hosts
// lock out who comes too often with wrong ones.
type AuthError struct {
	// Addr is host:port.
	Addr, User string
	Err        error
	// RetryAt is when they are offered again.
	RetryAt time.Time

	now func() time.Time
}

func (e *AuthError) Error() string {
	return fmt.Sprintf("user %s was not let in: %v", e.User, e.Err)
}

func (e *AuthError) Unwrap() error { return e.Err }

// RetryAfter is how long a caller should leave the host alone from now on.
func (e *AuthError) RetryAfter() time.Duration {
	if e.now == nil {
		return 0
	}
	return max(0, e.RetryAt.Sub(e.now()))
}

const (
	// shortPause is how long refused keys are kept back, which lock nobody out, and
	// at first passwords that this host has taken before: it may be starting.
	shortPause = 2 * time.Minute
	// longPause is how long other refused passwords are kept back: directories
	// count them.
	longPause = 30 * time.Minute
	// refreshPause is the least time between two tries that Refresh allows in
	// that pause. Refresh is also called whenever a user's connection ends, and
	// must not turn those into a lockout of the account.
	refreshPause = 5 * time.Minute
)

// gate stands before every logon and keeps refused credentials from being offered
// again and again.
type gate struct {
	now func() time.Time

	mu          sync.Mutex
	refused     *AuthError // nil: open
	credentials [sha256.Size]byte
	times       int               // in a row that they were refused
	accepted    [sha256.Size]byte // the newest that were not
	again       bool              // Refresh allowed a try
	allowedAt   time.Time         // when it last did
}

// pass returns nil if the credentials may be offered now, else the refusal.
func (g *gate) pass(l logon) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.refused == nil, l.credentials != g.credentials, !g.now().Before(g.refused.RetryAt):
		return nil
	case g.again:
		g.again = false
		return nil
	}
	return g.refused
}

// tried learns what came of a logon, and completes an *AuthError. It returns err.
func (g *gate) tried(l logon, err error) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	var refused *AuthError
	switch {
	case err == nil:
		g.refused, g.times, g.again, g.accepted = nil, 0, false, l.credentials
	case errors.As(err, &refused):
		if l.credentials != g.credentials {
			g.times = 0
		}
		refused.RetryAt, refused.now = g.now().Add(g.pause(l)), g.now
		g.refused, g.credentials, g.again = refused, l.credentials, false
		g.times++
	}
	return err
}

// pause is how long to keep these credentials back, after they were refused
// g.times before. Needs g.mu.
func (g *gate) pause(l logon) time.Duration {
	switch {
	case !l.password:
		return shortPause
	case l.credentials != g.accepted:
		return longPause
	}
	return min(shortPause<<min(g.times, 8), longPause)
}

// refresh allows one more try, if the last one allowed so is long enough ago.
func (g *gate) refresh() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.refused != nil && (g.allowedAt.IsZero() || g.now().Sub(g.allowedAt) >= refreshPause) {
		g.again, g.allowedAt = true, g.now()
	}
}
