package daemon

import (
	"strings"

	"github.com/rdpbroker/rdpbroker/broker"
	"github.com/rdpbroker/rdpbroker/broker/admin"
)

// connections are those that are relayed now, the oldest first. The proxy knows bytes
// and no accounts; whose they are, the reservations of st tell.
func (d *Daemon) connections(st broker.Status) []admin.Connection {
	whose := make(map[uint64]int, len(st.Reservations))
	for i := range st.Reservations {
		whose[st.Reservations[i].ID] = i
	}
	out := []admin.Connection{}
	for _, c := range d.proxy.Connections() {
		if c.Host == "" {
			continue
		}
		x := admin.Connection{ID: c.ID, Farm: d.farmOf[c.Listener], Host: c.Host, Client: c.Client.String(), Said: said(c.Said), Since: c.Since}
		if !d.opts.Portable { // where goroutines relay nothing is counted before the end
			x.ToHost, x.ToClient = &c.ToHost, &c.ToClient
		}
		_ = x.Kind.UnmarshalText([]byte(c.Why)) // a kind that is not known is none
		if i, ok := whose[c.Resume]; ok {
			x.Account = st.Reservations[i].Account
		}
		out = append(out, x)
	}
	return out
}

// said is what a client wrote as a name, without what the proxy's log has around it.
func said(words string) string {
	name, isName := strings.CutPrefix(words, `mstshash="`)
	if !isName {
		return words
	}
	return strings.TrimSuffix(name, `"`)
}
