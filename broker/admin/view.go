package admin

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/rdpbroker/rdpbroker/broker/placement"
	"github.com/rdpbroker/rdpbroker/sessions"
)

// Hosts is the answer of /api/v1/hosts.
type Hosts struct {
	// Now is the broker's clock, which all times are to be read against.
	Now time.Time `json:"now"`
	// Hosts are sorted by farm and name.
	Hosts        []Host        `json:"hosts"`
	Reservations []Reservation `json:"reservations"`
	Waiting      []Waiting     `json:"waiting"`
}

// Host is one host with its slots counted.
type Host struct {
	Name string `json:"name"`
	Farm string `json:"farm"`
	Addr string `json:"addr"`
	// State is up, stale (the last reading is too old to place users by), down
	// (it was never read, and Problem says why) or unread (not yet).
	State string `json:"state"`
	// Problem is why it cannot be read now.
	Problem  string `json:"problem,omitempty"`
	Draining bool   `json:"draining,omitempty"`
	// Limit is the number of slots, 0 if that is not known.
	Limit int `json:"limit"`
	// Used are the slots held by sessions and by Reserved; Free those that a user
	// could be placed on now.
	Used     int `json:"used"`
	Reserved int `json:"reserved"`
	Free     int `json:"free"`
	// Active and Disconnected are the sessions of users in that state, whether
	// they hold a slot or not.
	Active       int `json:"active"`
	Disconnected int `json:"disconnected"`
	// CountsDisconnected: disconnected sessions hold slots there. Assumed: nobody
	// has said so.
	CountsDisconnected bool `json:"counts_disconnected"`
	Assumed            bool `json:"counts_disconnected_assumed,omitempty"`
	// LimitSource and CountsSource say where Limit and CountsDisconnected come
	// from, for people: "broker.yaml", or as the host tells it.
	LimitSource  string `json:"limit_source,omitempty"`
	CountsSource string `json:"counts_source,omitempty"`
	// OS is the host's operating system, as far as it was read.
	OS string `json:"os,omitempty"`
	// Warnings are settings of the host that work against the broker.
	Warnings []string `json:"warnings,omitempty"`
	// ReadAt is when the last reading was begun, zero before the first one.
	ReadAt time.Time `json:"read_at,omitzero"`
	// Source is how it was read.
	Source string `json:"source,omitempty"`
	// NoEvict is why nobody is logged off there, "" where somebody may be.
	NoEvict string `json:"no_evict,omitempty"`
}

// The states of a host.
const (
	HostUp     = "up"
	HostStale  = "stale"
	HostDown   = "down"
	HostUnread = "unread"
)

// configured is the source of what the operator wrote.
const configured = "broker.yaml"

// Sessions is the answer of /api/v1/sessions.
type Sessions struct {
	Now time.Time `json:"now"`
	// Sessions are sorted by host and ID.
	Sessions []Session `json:"sessions"`
}

// Session is one session of a user, or one in which somebody is logging on.
type Session struct {
	Host    string           `json:"host"`
	Farm    string           `json:"farm"`
	ID      int              `json:"id"`
	Account sessions.Account `json:"account,omitzero"`
	State   sessions.State   `json:"state"`
	// LoggedOnFor and DisconnectedFor are as far as the host tells; 0 if it does not.
	LoggedOnFor     time.Duration `json:"logged_on_for_ns,omitempty"`
	DisconnectedFor time.Duration `json:"disconnected_for_ns,omitempty"`
	ClientName      string        `json:"client_name,omitempty"`
	ClientAddr      netip.Addr    `json:"client_addr,omitzero"`
	Program         string        `json:"program,omitempty"`
	HoldsSlot       bool          `json:"holds_slot"`
	// Leaving: it was told to log off.
	Leaving bool `json:"leaving,omitempty"`
	// Stuck: it should have been gone long ago; its slot stays taken.
	Stuck bool `json:"stuck,omitempty"`
	// Stale: the host's reading is too old to place users by.
	Stale bool `json:"stale,omitempty"`
	// Key tells this session from another one that gets its ID later: whoever wants
	// something done to it says which one they have seen.
	Key string `json:"key"`
	// Kept says until when, and by whom, it is kept from eviction; nil if it is not.
	Kept *Kept `json:"kept,omitempty"`
}

// KeyOf is the Key of the session that ref names.
func KeyOf(ref sessions.Ref) string {
	text := fmt.Sprintf("%s\x00%d\x00%s\x00%d", ref.Host, ref.ID, ref.Incarnation, ref.LogonAt.UnixNano())
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:8])
}

// HostList is what /api/v1/hosts tells of s, which has a Snapshot.
func (s *Status) HostList() Hosts {
	view := placement.View{Snapshot: s.Snapshot, Now: s.Now, Claims: &placement.Claims{}}
	for i := range s.Reservations {
		view.Claims.Add(s.Reservations[i].claim())
	}
	// Lists are never null in JSON.
	out := Hosts{Now: s.Now, Hosts: []Host{}, Reservations: append([]Reservation{}, s.Reservations...), Waiting: append([]Waiting{}, s.Waiting...)}
	for i := range s.Snapshot.Hosts {
		out.Hosts = append(out.Hosts, viewHost(&s.Snapshot.Hosts[i], view))
	}
	slices.SortStableFunc(out.Hosts, func(a, b Host) int { return compareTexts(a.Farm, b.Farm, a.Name, b.Name) })
	return out
}

func viewHost(h *sessions.HostState, view placement.View) Host {
	counts, known := h.CountsDisconnected()
	out := Host{
		Name: h.Host.Name, Farm: h.Host.Farm, Addr: h.Host.Addr,
		Problem: h.Problem, Draining: h.Draining(),
		Limit: h.Limit(), Used: placement.Used(view, h),
		CountsDisconnected: counts, Assumed: !known,
	}
	holding := 0
	if r := h.Report; r != nil {
		out.ReadAt, out.Source, out.NoEvict = r.ReadAt, r.Source, r.NoEvict
		out.OS, out.Warnings = r.OS, r.Warnings
		out.LimitSource, out.CountsSource = r.LimitSource, r.CountsSource
		for _, x := range r.Sessions {
			if h.Counted(x) {
				holding++
			}
			switch {
			case !x.HasUser():
			case x.State == sessions.StateActive:
				out.Active++
			case x.State == sessions.StateDisconnected:
				out.Disconnected++
			}
		}
	}
	if h.Host.Slots > 0 {
		out.LimitSource = configured
	}
	if h.Host.CountDisconnected != sessions.Unknown {
		out.CountsSource = configured
	}
	out.Reserved = out.Used - holding
	switch {
	case h.Fresh(view.Now):
		out.State = HostUp
	case h.Report != nil:
		out.State = HostStale
	case h.Problem != "":
		out.State = HostDown
	default:
		out.State = HostUnread
	}
	if out.State == HostUp && !out.Draining {
		out.Free = max(0, out.Limit-out.Used)
	}
	return out
}

// Filter chooses sessions. Its zero value chooses all.
type Filter struct {
	// Host is the name of one host, "" for all.
	Host string
	// User is a pattern for the account, with or without its domain; "" for all.
	User string
}

// SessionList is what /api/v1/sessions tells of s, which has a Snapshot. The error is
// *NotFoundError if there is no such host.
func (s *Status) SessionList(f Filter) (Sessions, error) {
	out := Sessions{Now: s.Now, Sessions: []Session{}}
	if f.Host != "" && s.Snapshot.Host(f.Host) == nil {
		return out, &NotFoundError{What: "a host of the name " + f.Host}
	}
	for i := range s.Snapshot.Hosts {
		h := &s.Snapshot.Hosts[i]
		if h.Report == nil || f.Host != "" && f.Host != h.Host.Name {
			continue
		}
		for _, x := range h.Report.Sessions {
			if (x.HasUser() || h.Counted(x)) && f.matches(x.Account) {
				out.Sessions = append(out.Sessions, s.viewSession(h, x))
			}
		}
	}
	slices.SortStableFunc(out.Sessions, func(a, b Session) int {
		if c := compareTexts(a.Host, b.Host); c != 0 {
			return c
		}
		return a.ID - b.ID
	})
	return out, nil
}

func (f *Filter) matches(a sessions.Account) bool {
	return f.User == "" || placement.Glob(f.User, a.String()) || placement.Glob(f.User, a.User)
}

func (s *Status) viewSession(h *sessions.HostState, x sessions.Session) Session {
	ref := sessions.RefOf(h.Host.Name, x)
	out := Session{
		Host: h.Host.Name, Farm: h.Host.Farm, ID: x.ID, Account: x.Account, State: x.State,
		LoggedOnFor: since(h.Report, x.LogonAt, s.Now),
		ClientName:  x.ClientName, ClientAddr: x.ClientAddr, Program: x.Program,
		HoldsSlot: h.Counted(x),
		Leaving:   slices.Contains(s.Leaving, ref),
		Stuck:     slices.Contains(s.Stuck, ref) || x.State == sessions.StateDown,
		Stale:     !h.Fresh(s.Now),
	}
	out.Key = KeyOf(ref)
	if i := slices.IndexFunc(s.Kept, func(k Kept) bool { return k.Session == ref }); i >= 0 {
		out.Kept = &s.Kept[i]
	}
	out.DisconnectedFor, _ = h.Report.DisconnectedFor(x, s.Now)
	return out
}

// since is how long ago at was at now, where at is in the clock of r's host; 0 if
// that is not known.
func since(r *sessions.Report, at, now time.Time) time.Duration {
	if at.IsZero() {
		return 0
	}
	hostNow := r.HostTime
	if hostNow.IsZero() {
		hostNow = r.ReadAt
	}
	return max(0, hostNow.Sub(at)+max(0, now.Sub(r.ReadAt)))
}

// compareTexts compares pairs of texts, the first pair that differs decides.
func compareTexts(pairs ...string) int {
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i] != pairs[i+1] {
			if pairs[i] < pairs[i+1] {
				return -1
			}
			return 1
		}
	}
	return 0
}
