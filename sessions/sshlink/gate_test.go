package sshlink

import (
	"crypto/sha256"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/rdpbroker/rdpbroker/sessions/lockout"
)

func TestHowLongCredentialsAreKeptBack(t *testing.T) {
	old, other := logon{credentials: sha256.Sum256([]byte("old")), password: true}, logon{credentials: sha256.Sum256([]byte("new")), password: true}
	key := logon{credentials: sha256.Sum256([]byte("key"))}
	for _, c := range []struct {
		name     string
		accepted *logon
		tries    []logon
		want     []time.Duration
	}{
		{"a password that was never taken", nil, []logon{old, old}, []time.Duration{lockout.Pause, lockout.Pause}},
		{"one that was taken before", &old, []logon{old, old, old, old, old}, []time.Duration{2 * time.Minute, 4 * time.Minute, 8 * time.Minute, 16 * time.Minute, lockout.Pause}},
		{"another than was taken before", &old, []logon{other}, []time.Duration{lockout.Pause}},
		{"a key", nil, []logon{key, key, key}, []time.Duration{shortPause, shortPause, shortPause}},
	} {
		now := time.Unix(0, 0)
		g := gate{Gate: lockout.New[fingerprint](func() time.Time { return now })}
		if c.accepted != nil {
			g.tried(*c.accepted, nil)
		}
		var got []time.Duration
		for _, l := range c.tries {
			if err := g.Pass(l.credentials); err != nil {
				t.Errorf("%s: not let through: %v", c.name, err)
			}
			refused := &AuthError{Err: errors.New("no")}
			g.tried(l, refused)
			got = append(got, refused.RetryAfter())
			if now = now.Add(refused.RetryAfter() - 1); g.Pass(l.credentials) != error(refused) {
				t.Errorf("%s: let through too early", c.name)
			}
			now = now.Add(1)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}
