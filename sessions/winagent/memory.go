package winagent

import (
	"net/netip"

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

// complete fills in what Windows has forgotten and returns what to remember.
func (m memory) complete(list []sessions.Session) memory {
	next := make(memory, len(list))
	for i := range list {
		s := &list[i]
		if s.Incarnation == "" {
			continue
		}
		k := sessionKey{s.ID, s.Incarnation}
		if s.ClientName == "" && !s.ClientAddr.IsValid() && s.State == sessions.StateDisconnected {
			s.ClientName, s.ClientAddr = m[k].name, m[k].addr
		}
		if c := (client{s.ClientName, s.ClientAddr}); c != (client{}) {
			next[k] = c
		}
	}
	return next
}
