package auth

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"go.uber.org/zap"
)

// LoginError says why somebody was not logged in, for themselves to read.
type LoginError struct {
	Why string
	// Wait is how long they cannot try again, 0 if they can.
	Wait time.Duration
}

func (e *LoginError) Error() string { return e.Why }

// checkTimeout is how long a password waits for others to be checked.
const checkTimeout = 5 * time.Second

// Login checks a name and a password, and logs the browser in by a cookie. The
// error is *LoginError.
func (g *Guard) Login(w http.ResponseWriter, r *http.Request, name, password string) error {
	from, now := remote(r), time.Now()
	if wait := g.tries.begin(from, name, now); wait > 0 {
		g.log.Warn("too many wrong passwords at the admin page", zap.Stringer("client", from))
		return &LoginError{Why: fmt.Sprintf("There were too many wrong passwords. Try again in %d minutes.", int(wait/time.Minute)+1), Wait: wait}
	}
	ctx, cancel := context.WithTimeout(r.Context(), checkTimeout)
	defer cancel()
	select {
	case g.checks <- struct{}{}:
	case <-ctx.Done():
		g.tries.right(from, name) // it was none
		return &LoginError{Why: "Too many people log in at this moment. Try again.", Wait: checkTimeout}
	}
	e, there := g.people().person(name)
	h := nobodysHash()
	if there = there && e.HasPassword(); there {
		h = *e.hash
	}
	right := len(password) <= MaxPassword && h.matches(password) && there
	<-g.checks
	if !right {
		g.log.Warn("a login at the admin page failed", zap.Stringer("client", from))
		return &LoginError{Why: "There is nobody with this name and password."}
	}
	g.tries.right(from, name)
	g.log.Info("logged in at the admin page", zap.String("name", e.Name), zap.Stringer("client", from))
	g.admit(w, Person{Name: e.Name, Via: "password"}, now)
	return nil
}

// Link is a secret that logs one browser in as p, once, within a few minutes.
func (g *Guard) Link(p Person) string {
	return g.links.add(Person{Name: p.Name, Role: p.Role, Via: "link"}, time.Now())
}

// Enter logs the browser in that opens a link with this secret. The error is
// *LoginError.
func (g *Guard) Enter(w http.ResponseWriter, r *http.Request, secret string) error {
	from, now := remote(r), time.Now()
	p, ok := g.links.remove(secret, now)
	if !ok {
		g.log.Warn("a link to the admin page that is not good was opened", zap.Stringer("client", from))
		return &LoginError{Why: "This link was used already, or is too old. Make another one with: rdpbroker page"}
	}
	g.log.Info("entered the admin page by a link", zap.String("name", p.Name), zap.Stringer("client", from))
	g.admit(w, p, now)
	return nil
}

// Logout ends the login of the browser that asks.
func (g *Guard) Logout(w http.ResponseWriter, r *http.Request) {
	if c, err := r.Cookie(g.cookieName()); err == nil {
		g.logins.remove(c.Value, time.Now())
	}
	g.setCookie(w, "", -1)
}

func (g *Guard) admit(w http.ResponseWriter, p Person, now time.Time) {
	g.setCookie(w, g.logins.add(p, now), int(g.cfg.Life/time.Second))
}

// cookieName: with the prefix browsers take it from TLS and for this host only.
func (g *Guard) cookieName() string {
	if g.cfg.Secure {
		return "__Host-rdpbroker"
	}
	return "rdpbroker"
}

func (g *Guard) setCookie(w http.ResponseWriter, value string, age int) {
	http.SetCookie(w, &http.Cookie{
		Name: g.cookieName(), Value: value, Path: "/", MaxAge: age,
		HttpOnly: true, Secure: g.cfg.Secure, SameSite: http.SameSiteLaxMode,
	})
}
