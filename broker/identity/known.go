package identity

import (
	"strings"

	"github.com/rdpbroker/rdpbroker/sessions"
)

// knownAccounts are all accounts that a name may stand for, each once, the ones
// with a domain first.
type knownAccounts []sessions.Account

// known gathers them: listed by the operator, mapped to an alias or an address,
// learned, and those that have a session.
func (r *Resolver) known(snap *sessions.Snapshot) knownAccounts {
	var all knownAccounts
	seen := map[sessions.Account]bool{}
	add := func(a sessions.Account) bool {
		if f := a.Folded(); !a.IsZero() && !seen[f] {
			seen[f] = true
			all = append(all, a)
		}
		return true
	}
	for _, a := range r.dir.Users {
		add(a)
	}
	for _, a := range r.dir.Aliases {
		add(a)
	}
	for _, a := range r.dir.Clients {
		add(a)
	}
	for _, a := range r.learned.Values() {
		add(a)
	}
	snap.Accounts(add)
	return all.merged()
}

// merged drops an account without a domain where exactly one account of that
// name has a domain: text listings show only user names, and "alice" there is
// the CONTOSO\alice of the operator's list. With two domains it stays, because it
// may be either.
func (k knownAccounts) merged() knownAccounts {
	inDomains := map[string]int{}
	for _, a := range k {
		if a.Domain != "" {
			inDomains[strings.ToLower(a.User)]++
		}
	}
	var out knownAccounts
	for _, a := range k {
		if a.Domain != "" || inDomains[strings.ToLower(a.User)] != 1 {
			out = append(out, a)
		}
	}
	return out
}

// named are the accounts that the whole name a can stand for.
func (k knownAccounts) named(a sessions.Account) []sessions.Account {
	var exact, sameUser []sessions.Account
	for _, x := range k {
		if x.Matches(a) {
			exact = append(exact, x)
		} else if strings.EqualFold(x.User, a.User) {
			sameUser = append(sameUser, x)
		}
	}
	// A UPN's suffix is often not the domain's name (bob@mail.example for
	// CONTOSO\bob). Rather than take its owner for a stranger, who could lose
	// their own session to their own arrival, the user part alone then counts.
	if len(exact) == 0 && strings.Contains(a.Domain, ".") {
		return sameUser
	}
	return exact
}

// withPrefix are the accounts of which prefix may be the first bytes of one of
// the ways to write them: user, DOMAIN\user, user@domain.
func (k knownAccounts) withPrefix(prefix string) []sessions.Account {
	p := strings.ToLower(prefix)
	var out []sessions.Account
	// A domain so long that the cut left nothing of the user: everybody in it, and
	// everybody whose domain is not known, may be meant.
	domainCut := false
	for _, a := range k {
		if a.Domain != "" && strings.HasPrefix(strings.ToLower(a.Domain)+`\`, p) {
			domainCut = true
		}
	}
	for _, a := range k {
		if canBegin(p, a.Folded()) || domainCut && a.Domain == "" {
			out = append(out, a)
		}
	}
	return out
}

// canBegin reports whether p, in lower case, can be the beginning of a, folded.
func canBegin(p string, a sessions.Account) bool {
	if strings.HasPrefix(a.User, p) {
		return true
	}
	if user, _, upn := strings.Cut(p, "@"); upn && user == a.User {
		return true // the suffix need not be the domain's name, so it says nothing
	}
	dom, user, down := strings.Cut(p, `\`)
	if a.Domain == "" {
		return down && strings.HasPrefix(a.User, user)
	}
	if down {
		return sessions.Account{Domain: dom, User: "x"}.Matches(sessions.Account{Domain: a.Domain, User: "x"}) && strings.HasPrefix(a.User, user)
	}
	return strings.HasPrefix(a.Domain, p)
}
