package auth

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/rdpbroker/rdpbroker/broker/admin"
)

// HeaderCSRF is the header in which a page sends Person.CSRF back.
const HeaderCSRF = "Rdpbroker-Csrf"

// LoginPath is where browsers are sent that are not logged in.
const LoginPath = "/login"

// Defaults of Config.
const (
	DefaultIdle = 2 * time.Hour
	DefaultLife = 12 * time.Hour
)

// linkLife is how long a link can be opened.
const linkLife = 5 * time.Minute

// Config says how people are known. The zero value knows those at the Unix socket
// only.
type Config struct {
	// People are persons with passwords and machines with tokens; nil: none.
	People *File
	// Header is the name of a header in which a proxy in front says who asks; "" for
	// none. It counts from HeaderFrom only, and for persons that are in People only.
	Header     string
	HeaderFrom []netip.Prefix
	// Idle is how long a browser stays logged in without a request, Life how long in
	// any case. 0: DefaultIdle and DefaultLife.
	Idle, Life time.Duration
	// Secure: browsers come over TLS only.
	Secure bool
	// Log is told of logins; nil means nothing is.
	Log *zap.Logger
}

// Guard finds out who asks, and lets nobody past who may not. Its methods may be
// called from anywhere.
type Guard struct {
	cfg    Config
	log    *zap.Logger
	key    [32]byte // of the CSRF tokens
	logins *logins
	links  *logins
	tries  *tries
	checks chan struct{}
	cross  *http.CrossOriginProtection
}

// New makes a Guard. It starts nothing.
func New(c Config) *Guard {
	if c.Log == nil {
		c.Log = zap.NewNop()
	}
	if c.Idle == 0 {
		c.Idle = DefaultIdle
	}
	if c.Life == 0 {
		c.Life = DefaultLife
	}
	return &Guard{
		cfg: c, log: c.Log, key: sha256.Sum256([]byte(newSecret())),
		logins: newLogins(c.Idle, c.Life, maxLogins), links: newLogins(linkLife, linkLife, maxLinks),
		tries: newTries(), checks: make(chan struct{}, checksAtOnce), cross: http.NewCrossOriginProtection(),
	}
}

// Handler serves routes, each to those only that it is for. Local is the handler
// for the Unix socket; where it is false, routes that are LocalOnly do not exist.
func (g *Guard) Handler(routes []Route, local bool) http.Handler {
	mux := http.NewServeMux()
	allowed := map[string][]string{} // methods by path
	for _, r := range routes {
		if r.LocalOnly && !local {
			continue
		}
		method, path, _ := strings.Cut(r.Pattern, " ")
		allowed[path] = append(allowed[path], method)
		mux.Handle(r.Pattern, g.guarded(r))
	}
	for path, methods := range allowed {
		if path == "/" || path == "/{$}" {
			continue
		}
		mux.HandleFunc(path, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Allow", strings.Join(methods, ", "))
			admin.WriteProblem(w, http.StatusMethodNotAllowed, "here only "+strings.Join(methods, " and ")+" is answered")
		})
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		admin.WriteProblem(w, http.StatusNotFound, "there is nothing at "+admin.Clean(r.URL.Path, 128))
	})
	return g.headers(mux)
}

// headers sets what every answer carries.
func (g *Guard) headers(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Cache-Control", "no-store")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; manifest-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Referrer-Policy", "same-origin")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=(), payment=(), usb=()")
		if g.cfg.Secure {
			h.Set("Strict-Transport-Security", "max-age=31536000")
		}
		next.ServeHTTP(w, r)
	})
}

func (g *Guard) guarded(rt Route) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p := g.person(r)
		if p.Role < rt.Role {
			g.refuse(w, r, p, rt)
			return
		}
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			if err := g.sameOrigin(r, p, rt); err != nil {
				admin.WriteProblem(w, http.StatusForbidden, err.Error())
				return
			}
		}
		rt.Handler(w, r.WithContext(WithPerson(r.Context(), p)))
	})
}

// refuse tells who may not what to do about it.
func (g *Guard) refuse(w http.ResponseWriter, r *http.Request, p Person, rt Route) {
	switch {
	case p.Role != Anybody:
		admin.WriteProblem(w, http.StatusForbidden, fmt.Sprintf("this asks for the role %s; %s has the role %s", rt.Role, p.Name, p.Role))
	case r.Method == http.MethodGet && strings.Contains(r.Header.Get("Accept"), "text/html"):
		http.Redirect(w, r, LoginPath, http.StatusSeeOther)
	default:
		w.Header().Set("WWW-Authenticate", `Bearer realm="rdpbroker"`)
		admin.WriteProblem(w, http.StatusUnauthorized, fmt.Sprintf("this asks for the role %s: log in, or send a token", rt.Role))
	}
}

// sameOrigin is nil if a request that changes something does not come from a
// foreign page in the browser of somebody who is logged in.
func (g *Guard) sameOrigin(r *http.Request, p Person, rt Route) error {
	if err := g.cross.Check(r); err != nil {
		return fmt.Errorf("this request comes from another page than the broker's own")
	}
	if rt.Role == Anybody || p.csrf == "" {
		return nil
	}
	got := r.Header.Get(HeaderCSRF)
	if subtle.ConstantTimeCompare([]byte(got), []byte(p.csrf)) != 1 {
		return fmt.Errorf("the page is older than this login: load it again")
	}
	return nil
}

// person is who asks.
func (g *Guard) person(r *http.Request) Person {
	if p, ok := r.Context().Value(peerKey{}).(peer); ok {
		return Person{Name: p.name, Role: Admin, Via: "socket"}
	}
	people := g.people()
	if token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok {
		if e, ok := people.machine(token, time.Now()); ok {
			return Person{Name: e.Name, Role: e.Role, Via: "token"}
		}
		return Person{} // whoever says who they are is not somebody else as well
	}
	if name := r.Header.Get(g.cfg.Header); g.cfg.Header != "" && name != "" && g.fromProxy(r) {
		if e, ok := people.person(name); ok {
			return Person{Name: e.Name, Role: e.Role, Via: "header", csrf: g.csrf("header", e.Name)}
		}
		return Person{}
	}
	c, err := r.Cookie(g.cookieName())
	if err != nil {
		return Person{}
	}
	p, ok := g.logins.get(c.Value, time.Now())
	if !ok {
		return Person{}
	}
	if p.Via == "password" {
		e, there := people.person(p.Name)
		if !there || !e.HasPassword() {
			return Person{}
		}
		p.Role = e.Role
	}
	p.csrf = g.csrf("cookie", c.Value)
	return p
}

func (g *Guard) people() *People {
	if g.cfg.People == nil {
		return &People{}
	}
	return g.cfg.People.People()
}

func (g *Guard) csrf(kind, secret string) string {
	m := hmac.New(sha256.New, g.key[:])
	fmt.Fprintf(m, "%s\x00%s", kind, secret)
	return hex.EncodeToString(m.Sum(nil))
}

// fromProxy reports whether r comes from a proxy whose word counts.
func (g *Guard) fromProxy(r *http.Request) bool {
	from := remote(r)
	for _, n := range g.cfg.HeaderFrom {
		if n.Contains(from) {
			return true
		}
	}
	return false
}

// remote is the address that r comes from, zero for the Unix socket.
func remote(r *http.Request) netip.Addr {
	ap, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return ap.Addr().Unmap()
}
