package identity

import (
	"net/netip"
	"testing"

	"github.com/rdpbroker/rdpbroker/sessions"
)

func TestNothingIsRememberedWhereThatIsOff(t *testing.T) {
	client := netip.MustParseAddr("192.0.2.1")
	for _, c := range []struct {
		entries int
		known   bool
	}{{0, true}, {5, true}, {-1, false}} {
		r := NewResolver(Directory{}, Memory{Entries: c.entries})
		r.Learn(sessions.Identity{Client: client}, sessions.Account{User: "alice"})
		if id := r.Resolve(Hint{Client: client}, sessions.NewSnapshot(nil)); id.Known != c.known {
			t.Errorf("with %d entries: %+v", c.entries, id)
		}
	}
}
