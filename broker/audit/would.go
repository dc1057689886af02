package audit

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/rdpbroker/rdpbroker/broker/placement"
	"github.com/rdpbroker/rdpbroker/sessions"
)

// Ceilings bound evictions within any hour; 0: no ceiling.
type Ceilings struct {
	PerHost   int `json:"per_host_per_hour"`
	PerClient int `json:"per_client_per_hour"`
	PerFarm   int `json:"per_farm_per_hour"`
	// All bounds those in all farms together.
	All int `json:"per_hour"`
}

// Would sums up what evict mode would have done while the mode was shadow.
type Would struct {
	From time.Time `json:"from"`
	To   time.Time `json:"to"`
	// Decisions were made in shadow mode; with Full of them no slot was free, and
	// for Wanted of these somebody would have been logged off. Whoever comes again
	// and again counts each time.
	Decisions int `json:"decisions"`
	Full      int `json:"full"`
	Wanted    int `json:"wanted"`
	// Idle counts the active sessions that would have been disconnected because nobody
	// used them.
	Idle int `json:"idle"`
	// Logoffs are the sessions that would have been logged off, each once, in the
	// order of time, those that a ceiling would have stopped among them.
	Logoffs []WouldLogoff `json:"logoffs"`
	// Done counts those that no ceiling would have stopped.
	Done int `json:"done"`
	// Hosts and Users sum up Logoffs, the most first.
	Hosts []Count `json:"hosts"`
	Users []Count `json:"users"`
	// Older says how many had been disconnected for at least so long.
	Older []Older `json:"older"`
	// Spared says why sessions were no candidates when no slot was free, the most
	// frequent first: one decision and one session counts one.
	Spared []Count `json:"spared"`
	// Stopped counts the logoffs that ceilings would have stopped, by ceiling.
	Stopped []Count `json:"stopped"`
}

// WouldLogoff is one session that would have been logged off.
type WouldLogoff struct {
	At   time.Time `json:"at"`
	Farm string    `json:"farm"`
	// Whom names the session, with its user.
	Host    string           `json:"host"`
	Session int              `json:"session"`
	Account sessions.Account `json:"account"`
	// DisconnectedFor is how long it had been disconnected.
	DisconnectedFor time.Duration `json:"disconnected_for_ns"`
	// For is who came, and Client from where.
	For    string     `json:"for"`
	Client netip.Addr `json:"client,omitzero"`
	// Times is how often the same session was chosen.
	Times int `json:"times"`
	// Stopped is the ceiling that would have spared it, "" if none.
	Stopped string `json:"stopped,omitempty"`
}

// Count is how often something was there.
type Count struct {
	What string `json:"what"`
	N    int    `json:"n"`
}

// Older is how many sessions had been disconnected for at least For.
type Older struct {
	For time.Duration `json:"for_ns"`
	N   int           `json:"n"`
}

// Summary makes a Would of records, which are to be added in the order of time.
type Summary struct {
	ceilings func(farm string) Ceilings
	would    Would
	seen     map[sessions.Ref]int // index in would.Logoffs
	spared   map[string]int
	done     []stamp // of the last hour
}

type stamp struct {
	at     time.Time
	farm   string
	host   string
	client netip.Addr
}

// NewSummary returns an empty Summary. Ceilings are those of a farm.
func NewSummary(ceilings func(farm string) Ceilings) *Summary {
	return &Summary{ceilings: ceilings, seen: map[sessions.Ref]int{}, spared: map[string]int{}}
}

// Add takes one record.
func (s *Summary) Add(r *Record) {
	if r.Event != Decided || r.Mode != placement.Shadow.String() {
		return
	}
	w := &s.would
	if w.From.IsZero() {
		w.From = r.Time
	}
	w.To = r.Time
	if r.Decision.Kind == placement.Disconnect {
		w.Idle++
		return
	}
	ahead := r.Decision.Kind == placement.KeepFree
	if !ahead {
		w.Decisions++
	}
	if !ahead && r.Decision.Kind != placement.WaitForSlot {
		return
	}
	if !ahead {
		w.Full++
	}
	for _, c := range r.Decision.Candidates {
		if c.As == "victim" && !c.Chosen && c.Session != 0 {
			s.spared[reasonClass(c.Why)]++
		}
	}
	v := r.Decision.Would
	if v == nil {
		return
	}
	if !ahead {
		w.Wanted++
	}
	if i, again := s.seen[v.Ref()]; again {
		w.Logoffs[i].Times++
		return
	}
	l := WouldLogoff{
		At: r.Time, Farm: r.Farm, Host: v.Host, Session: v.Session.ID, Account: v.Session.Account,
		DisconnectedFor: v.DisconnectedFor, For: r.Caller(), Client: r.Identity.Client, Times: 1,
	}
	if ahead {
		l.For = "headroom"
	}
	if l.Stopped = s.stops(&l); l.Stopped == "" {
		s.done = append(s.done, stamp{l.At, l.Farm, l.Host, l.Client})
	}
	s.seen[v.Ref()] = len(w.Logoffs)
	w.Logoffs = append(w.Logoffs, l)
}

// stops is the ceiling that l would have met, "" if none.
func (s *Summary) stops(l *WouldLogoff) string {
	s.done = slices.DeleteFunc(s.done, func(x stamp) bool { return l.At.Sub(x.at) >= time.Hour })
	onHost, byClient, inFarm := 0, 0, 0
	for _, x := range s.done {
		if x.host == l.Host {
			onHost++
		}
		if x.client.IsValid() && x.client == l.Client {
			byClient++
		}
		if x.farm == l.Farm {
			inFarm++
		}
	}
	switch c := s.ceilings(l.Farm); {
	case c.PerHost > 0 && onHost >= c.PerHost:
		return "per_host_per_hour"
	case c.PerClient > 0 && byClient >= c.PerClient:
		return "per_client_per_hour"
	case c.PerFarm > 0 && inFarm >= c.PerFarm:
		return "per_farm_per_hour"
	case c.All > 0 && len(s.done) >= c.All:
		return "per_hour"
	}
	return ""
}

// reasonClass is why without its numbers and names, so that the same reasons can
// be counted together.
func reasonClass(why string) string {
	for _, class := range []string{"not disconnected", "protected by", "disconnected for", "busy", "kept by", "its user has marked it"} {
		if strings.HasPrefix(why, class) {
			switch class {
			case "protected by":
				return "protected"
			case "disconnected for":
				if strings.Contains(why, "less than") {
					return "not disconnected for long enough"
				}
				return "another one was staler"
			}
			return class
		}
	}
	return why
}

// ages are what Older tells of.
var ages = []time.Duration{15 * time.Minute, time.Hour, 4 * time.Hour, 8 * time.Hour, 24 * time.Hour, 7 * 24 * time.Hour}

// Would is the sum of what was added.
func (s *Summary) Would() Would {
	w := s.would
	hosts, users, stopped := map[string]int{}, map[string]int{}, map[string]int{}
	for i := range w.Logoffs {
		l := &w.Logoffs[i]
		if l.Stopped != "" {
			stopped[l.Stopped]++
			continue
		}
		w.Done++
		hosts[l.Host]++
		users[l.Account.String()]++
	}
	for _, age := range ages {
		n := 0
		for i := range w.Logoffs {
			if w.Logoffs[i].DisconnectedFor >= age {
				n++
			}
		}
		w.Older = append(w.Older, Older{age, n})
	}
	w.Hosts, w.Users, w.Stopped, w.Spared = counts(hosts), counts(users), counts(stopped), counts(s.spared)
	return w
}

// counts is m, the largest first.
func counts(m map[string]int) []Count {
	out := make([]Count, 0, len(m))
	for _, what := range slices.Sorted(maps.Keys(m)) {
		out = append(out, Count{what, m[what]})
	}
	slices.SortStableFunc(out, func(a, b Count) int { return cmp.Compare(b.N, a.N) })
	return out
}

// Caller is whom the caller was taken for, else what they said, "" if they said
// nothing.
func (r *Record) Caller() string {
	if a, ok := r.Identity.Account(); ok {
		return a.String()
	}
	return r.Identity.Said
}
