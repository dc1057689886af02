// Package lockout keeps refused credentials back: directories lock out an account that
// comes again and again with a wrong password, and the broker comes every few seconds.
package lockout

import (
	"errors"
	"sync"
	"time"
)

const (
	// Pause is how long a refused password is kept back: directories count them.
	Pause = 30 * time.Minute
	// RefreshPause is the least time between two tries that Refresh allows in that
	// pause. Refresh is also called whenever a user's connection ends, and must not
	// turn those into a lockout of the account.
	RefreshPause = 5 * time.Minute
)

// Refusal is for the error that says that a host did not accept credentials: embed it.
type Refusal struct {
	// RetryAt is when they are offered again without anybody asking for it.
	RetryAt time.Time

	now func() time.Time
}

// RetryAfter is how long a caller should leave the host alone from now on.
func (r *Refusal) RetryAfter() time.Duration {
	if r.now == nil {
		return 0
	}
	return max(0, r.RetryAt.Sub(r.now()))
}

func (r *Refusal) refusal() *Refusal { return r }

// refused is an error with a Refusal.
type refused interface {
	error
	refusal() *Refusal
}

// Gate stands before every logon. C is what is offered, or stands for it. Its methods may
// be called at the same time.
type Gate[C comparable] struct {
	now func() time.Time

	mu          sync.Mutex
	refused     refused // nil: open
	credentials C       // that were refused
	again       bool    // Refresh allowed a try
	allowedAt   time.Time
}

// New makes an open gate. now is time.Now but for tests.
func New[C comparable](now func() time.Time) *Gate[C] { return &Gate[C]{now: now} }

// Pass returns nil if c may be offered now, else the error with which it was refused.
func (g *Gate[C]) Pass(c C) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.refused == nil, c != g.credentials, !g.now().Before(g.refused.refusal().RetryAt):
		return nil
	case g.again:
		g.again = false
		return nil
	}
	return g.refused
}

// Shut keeps c back for pause if err has a Refusal, which it completes. Errors of another
// kind change nothing. It returns err.
func (g *Gate[C]) Shut(c C, pause time.Duration, err error) error {
	var no refused
	if !errors.As(err, &no) {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	r := no.refusal()
	r.RetryAt, r.now = g.now().Add(pause), g.now
	g.refused, g.credentials, g.again = no, c, false
	return err
}

// Open forgets a refusal: the host has let us in.
func (g *Gate[C]) Open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	var none C
	g.refused, g.credentials, g.again = nil, none, false
}

// Refresh allows one more try, if the last one so allowed is long enough ago.
func (g *Gate[C]) Refresh() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.refused != nil && (g.allowedAt.IsZero() || g.now().Sub(g.allowedAt) >= RefreshPause) {
		g.again, g.allowedAt = true, g.now()
	}
}
