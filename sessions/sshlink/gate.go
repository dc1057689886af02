package sshlink

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/rdpbroker/rdpbroker/sessions/lockout"
)

// AuthError says that the host did not accept the credentials. They are offered
// no more until RetryAt, unless they have changed or Refresh was called: hosts
// lock out who comes too often with wrong ones.
type AuthError struct {
	// Addr is host:port.
	Addr, User string
	Err        error
	lockout.Refusal
}

func (e *AuthError) Error() string {
	return fmt.Sprintf("user %s was not let in: %v", e.User, e.Err)
}

func (e *AuthError) Unwrap() error { return e.Err }

// shortPause is how long refused keys are kept back, which lock nobody out, and
// at first passwords that this host has taken before: it may be starting.
const shortPause = 2 * time.Minute

// gate keeps refused credentials back, and knows which ones for how long.
type gate struct {
	*lockout.Gate[fingerprint]

	mu       sync.Mutex
	refused  fingerprint // the last ones that were
	times    int         // in a row that they were refused
	accepted fingerprint // the newest that were not
}

// fingerprint stands for credentials.
type fingerprint = [sha256.Size]byte

// tried learns what came of a logon, and completes an *AuthError. It returns err.
func (g *gate) tried(l logon, err error) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	var refused *AuthError
	switch {
	case err == nil:
		g.times, g.accepted = 0, l.credentials
		g.Open()
	case errors.As(err, &refused):
		if l.credentials != g.refused {
			g.times = 0
		}
		_ = g.Shut(l.credentials, g.pause(l), err)
		g.refused = l.credentials
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
		return lockout.Pause
	}
	return min(shortPause<<min(g.times, 8), lockout.Pause)
}
