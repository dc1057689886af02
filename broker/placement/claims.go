package placement

import (
	"maps"
	"slices"

	"github.com/rdpbroker/rdpbroker/sessions"
)

// Claim is a reservation as a decision sees it.
type Claim struct {
	// Account is who it was made for; zero if that is not known.
	Account sessions.Account
	Host    string
	// Own is the session on Host that the caller goes back to, nil for a new one.
	Own *sessions.Ref
	// Victim is the session on Host that is logged off for it, nil if none.
	Victim *sessions.Ref
	// Confirmed: the inventory has seen the caller's session, which from then on
	// holds the slot itself.
	Confirmed bool
}

func (c Claim) equal(o Claim) bool {
	same := func(a, b *sessions.Ref) bool { return a == b || a != nil && b != nil && *a == *b }
	return c.Account == o.Account && c.Host == o.Host && c.Confirmed == o.Confirmed && same(c.Own, o.Own) && same(c.Victim, o.Victim)
}

// Claims are a farm's live reservations, kept so that a decision need not look
// through all of them. The zero value and nil are none. Decisions only read; not
// safe for a change at the same time.
type Claims struct {
	byHost   map[string][]Claim // those that are not confirmed
	victims  map[sessions.Ref]int
	own      map[sessions.Ref]int
	accounts map[string][]sessions.Account // of those not confirmed, by sessions.FoldUser

	counted *sessions.Snapshot // see Count
	held    map[string]int     // by host: slots that claims hold beside the sessions in counted
}

// NewClaims are cs.
func NewClaims(cs ...Claim) *Claims {
	all := &Claims{}
	for _, c := range cs {
		all.Add(c)
	}
	return all
}

// Add adds c.
func (cs *Claims) Add(c Claim) {
	if cs.byHost == nil {
		cs.byHost, cs.accounts, cs.held = map[string][]Claim{}, map[string][]sessions.Account{}, map[string]int{}
		cs.victims, cs.own = map[sessions.Ref]int{}, map[sessions.Ref]int{}
	}
	count(cs.victims, c.Victim, 1)
	count(cs.own, c.Own, 1)
	if c.Confirmed {
		return
	}
	cs.byHost[c.Host] = append(cs.byHost[c.Host], c)
	cs.holds(c, 1)
	if !c.Account.IsZero() {
		user := sessions.FoldUser(c.Account.User)
		cs.accounts[user] = append(cs.accounts[user], c.Account)
	}
}

// Remove takes one claim out that is equal to c, which must have been added.
func (cs *Claims) Remove(c Claim) {
	count(cs.victims, c.Victim, -1)
	count(cs.own, c.Own, -1)
	if c.Confirmed {
		return
	}
	remove(cs.byHost, c.Host, c.equal)
	cs.holds(c, -1)
	remove(cs.accounts, sessions.FoldUser(c.Account.User), func(a sessions.Account) bool { return a == c.Account })
}

// Count has decisions on s find the slots that claims hold without looking at each claim:
// there may be hundreds on one host. What is added and removed from then on is counted as
// it comes; a decision on another Snapshot looks at each.
func (cs *Claims) Count(s *sessions.Snapshot) {
	before := cs.counted
	if cs.counted = s; s == before || cs.byHost == nil {
		return
	}
	for name, claims := range cs.byHost {
		h := s.Host(name)
		if before != nil && h != nil {
			if was := before.Host(name); was != nil && was.Report == h.Report && was.Host == h.Host {
				continue
			}
		}
		cs.held[name] = heldBy(claims, s, h)
	}
}

// holds counts a claim that comes, 1, or goes, -1.
func (cs *Claims) holds(c Claim, n int) {
	if cs.counted == nil {
		return
	}
	if len(cs.byHost[c.Host]) == 0 {
		delete(cs.held, c.Host)
		return
	}
	if claimHolds(cs.counted, cs.counted.Host(c.Host), &c) {
		cs.held[c.Host] += n
	}
}

// Used is the number of slots of h that are held: by sessions that the host
// counts (a session on its way out counts until it is gone), and by claims whose
// session the reading does not show yet. It errs towards too many.
func Used(v View, h *sessions.HostState) int {
	n := v.Claims.heldOn(v.Snapshot, h)
	if h.Report != nil {
		for _, s := range h.Report.Sessions {
			if h.Counted(s) {
				n++
			}
		}
	}
	return n
}

// heldOn is the number of slots of h, a host in s, that are held by claims alone.
func (cs *Claims) heldOn(s *sessions.Snapshot, h *sessions.HostState) int {
	if cs != nil && cs.counted == s {
		return cs.held[h.Host.Name]
	}
	return heldBy(cs.onHost(h.Host.Name), s, h)
}

func heldBy(claims []Claim, s *sessions.Snapshot, h *sessions.HostState) (n int) {
	for i := range claims {
		if claimHolds(s, h, &claims[i]) {
			n++
		}
	}
	return n
}

// claimHolds reports whether c needs a slot beside the sessions in the reading of h, its
// host in s. A host that is not in s, nil, shows no sessions.
func claimHolds(s *sessions.Snapshot, h *sessions.HostState, c *Claim) bool {
	shows := func(r *sessions.Ref) bool {
		x, there := s.Find(*r)
		return there && h != nil && h.Counted(x)
	}
	if c.Own != nil {
		// The way back to one's own session takes no further slot, unless the
		// session held none while it was disconnected, or it is gone.
		return !shows(c.Own)
	}
	// Until a victim is gone its own entry stands for this slot.
	return c.Victim == nil || !shows(c.Victim)
}

// Without is a copy of cs without one claim that is equal to c. It costs as much as
// there are claims.
func (cs *Claims) Without(c Claim) *Claims {
	next := &Claims{
		byHost: maps.Clone(cs.byHost), victims: maps.Clone(cs.victims), own: maps.Clone(cs.own), accounts: maps.Clone(cs.accounts),
		counted: cs.counted, held: maps.Clone(cs.held),
	}
	// Lists are changed in place.
	next.byHost[c.Host] = slices.Clone(next.byHost[c.Host])
	user := sessions.FoldUser(c.Account.User)
	next.accounts[user] = slices.Clone(next.accounts[user])
	next.Remove(c)
	return next
}

func count(m map[sessions.Ref]int, ref *sessions.Ref, n int) {
	if ref == nil {
		return
	}
	if m[*ref] += n; m[*ref] == 0 {
		delete(m, *ref)
	}
}

func remove[T any](m map[string][]T, key string, same func(T) bool) {
	l := m[key]
	i := slices.IndexFunc(l, same)
	switch {
	case i < 0:
	case len(l) == 1:
		delete(m, key)
	default:
		m[key] = slices.Delete(l, i, i+1)
	}
}

// onHost are the claims on the host whose sessions have not been seen.
func (cs *Claims) onHost(name string) []Claim {
	if cs == nil {
		return nil
	}
	return cs.byHost[name]
}

// hosts are the hosts with claims of which the sessions have not been seen.
func (cs *Claims) hosts() map[string][]Claim {
	if cs == nil {
		return nil
	}
	return cs.byHost
}

// victim reports whether ref is logged off for somebody.
func (cs *Claims) victim(ref sessions.Ref) bool { return cs != nil && cs.victims[ref] > 0 }

// awaits reports whether the user of s, which ref names, is on the way back.
func (cs *Claims) awaits(ref sessions.Ref, s *sessions.Session) bool {
	if cs == nil {
		return false
	}
	if cs.own[ref] > 0 {
		return true
	}
	return len(cs.accounts) > 0 && slices.ContainsFunc(cs.accounts[sessions.FoldUser(s.Account.User)], s.Account.Matches)
}
