package identity

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/rdpbroker/rdpbroker/sessions"
)

// knownAccount is an account with its folded form, which all comparing needs.
type knownAccount struct {
	sessions.Account
	folded sessions.Account
}

// knownAccounts are all accounts that a name may stand for, each once.
type knownAccounts []knownAccount

// knownFrom are the known accounts whose user begins with one of beginnings, without
// regard to case, and perhaps others: listed by the operator, mapped to an alias or
// an address, learned, and those that have a session. There may be ten thousands, and
// they change with every reading: only what is asked for is looked at.
func (r *Resolver) knownFrom(snap *sessions.Snapshot, beginnings ...string) knownAccounts {
	var all knownAccounts
	seen := map[sessions.Account]bool{}
	add := func(a sessions.Account) {
		if f := a.Folded(); !seen[f] {
			seen[f] = true
			all = append(all, knownAccount{a, f})
		}
	}
	for _, beginning := range beginnings {
		r.listed.from(beginning, add)
		r.mem.people.from(beginning, add)
		snap.UsersFrom(beginning, func(a sessions.Account) bool { add(a); return true })
	}
	return all.merged()
}

// named are the known accounts that the whole name a can stand for.
func (r *Resolver) named(a sessions.Account, snap *sessions.Snapshot) []sessions.Account {
	if a.IsZero() {
		return nil
	}
	return r.knownFrom(snap, a.User).named(a)
}

// withPrefix are the known accounts that prefix may be the beginning of.
func (r *Resolver) withPrefix(prefix string, snap *sessions.Snapshot) []sessions.Account {
	meant := r.aliasesOf(prefix)
	if r.mayBeDomain(prefix, snap) { // then it says nothing of the user
		return r.knownFrom(snap, "").withPrefix(prefix, meant)
	}
	// What stands in a name of the code page of a client is compared without regard to
	// the letters beyond ASCII: what comes before the first one is certain.
	p := wholeCharacters(prefix)
	if !utf8.ValidString(p) {
		p = p[:strings.IndexFunc(p, func(c rune) bool { return c >= utf8.RuneSelf })]
	}
	beginnings := []string{p}
	if user, _, upn := strings.Cut(p, "@"); upn {
		beginnings = append(beginnings, user)
	}
	if _, user, down := strings.Cut(p, `\`); down {
		beginnings = append(beginnings, user)
	}
	for _, a := range meant {
		beginnings = append(beginnings, a.User)
	}
	return r.knownFrom(snap, beginnings...).withPrefix(prefix, meant)
}

// mayBeDomain reports whether prefix can be the beginning of a known domain's name.
func (r *Resolver) mayBeDomain(prefix string, snap *sessions.Snapshot) bool {
	fold := folding(prefix)
	p := fold(wholeCharacters(prefix))
	begins := func(domain string) bool { return beginsDomain(p, fold(domain)) }
	return r.listed.anyDomain(begins) || r.mem.people.anyDomain(begins) || snap.AnyDomain(begins)
}

// merged drops other names of an account that is there. Text listings show only
// user names: "alice" is the CONTOSO\alice of the operator's list, if only one
// account of that name has a domain; with two it stays, because it may be either.
// And contoso.example\alice is CONTOSO\alice.
func (k knownAccounts) merged() knownAccounts {
	domainsOf := map[string][]string{} // by user
	for _, a := range k {
		if d := a.folded.Domain; d != "" && !strings.Contains(d, ".") {
			domainsOf[a.folded.User] = append(domainsOf[a.folded.User], d)
		}
	}
	isOther := func(a knownAccount) bool {
		first, _, dotted := strings.Cut(a.folded.Domain, ".")
		return dotted && slices.Contains(domainsOf[a.folded.User], first)
	}
	k = slices.DeleteFunc(k, isOther)
	inDomains := map[string]int{}
	for _, a := range k {
		if a.Domain != "" {
			inDomains[a.folded.User]++
		}
	}
	return slices.DeleteFunc(k, func(a knownAccount) bool { return a.Domain == "" && inDomains[a.folded.User] == 1 })
}

// named are the accounts that the whole name a can stand for.
func (k knownAccounts) named(a sessions.Account) []sessions.Account {
	var exact, sameUser []sessions.Account
	for _, x := range k {
		if x.Matches(a) {
			exact = append(exact, x.Account)
		} else if strings.EqualFold(x.User, a.User) {
			sameUser = append(sameUser, x.Account)
		}
	}
	// A UPN's suffix is often not the domain's name (bob@mail.example for
	// CONTOSO\bob). Rather than take its owner for a stranger, who could lose
	// their own session to their own arrival, the user part alone then counts.
	if len(exact) == 0 && strings.Contains(a.Domain, ".") {
		return inOrder(sameUser)
	}
	return inOrder(exact)
}

// inOrder sorts accounts, so that the same question has the same answer.
func inOrder(as []sessions.Account) []sessions.Account {
	slices.SortFunc(as, func(a, b sessions.Account) int {
		return strings.Compare(a.Folded().String(), b.Folded().String())
	})
	return as
}

// withPrefix are the accounts of which prefix may be the first bytes of one of
// the ways to write them: user, DOMAIN\user, user@domain. So are meant, whom an
// alias names that begins so.
func (k knownAccounts) withPrefix(prefix string, meant []sessions.Account) []sessions.Account {
	fold := folding(prefix)
	p := fold(wholeCharacters(prefix))
	if p == "" {
		return nil // not one whole character: everybody is nobody
	}
	folded := func(a knownAccount) sessions.Account { return a.folded }
	if !utf8.ValidString(wholeCharacters(prefix)) {
		folded = func(a knownAccount) sessions.Account {
			return sessions.Account{Domain: fold(a.Domain), User: fold(a.User)}
		}
	}
	// A domain so long that the cut left nothing of the user: everybody in it, and
	// everybody whose domain is not known, may be meant.
	domainCut := slices.ContainsFunc(k, func(a knownAccount) bool { return beginsDomain(p, folded(a).Domain) })
	var out []sessions.Account
	for _, a := range k {
		if canBegin(p, folded(a)) || domainCut && a.Domain == "" || slices.ContainsFunc(meant, a.Matches) {
			out = append(out, a.Account)
		}
	}
	return inOrder(out)
}

// canBegin reports whether p can be the beginning of a, both folded.
func canBegin(p string, a sessions.Account) bool {
	if strings.HasPrefix(a.User, p) || beginsDomain(p, a.Domain) {
		return true
	}
	if user, _, upn := strings.Cut(p, "@"); upn && user == a.User {
		return true // the suffix need not be the domain's name, so it says nothing
	}
	dom, user, down := strings.Cut(p, `\`)
	if dom == "." {
		dom = "" // a local account: the host's name, which the client need not know
	}
	return down && strings.HasPrefix(a.User, user) &&
		sessions.Account{Domain: dom, User: "x"}.Matches(sessions.Account{Domain: a.Domain, User: "x"})
}

// beginsDomain reports whether p can be the beginning of domain and a backslash.
// Whoever has the domain CONTOSO may also write contoso.example.
func beginsDomain(p, domain string) bool {
	first, _, dotted := strings.Cut(p, ".")
	return domain != "" && (strings.HasPrefix(domain+`\`, p) || dotted && first == domain)
}

// folding is how names are made comparable with text: in lower case. Microsoft's
// clients write the cookie in their own code page ("ANSI", [MS-RDPBCGR]
// 2.2.1.1), which we cannot know: in text that is no UTF-8 any byte beyond ASCII
// stands for any one character beyond ASCII.
func folding(text string) func(string) string {
	if utf8.ValidString(wholeCharacters(text)) {
		return strings.ToLower
	}
	return func(s string) string {
		return strings.Map(func(c rune) rune {
			if c >= utf8.RuneSelf { // a byte that is no UTF-8 comes as U+FFFD
				return '?'
			}
			return unicode.ToLower(c)
		}, s)
	}
}

// wholeCharacters is s without a character at its end that was cut in half.
func wholeCharacters(s string) string {
	for n := 1; n < utf8.UTFMax && n <= len(s); n++ {
		if tail := s[len(s)-n:]; utf8.RuneStart(tail[0]) {
			if !utf8.FullRuneInString(tail) {
				return s[:len(s)-n]
			}
			break
		}
	}
	return s
}
