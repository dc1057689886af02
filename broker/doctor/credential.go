package doctor

import (
	"context"
	"sync"
)

// credentials remember which accounts were let in. Directories lock an account
// after a few wrong passwords, and a farm with one typing error would be a few
// wrong passwords: so as long as nobody knows whether a password is right, one
// host at a time is asked, and after a refusal none.
type credentials struct {
	mu sync.Mutex
	by map[string]*credential
}

type credential struct {
	turn chan struct{} // holds one token: who tries

	// Guarded by turn.
	accepted  bool
	refusedBy string // a host's name
}

func (c *credentials) get(key string) *credential {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.by == nil {
		c.by = map[string]*credential{}
	}
	if c.by[key] == nil {
		c.by[key] = &credential{turn: make(chan struct{}, 1)}
	}
	return c.by[key]
}

// verdict is what a host said of an account.
type verdict uint8

const (
	unsaid   verdict = iota // it was not asked, or did not answer
	accepted                // it let the account in
	refused                 // it did not
)

// try calls logon, which says what the host made of the account. It returns the
// name of another host that has refused the account before; logon was not called then.
func (c *credential) try(ctx context.Context, host string, logon func() verdict) (refusedBy string, err error) {
	select {
	case c.turn <- struct{}{}:
	case <-ctx.Done():
		return "", ctx.Err()
	}
	if c.accepted {
		<-c.turn // side by side from now on
		logon()
		return "", nil
	}
	defer func() { <-c.turn }()
	if c.refusedBy != "" {
		return c.refusedBy, nil
	}
	switch logon() {
	case accepted:
		c.accepted = true
	case refused:
		c.refusedBy = host
	}
	return "", nil
}
