package auth

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"sync"
	"time"
)

// maxLogins bounds how many are logged in at the same time, and maxLinks how many
// links wait to be opened; beyond that the oldest are forgotten.
const (
	maxLogins = 2000
	maxLinks  = 100
)

// secretKey is what a secret is kept by: whoever reads the memory's map does not
// have the secrets.
type secretKey [sha256.Size]byte

func keyOf(secret string) secretKey { return sha256.Sum256([]byte(secret)) }

// newSecret is 256 random bits as text.
func newSecret() string {
	b := make([]byte, 32)
	if _, err := rand.Read(b); err != nil {
		panic(err) // never: see crypto/rand
	}
	return base64.RawURLEncoding.EncodeToString(b)
}

// login is one browser that is logged in, or may become so by a link.
type login struct {
	person Person    // Role counts for those of a link only; else the file says it
	made   time.Time // when
	used   time.Time // when it was last used
}

// logins are the browsers that are logged in. They live in memory: after a
// restart everybody logs in again.
type logins struct {
	idle, life time.Duration
	most       int

	mu sync.Mutex
	by map[secretKey]*login
}

func newLogins(idle, life time.Duration, most int) *logins {
	return &logins{idle: idle, life: life, most: most, by: map[secretKey]*login{}}
}

// add returns the secret that stands for p from now on.
func (l *logins) add(p Person, now time.Time) string {
	secret := newSecret()
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.by) >= l.most {
		l.makeRoom(now)
	}
	l.by[keyOf(secret)] = &login{person: p, made: now, used: now}
	return secret
}

// makeRoom drops what is over, and else what was used longest ago.
func (l *logins) makeRoom(now time.Time) {
	var oldest secretKey
	var at time.Time
	for k, x := range l.by {
		if l.over(x, now) {
			delete(l.by, k)
		} else if at.IsZero() || x.used.Before(at) {
			oldest, at = k, x.used
		}
	}
	if len(l.by) >= l.most {
		delete(l.by, oldest)
	}
}

func (l *logins) over(x *login, now time.Time) bool {
	return now.Sub(x.made) >= l.life || now.Sub(x.used) >= l.idle
}

// get is whom secret stands for.
func (l *logins) get(secret string, now time.Time) (Person, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	x, ok := l.by[keyOf(secret)]
	if !ok {
		return Person{}, false
	}
	if l.over(x, now) {
		delete(l.by, keyOf(secret))
		return Person{}, false
	}
	x.used = now
	return x.person, true
}

// remove ends what secret stands for, and returns who that was.
func (l *logins) remove(secret string, now time.Time) (Person, bool) {
	p, ok := l.get(secret, now)
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.by, keyOf(secret))
	return p, ok
}
