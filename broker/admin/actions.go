package admin

import (
	"context"
	"slices"
	"time"

	"github.com/rdpbroker/rdpbroker/sessions"
)

// Actions are what operators may have done. Each is done for by, a person's or a
// machine's name, and is audited by whoever provides it. One that is nil cannot be
// done here. The errors are *NotFoundError, *ConflictError, or others, whose text
// is for operators.
type Actions struct {
	// Drain lets a host take no new sessions (on), or takes that back.
	Drain func(ctx context.Context, by, host string, on bool) error
	// Message shows a text to the user of a session.
	Message func(ctx context.Context, by string, ref sessions.Ref, title, text string) error
	// Logoff logs off a session that is disconnected, by compare-and-evict.
	Logoff func(ctx context.Context, by string, ref sessions.Ref) error
	// Keep keeps a session from eviction until then; Unkeep takes that back.
	Keep   func(ctx context.Context, by string, ref sessions.Ref, until time.Time) error
	Unkeep func(ctx context.Context, by string, ref sessions.Ref) error
	// SetEviction overrules the eviction mode of all farms: off, shadow or evict; ""
	// goes back to what the configuration says.
	SetEviction func(ctx context.Context, by, mode string) error
	// Reload reads the configuration anew and takes it into use; with dryRun it only
	// tells what would change.
	Reload func(ctx context.Context, by string, dryRun bool) (Changes, error)
}

// Done is the answer of an action.
type Done struct {
	// Done is what was done, a sentence for people.
	Done string `json:"done"`
	// Failed are what could not be done beside it, a sentence each.
	Failed []string `json:"failed,omitempty"`
}

// Link is the answer of /api/v1/link.
type Link struct {
	URL string `json:"url"`
}

// Me is the answer of /api/v1/me.
type Me struct {
	Name string `json:"name"`
	Role string `json:"role"`
	Via  string `json:"via"`
}

// ConflictError says that something is not as it must be for an action: the
// session is active, say, or is another one by now.
type ConflictError struct{ Why string }

func (e *ConflictError) Error() string { return e.Why }

// Changes are what a new configuration changes.
type Changes struct {
	// Applied: the new configuration is in use.
	Applied bool `json:"applied"`
	// Changes are sentences for people, the gravest first; empty if nothing changes.
	Changes []Change `json:"changes"`
	// Slots is how many slots more there are, negative if less, as far as
	// both are known.
	Slots int `json:"slots"`
}

// Loses reports whether users lose something by it.
func (c Changes) Loses() bool {
	return slices.ContainsFunc(c.Changes, func(x Change) bool { return x.Kind == ChangeLost })
}

// Change is one difference between two configurations.
type Change struct {
	// Kind is restart (a key that only a restart brings into effect), lost (users
	// lose something by it), changed, gained, or warning.
	Kind string `json:"kind"`
	// What is a sentence for people.
	What string `json:"what"`
}

// The kinds of Change.
const (
	ChangeRestart = "restart"
	ChangeLost    = "lost"
	Changed       = "changed"
	ChangeGained  = "gained"
	ChangeWarning = "warning"
)
