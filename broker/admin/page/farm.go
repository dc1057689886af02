package page

import (
	"encoding/json"
	"slices"

	"github.com/rdpbroker/rdpbroker/broker/admin"
	"github.com/rdpbroker/rdpbroker/sessions"
)

// inlineSessions is up to how many sessions all are shown at once; in a larger farm
// those of a host are shown when it is opened.
const inlineSessions = 200

// farm is the farm as it was rendered last.
type farm struct {
	version          string
	farms            []string // their names
	summary, waiting string   // HTML
	order            []string
	rows             map[string]*row
}

// row is one host.
type row struct {
	seen  quick
	since map[string]int64 // of sessions, by key, so that they do not tremble
	html  string
}

// quick is what a row depends on, to be compared without a look at the sessions.
type quick struct {
	report   *sessions.Report
	state    string
	problem  string
	draining bool
	used     int
	reserved int
	orders   string // who is leaving or kept there
	inline   bool
}

// change is what is sent to the pages.
type change struct {
	// Rows are the hosts that have changed, by name; Order is the names of all of
	// them, if that has changed.
	Rows  map[string]string `json:"rows,omitempty"`
	Order []string          `json:"order,omitempty"`
	// Summary and Waiting are there if they have changed.
	Summary   string   `json:"summary,omitempty"`
	Waiting   string   `json:"waiting,omitempty"`
	Decisions []string `json:"decisions,omitempty"`
	// Lost is how many decisions are not among them because there were too many.
	Lost int `json:"lost,omitempty"`
}

func (c *change) empty() bool {
	return len(c.Rows) == 0 && c.Order == nil && c.Summary == "" && c.Waiting == "" && len(c.Decisions) == 0 && c.Lost == 0
}

func (c *change) json() []byte {
	b, err := json.Marshal(c)
	if err != nil { // texts and numbers always can
		return []byte("{}")
	}
	return b
}

// update renders what has changed, and returns it.
func (f *farm) update(p *Page, st admin.Status) (c change) {
	f.version, f.farms = st.Version, nil
	for _, x := range st.Farms {
		f.farms = append(f.farms, x.Name)
	}
	overview := st.Overview()
	if err := p.state.Ready(); err != nil {
		overview.NotReady = err.Error()
	}
	if s := p.render("summary", overview); s != f.summary {
		f.summary, c.Summary = s, s
	}
	if s := p.render("waiting", viewWaiting(st.WaitingList())); s != f.waiting {
		f.waiting, c.Waiting = s, s
	}
	if st.Snapshot == nil {
		return c
	}
	hosts := st.HostList()
	total := 0
	for i := range hosts.Hosts {
		total += hosts.Hosts[i].Active + hosts.Hosts[i].Disconnected
	}
	orders := ordersByHost(&st)
	rows, order := make(map[string]*row, len(hosts.Hosts)), make([]string, 0, len(hosts.Hosts))
	for i := range hosts.Hosts {
		h := &hosts.Hosts[i]
		now := quick{
			report: st.Snapshot.Host(h.Name).Report, state: h.State, problem: h.Problem, draining: h.Draining,
			used: h.Used, reserved: h.Reserved, orders: orders[h.Name], inline: total <= inlineSessions,
		}
		order = append(order, h.Name)
		old := f.rows[h.Name]
		if old != nil && old.seen == now {
			rows[h.Name] = old
			continue
		}
		made := &row{seen: now}
		if old != nil {
			made.since = old.since
		}
		list, err := st.SessionList(admin.Filter{Host: h.Name})
		if err != nil { // it is in the same picture
			continue
		}
		made.html = p.render("host", made.view(h, list, now.inline))
		rows[h.Name] = made
		if old == nil || old.html != made.html {
			if c.Rows == nil {
				c.Rows = map[string]string{}
			}
			c.Rows[h.Name] = made.html
		}
	}
	if !slices.Equal(order, f.order) {
		c.Order = order
	}
	f.rows, f.order = rows, order
	return c
}

// ordersByHost is, as a text to compare, who is leaving and who is kept on each host.
func ordersByHost(st *admin.Status) map[string]string {
	out := map[string]string{}
	for _, ref := range st.Leaving {
		out[ref.Host] += "leaving " + admin.KeyOf(ref) + ";"
	}
	for _, ref := range st.Stuck {
		out[ref.Host] += "stuck " + admin.KeyOf(ref) + ";"
	}
	for _, k := range st.Kept {
		out[k.Session.Host] += "kept " + admin.KeyOf(k.Session) + k.Until.String() + ";"
	}
	return out
}
