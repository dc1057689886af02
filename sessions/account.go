package sessions

import "strings"

// Account is a Windows account as a host reports it: DOMAIN\user.
// The zero value is "nobody".
type Account struct {
	// Domain is the NetBIOS or DNS name of the domain, or the computer name
	// for a local account. Empty when the source does not tell: quser and
	// qwinsta print no domain.
	Domain string `json:"domain,omitempty"`
	// User is the logon name without its domain.
	User string `json:"user"`
}

// ParseAccount reads DOMAIN\user, user@domain or a bare user name. White space
// around it is dropped. It never fails: text without a separator is a user.
func ParseAccount(s string) Account {
	s = strings.TrimSpace(s)
	if dom, user, ok := strings.Cut(s, `\`); ok {
		if dom == "." { // ".\user" is how Windows users write "a local account"
			dom = ""
		}
		return Account{Domain: dom, User: user}
	}
	if i := strings.LastIndexByte(s, '@'); i > 0 {
		return Account{Domain: s[i+1:], User: s[:i]}
	}
	return Account{User: s}
}

// String is DOMAIN\user, or the bare user where no domain is known.
func (a Account) String() string {
	if a.Domain == "" {
		return a.User
	}
	return a.Domain + `\` + a.User
}

// IsZero reports whether a names nobody.
func (a Account) IsZero() bool { return a.User == "" }

// Folded is a with both parts in lower case. Windows compares names without
// case; two accounts are the same one exactly when their folded forms are equal.
func (a Account) Folded() Account {
	return Account{Domain: strings.ToLower(a.Domain), User: strings.ToLower(a.User)}
}

// Matches reports whether a and b can be the same account: equal users without
// regard to case, and equal domains or one of them unknown. A NetBIOS domain
// matches the DNS domain whose first label it is (CONTOSO and contoso.example).
// Matches is symmetric but not transitive. Use it where believing that two
// names are one person is the careful answer: never evict what matches.
func (a Account) Matches(b Account) bool {
	return a.User != "" && strings.EqualFold(a.User, b.User) && domainsMatch(a.Domain, b.Domain)
}

func domainsMatch(a, b string) bool {
	if a == "" || b == "" || strings.EqualFold(a, b) {
		return true
	}
	firstA, _, dottedA := strings.Cut(a, ".")
	firstB, _, dottedB := strings.Cut(b, ".")
	return dottedA != dottedB && strings.EqualFold(firstA, firstB)
}
