package admin

import (
	"slices"
	"time"

	"github.com/rdpbroker/rdpbroker/broker/audit"
	"github.com/rdpbroker/rdpbroker/sessions"
)

// Overview is the answer of /api/v1/status: the broker in a few numbers.
type Overview struct {
	Now       time.Time `json:"now"`
	Version   string    `json:"version"`
	StartedAt time.Time `json:"started_at"`
	// Ready is "" if users can be placed, else why not.
	NotReady string `json:"not_ready,omitempty"`
	// Farms are sorted by name.
	Farms       []FarmOverview `json:"farms"`
	Connections int            `json:"connections"`
}

// FarmOverview is one farm in numbers.
type FarmOverview struct {
	Name string `json:"name"`
	// Eviction is the mode in force: off, shadow or evict.
	Eviction string `json:"eviction"`
	// Configured is what broker.yaml says, where an operator has overruled it.
	Configured string `json:"eviction_configured,omitempty"`
	Hosts      int    `json:"hosts"`
	// Troubled are the hosts that are not up.
	Troubled int `json:"hosts_troubled"`
	Slots    int `json:"slots"`
	Used     int `json:"used"`
	Free     int `json:"free"`
	// Disconnected are the sessions of users that are disconnected.
	Disconnected int `json:"disconnected"`
	Waiting      int `json:"waiting"`
}

// Connections is the answer of /api/v1/connections.
type Connections struct {
	Now         time.Time    `json:"now"`
	Connections []Connection `json:"connections"`
}

// WaitingList is the answer of /api/v1/waiting.
type WaitingList struct {
	Now time.Time `json:"now"`
	// Waiting are sorted by farm, the longest first.
	Waiting []Waiting `json:"waiting"`
}

// Decisions is the answer of /api/v1/decisions.
type Decisions struct {
	Now time.Time `json:"now"`
	// Last is the number of the newest event, to go on from with /api/v1/events.
	Last uint64 `json:"last"`
	// Records are what was decided and done, the newest first.
	Records []audit.Record `json:"records"`
}

// Overview is what /api/v1/status tells of s. A farm's hosts are counted once
// there is a Snapshot.
func (s *Status) Overview() Overview {
	out := Overview{Now: s.Now, Version: s.Version, StartedAt: s.StartedAt, Farms: []FarmOverview{}, Connections: len(s.Connections)}
	at := map[string]int{}
	for _, f := range s.Farms {
		at[f.Name] = len(out.Farms)
		out.Farms = append(out.Farms, FarmOverview{Name: f.Name, Eviction: f.Mode, Configured: f.Configured})
	}
	for _, w := range s.Waiting {
		if i, ok := at[w.Farm]; ok {
			out.Farms[i].Waiting++
		}
	}
	if s.Snapshot == nil {
		return out
	}
	for _, h := range s.HostList().Hosts {
		i, ok := at[h.Farm]
		if !ok { // its farm is gone, and it will be
			continue
		}
		f := &out.Farms[i]
		f.Hosts++
		if h.State != HostUp {
			f.Troubled++
		}
		f.Slots += h.Limit
		f.Used += h.Used
		f.Free += h.Free
		f.Disconnected += h.Disconnected
	}
	return out
}

// ConnectionList is what /api/v1/connections tells of s: those to the named host,
// or all where it is "".
func (s *Status) ConnectionList(host string) Connections {
	out := Connections{Now: s.Now, Connections: []Connection{}}
	for _, c := range s.Connections {
		if host == "" || c.Host == host {
			out.Connections = append(out.Connections, c)
		}
	}
	return out
}

// WaitingList is what /api/v1/waiting tells of s.
func (s *Status) WaitingList() WaitingList {
	out := WaitingList{Now: s.Now, Waiting: append([]Waiting{}, s.Waiting...)}
	slices.SortStableFunc(out.Waiting, func(a, b Waiting) int {
		if c := compareTexts(a.Farm, b.Farm); c != 0 {
			return c
		}
		return a.Since.Compare(b.Since)
	})
	return out
}

// Find is the session with this ID on host as it was last read. If key is not "",
// it must be this session's. The error is *NotFoundError or *ConflictError.
func (s *Status) Find(host string, id int, key string) (sessions.Ref, sessions.Session, error) {
	missing := func(what string) error { return &NotFoundError{What: what} }
	if s.Snapshot == nil {
		return sessions.Ref{}, sessions.Session{}, missing("a reading of any host")
	}
	h := s.Snapshot.Host(host)
	if h == nil {
		return sessions.Ref{}, sessions.Session{}, missing("a host of the name " + host)
	}
	if h.Report != nil {
		for _, x := range h.Report.Sessions {
			if x.ID != id || !x.HasUser() {
				continue
			}
			ref := sessions.RefOf(host, x)
			if key != "" && key != KeyOf(ref) {
				return ref, x, &ConflictError{Why: "session " + ref.String() + " is another one by now, of " + x.Account.String() + "; look again"}
			}
			return ref, x, nil
		}
	}
	return sessions.Ref{}, sessions.Session{}, missing("session " + sessions.Ref{Host: host, ID: id}.String())
}
