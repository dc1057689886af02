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
	// passwordPause and keyPause are how long refused credentials are kept back:
	// directories count wrong passwords, and nobody counts wrong keys but against
	// the address that they come from.
	passwordPause = 30 * time.Minute
	keyPause      = 2 * time.Minute
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
	again       bool      // Refresh allowed a try
	allowedAt   time.Time // when it last did
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
		g.refused, g.again = nil, false
	case errors.As(err, &refused):
		pause := keyPause
		if l.password {
			pause = passwordPause
		}
		refused.RetryAt, refused.now = g.now().Add(pause), g.now
		g.refused, g.credentials, g.again = refused, l.credentials, false
	}
	return err
}

// refresh allows one more try, if the last one allowed so is long enough ago.
func (g *gate) refresh() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.refused != nil && (g.allowedAt.IsZero() || g.now().Sub(g.allowedAt) >= refreshPause) {
		g.again, g.allowedAt = true, g.now()
	}
}
