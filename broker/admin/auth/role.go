package auth

import (
	"context"
	"fmt"
	"net/http"
)

// Role says how much somebody may do. Higher roles may do all that lower ones may.
type Role uint8

// The roles. The zero value is nobody.
const (
	// Anybody needs not say who they are: health, metrics, the way to log in.
	Anybody Role = iota
	// Viewer may see everything and change nothing.
	Viewer
	// Helpdesk may also help users: send a message, log off a disconnected session,
	// keep a session from eviction.
	Helpdesk
	// Admin may also change how the broker works: drain hosts, set the eviction
	// mode, reload.
	Admin
)

var roleNames = [...]string{"anybody", "viewer", "helpdesk", "admin"}

func (r Role) String() string {
	if int(r) < len(roleNames) {
		return roleNames[r]
	}
	return fmt.Sprintf("Role(%d)", uint8(r))
}

// ParseRole reads viewer, helpdesk or admin.
func ParseRole(s string) (Role, error) {
	for i, n := range roleNames {
		if n == s && Role(i) != Anybody {
			return Role(i), nil
		}
	}
	return Anybody, fmt.Errorf("%q is not a role: viewer, helpdesk or admin", s)
}

// Roles are all roles, the least first.
func Roles() []Role { return []Role{Anybody, Viewer, Helpdesk, Admin} }

// Person is who asks. The zero value is nobody.
type Person struct {
	// Name stands in the audit.
	Name string `json:"name"`
	Role Role   `json:"-"`
	// Via is how they are known: socket (the Unix socket; Name is a user of this
	// machine), link (made through that), password, token (of a machine), header
	// (a trusted proxy says so).
	Via string `json:"via"`
	// csrf is what a browser of theirs must send along to change anything; "" if the
	// way that they are known by is none that a foreign page could use.
	csrf string
}

// CSRF is what a page must send in HeaderCSRF along with whatever changes
// something; "" where that is not needed.
func (p Person) CSRF() string { return p.csrf }

// Route is one address of the admin surface.
type Route struct {
	// Pattern is method and path as http.ServeMux takes them: "GET /api/v1/hosts".
	Pattern string
	// Role is the least role that may use it.
	Role Role
	// LocalOnly routes are answered through the Unix socket only.
	LocalOnly bool
	// Streams: the answer goes on for as long as the client stays.
	Streams bool
	Handler http.HandlerFunc
}

// By is how the audit names p: who, and how that is known.
func (p Person) By() string { return p.Name + " (" + p.Via + ")" }

type personKey struct{}

// PersonOf is who asks, as Guard found out; the zero value before that.
func PersonOf(ctx context.Context) Person {
	p, _ := ctx.Value(personKey{}).(Person)
	return p
}

// WithPerson is ctx of a request by p.
func WithPerson(ctx context.Context, p Person) context.Context {
	return context.WithValue(ctx, personKey{}, p)
}
