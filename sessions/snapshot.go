package sessions

import (
	"maps"
	"slices"
	"strings"
	"time"
)

// HostState is one host in a Snapshot: what is configured and what was last read.
type HostState struct {
	Host Host `json:"host"`
	// Report is the newest reading, nil if there never was one. It is kept when
	// later readings fail: ReadAt tells how old it is.
	Report *Report `json:"report,omitempty"`
	// Problem is why the host cannot be read now; "" when it can.
	Problem string `json:"problem,omitempty"`
	// FreshFor is how long after ReadAt a report may be used for placements.
	FreshFor time.Duration `json:"fresh_for"`
	// Usage is what the disconnected sessions have used lately, by ID, as far as it
	// is known. Read only.
	Usage map[int]Usage `json:"usage,omitempty"`
}

// Fresh reports whether the host's reading is recent enough at now to place
// users by. An old reading is stale, never "empty".
func (h *HostState) Fresh(now time.Time) bool {
	return h.Report != nil && now.Sub(h.Report.ReadAt) <= h.FreshFor
}

// Limit is the number of slots: the configured number, else what the host
// reported, else 0 for "not known", which is no slot at all.
func (h *HostState) Limit() int {
	if h.Host.Slots > 0 {
		return h.Host.Slots
	}
	if h.Report != nil {
		return h.Report.Limit
	}
	return 0
}

// CountsDisconnected tells whether disconnected sessions hold slots, and
// whether that is known (configured or reported) or only assumed. The
// assumption is yes, as the message at the limit has it: believing that a slot
// is free when it is not would send a user into that message.
func (h *HostState) CountsDisconnected() (counts, known bool) {
	if h.Host.CountDisconnected != Unknown {
		return h.Host.CountDisconnected == Yes, true
	}
	if h.Report != nil && h.Report.CountsDisconnected != Unknown {
		return h.Report.CountsDisconnected == Yes, true
	}
	return true, false
}

// Counted reports whether s holds one of the host's slots: somebody is logged
// on or is logging on, and the host counts sessions of this state.
func (h *HostState) Counted(s Session) bool {
	if s.isNamed("services") {
		return false
	}
	switch s.State {
	case StateListen, StateIdle:
		return false
	case StateDisconnected:
		counts, _ := h.CountsDisconnected()
		return counts && s.HasUser()
	case StateDown, StateReset, StateInit:
		return true // on the way up or down: holds its slot until it is gone
	}
	// The console shows as Connected while nobody has logged on at the machine
	// itself; a remote client in that state is somebody about to log on.
	return s.HasUser() || (s.State != StateUnknown && !s.isNamed("console"))
}

// Draining reports whether the host takes no new placements, by the operator's
// word or its own.
func (h *HostState) Draining() bool {
	return h.Host.Draining || (h.Report != nil && h.Report.Draining)
}

// Snapshot is the farm at one moment: every configured host with its newest
// reading. It is immutable and shared by all readers.
type Snapshot struct {
	// Hosts are sorted by name. Read only.
	Hosts []HostState `json:"hosts"`

	idx *index // nil in a Snapshot that was not made here: see index
}

// NewSnapshot makes a Snapshot of hosts, which it copies and sorts by name.
func NewSnapshot(hosts []HostState) *Snapshot {
	s := &Snapshot{Hosts: slices.Clone(hosts)}
	slices.SortStableFunc(s.Hosts, func(a, b HostState) int { return strings.Compare(a.Host.Name, b.Host.Name) })
	s.idx = newIndex(s.Hosts)
	return s
}

// With is s with h in place of the host of that name. It costs little more than
// copying the list of hosts; ok is false if s has no such host, or has it in
// another farm.
func (s *Snapshot) With(h HostState) (next *Snapshot, ok bool) {
	x := s.index()
	i, ok := x.byName[h.Host.Name]
	if !ok || s.Hosts[i].Host.Farm != h.Host.Farm {
		return nil, false
	}
	next = &Snapshot{Hosts: slices.Clone(s.Hosts)}
	next.Hosts[i] = h
	next.idx = x.with(s.Hosts, next.Hosts, i)
	return next, true
}

func (s *Snapshot) index() *index {
	if s.idx == nil { // read from JSON, say: right, and slow
		return newIndex(s.Hosts)
	}
	return s.idx
}

// Position is where the host with this name is in Hosts, -1 if there is none.
func (s *Snapshot) Position(name string) int {
	if i, ok := s.index().byName[name]; ok {
		return i
	}
	return -1
}

// Host is the state of the host with this name, nil if there is none.
func (s *Snapshot) Host(name string) *HostState {
	if i := s.Position(name); i >= 0 {
		return &s.Hosts[i]
	}
	return nil
}

// AnyDomain reports whether is is true of the domain of an account with a session.
func (s *Snapshot) AnyDomain(is func(domain string) bool) bool {
	for domain := range s.index().domains {
		if is(domain) {
			return true
		}
	}
	return false
}

// WithDraining is s with an operator's word, by host name, in place of what the
// configuration says of draining. What a host says of itself stays: it would turn
// newcomers away in any case.
func (s *Snapshot) WithDraining(word map[string]bool) *Snapshot {
	if len(word) == 0 {
		return s
	}
	hosts := append([]HostState(nil), s.Hosts...)
	for i := range hosts {
		if on, said := word[hosts[i].Host.Name]; said {
			hosts[i].Host.Draining = on
		}
	}
	return &Snapshot{Hosts: hosts, idx: s.index()} // which does not know of draining
}

// Shifted is s as it would be later by d if nothing happened until then and every
// host was read again: all that has lasted for a time has lasted longer. It is
// for questions; d may be negative.
func (s *Snapshot) Shifted(d time.Duration) *Snapshot {
	hosts := slices.Clone(s.Hosts)
	for i := range hosts {
		h := &hosts[i]
		if h.Report != nil {
			r := *h.Report
			r.ReadAt = r.ReadAt.Add(d)
			if r.HostTime.IsZero() { // the sessions' times are in the broker's clock
				r.HostTime = h.Report.ReadAt
			}
			r.HostTime = r.HostTime.Add(d)
			h.Report = &r
		}
		h.Usage = maps.Clone(h.Usage)
		for id, u := range h.Usage {
			u.At = u.At.Add(d)
			h.Usage[id] = u
		}
	}
	return NewSnapshot(hosts)
}

// Find is the session that r refers to, if it is still there as the same
// incarnation. ok is false if it is gone.
func (s *Snapshot) Find(r Ref) (found Session, ok bool) {
	x := s.index()
	i, ok := x.byName[r.Host]
	if !ok {
		return Session{}, false
	}
	if j := x.hosts[i].find(&r); j >= 0 {
		return s.Hosts[i].Report.Sessions[j], true
	}
	return Session{}, false
}

// Counted is the number of sessions that hold slots of Hosts[i].
func (s *Snapshot) Counted(i int) int { return s.index().hosts[i].counted }

// Ref is the reference of session j of Hosts[i]. It is the Snapshot's own: read only.
func (s *Snapshot) Ref(i, j int) *Ref { return &s.index().hosts[i].refs[j] }

// UserRefs are the references of the sessions of Hosts[i] that have a user. They are
// the Snapshot's own: read only. (Appending copies them.)
func (s *Snapshot) UserRefs(i int) []Ref { return s.index().hosts[i].users }

// FarmSize is the number of farm's hosts.
func (s *Snapshot) FarmSize(farm string) int {
	if f := s.index().farms[farm]; f != nil {
		return f.size
	}
	return 0
}

// Free are the positions in Hosts of farm's hosts that have a slot which no
// session holds, in order o and then by name: all whose limit is known, the
// stale and the draining among them. It is the Snapshot's own: read only.
func (s *Snapshot) Free(farm string, o Order) []int {
	if f := s.index().farms[farm]; f != nil {
		return f.free[o]
	}
	return nil
}

// AppendHostsOf appends to buf the positions in Hosts where somebody has a session
// who may be a (Account.Matches), in order.
func (s *Snapshot) AppendHostsOf(buf []int, a Account) []int {
	first := len(buf)
	s.index().users.from(a.User, func(e *userEntry) bool {
		if compareFolded(e.key, a.User) != 0 {
			return false
		}
		if (len(buf) == first || buf[len(buf)-1] != e.host) && e.account.Matches(a) {
			buf = append(buf, e.host)
		}
		return true
	})
	return buf
}

// UsersFrom calls yield with the accounts whose user begins with prefix, without
// regard to case, until it returns false. Those of one user follow one another;
// an account may come twice.
func (s *Snapshot) UsersFrom(prefix string, yield func(Account) bool) {
	prefix = FoldUser(prefix)
	s.index().users.from(prefix, func(e *userEntry) bool {
		return strings.HasPrefix(e.key, prefix) && yield(e.account)
	})
}

// Accounts calls yield with the account of every session that has a user, in
// the order of hosts, until yield returns false. An account may come twice.
func (s *Snapshot) Accounts(yield func(Account) bool) {
	for i := range s.Hosts {
		r := s.Hosts[i].Report
		if r == nil {
			continue
		}
		for _, x := range r.Sessions {
			if x.HasUser() && !yield(x.Account) {
				return
			}
		}
	}
}
