package identity

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/rdpbroker/rdpbroker/sessions"
)

// people are accounts in the order of their users' names, so that those of one user,
// or with one beginning, are found without looking at all. An account is there as
// often as it was added. The zero value is nobody.
type people struct {
	mu    sync.RWMutex
	users []string // sessions.FoldUser, sorted
	by    map[string]map[sessions.Account]int
	// domains are theirs, with how often.
	domains map[string]int
}

func (p *people) add(a sessions.Account) {
	if a.IsZero() {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	user := sessions.FoldUser(a.User)
	if p.by[user] == nil {
		if p.by == nil {
			p.by, p.domains = map[string]map[sessions.Account]int{}, map[string]int{}
		}
		p.by[user] = map[sessions.Account]int{}
		at, _ := slices.BinarySearch(p.users, user)
		p.users = slices.Insert(p.users, at, user)
	}
	p.by[user][a]++
	p.domains[a.Domain]++
}

// remove takes out what was added once.
func (p *people) remove(a sessions.Account) {
	if a.IsZero() {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	user := sessions.FoldUser(a.User)
	if p.by[user][a]--; p.by[user][a] == 0 {
		delete(p.by[user], a)
	}
	if p.domains[a.Domain]--; p.domains[a.Domain] == 0 {
		delete(p.domains, a.Domain)
	}
	if len(p.by[user]) == 0 {
		delete(p.by, user)
		at, _ := slices.BinarySearch(p.users, user)
		p.users = slices.Delete(p.users, at, at+1)
	}
}

// from calls yield with the accounts whose user begins with prefix, without regard
// to case, in order.
func (p *people) from(prefix string, yield func(sessions.Account)) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	prefix = sessions.FoldUser(prefix)
	at, _ := slices.BinarySearch(p.users, prefix)
	for ; at < len(p.users) && strings.HasPrefix(p.users[at], prefix); at++ {
		for _, a := range slices.SortedFunc(maps.Keys(p.by[p.users[at]]), func(a, b sessions.Account) int {
			return cmp.Or(cmp.Compare(a.Domain, b.Domain), cmp.Compare(a.User, b.User))
		}) {
			yield(a)
		}
	}
}

// anyDomain reports whether is is true of one of their domains.
func (p *people) anyDomain(is func(domain string) bool) bool {
	p.mu.RLock()
	defer p.mu.RUnlock()
	for domain := range p.domains {
		if is(domain) {
			return true
		}
	}
	return false
}
