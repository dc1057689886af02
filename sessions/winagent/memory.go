package winagent

import (
	"net/netip"
	"slices"

	"github.com/rdpbroker/rdpbroker/sessions"
)

// memory keeps from which client each session was last used: Windows forgets it
// when the client goes.
type memory map[sessionKey]client

// sessionKey tells one session of a host from all others that it ever has.
type sessionKey struct {
	id          int
	incarnation string
}

type client struct {
	name string
	addr netip.Addr
}

// complete is list with what Windows has forgotten, and what to remember. list
// stays as it is; what it is returned as may be itself.
func (m memory) complete(list []sessions.Session) ([]sessions.Session, memory) {
	next, full := make(memory, len(list)), list
	for i, s := range list {
		if s.Incarnation == "" {
			continue
		}
		k := sessionKey{s.ID, s.Incarnation}
		c := client{s.ClientName, s.ClientAddr}
		if old := m[k]; c == (client{}) && old != c && s.State == sessions.StateDisconnected {
			if &full[0] == &list[0] {
				full = slices.Clone(list) // seldom: a farm's readings are much of a broker's memory
			}
			c = old
			full[i].ClientName, full[i].ClientAddr = c.name, c.addr
		}
		if c != (client{}) {
			next[k] = c
		}
	}
	return full, next
}
