package tsts

import (
	"errors"
	"sync"
	"time"
)

const (
	// refusedPause is how long the driver keeps still after a refused logon.
	refusedPause = 30 * time.Minute
	// refreshPause is the least time between two tries that Refresh allows in
	// that pause. Refresh is also called whenever a user's connection ends, and
	// must not turn those into a lockout of the account.
	refreshPause = 5 * time.Minute
)

// gate stands before every logon and keeps a refused password from being
// offered again and again.
type gate struct {
	now func() time.Time

	mu        sync.Mutex
	refused   *AuthError // nil: open
	password  string     // the refused one
	again     bool       // Refresh allowed a try
	allowedAt time.Time  // when it last did
}

// pass returns nil if password may be offered now, else the refusal.
func (g *gate) pass(password string) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.refused == nil, password != g.password, !g.now().Before(g.refused.RetryAt):
		return nil
	case g.again:
		g.again = false
		return nil
	}
	return g.refused
}

// shut closes the gate if err is an *AuthError, which it completes. It returns err.
func (g *gate) shut(err error, password string) error {
	var refused *AuthError
	if !errors.As(err, &refused) {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	refused.RetryAt, refused.now = g.now().Add(refusedPause), g.now
	g.refused, g.password, g.again = refused, password, false
	return err
}

// open forgets a refusal: the host has let us in.
func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.refused, g.password, g.again = nil, "", false
}

// refresh allows one more try, if the last one allowed so is long enough ago.
func (g *gate) refresh() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.refused != nil && (g.allowedAt.IsZero() || g.now().Sub(g.allowedAt) >= refreshPause) {
		g.again, g.allowedAt = true, g.now()
	}
}
