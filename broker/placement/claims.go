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
	// Own is the session that the caller goes back to, nil for a new one.
	Own *sessions.Ref
	// Victim is the session that is logged off for it, nil if none.
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
		*cs = Claims{map[string][]Claim{}, map[sessions.Ref]int{}, map[sessions.Ref]int{}, map[string][]sessions.Account{}}
	}
	count(cs.victims, c.Victim, 1)
	count(cs.own, c.Own, 1)
	if c.Confirmed {
		return
	}
	cs.byHost[c.Host] = append(cs.byHost[c.Host], c)
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
	remove(cs.accounts, sessions.FoldUser(c.Account.User), func(a sessions.Account) bool { return a == c.Account })
}

// Without is a copy of cs without one claim that is equal to c. It costs as much as
// there are claims.
func (cs *Claims) Without(c Claim) *Claims {
	next := &Claims{maps.Clone(cs.byHost), maps.Clone(cs.victims), maps.Clone(cs.own), maps.Clone(cs.accounts)}
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
