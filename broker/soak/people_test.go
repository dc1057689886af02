package soak

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"

	"github.com/rdpbroker/rdpbroker/broker/identity"
	"github.com/rdpbroker/rdpbroker/sessions"
)

// user is one of the people.
type user struct {
	o       *office
	account sessions.Account
	addr    netip.Addr
}

// names have accounts that a cut cookie cannot tell apart, one that is all of
// its nine bytes, and letters that take several bytes.
var names = []string{
	"ann", "bob", "carla", "dirk", "erin", "frida", "georg", "heidi",
	"annemarie.kern", "annemarie.krug", "annemarie.lang", "annemarie", "bartholomew", "konstantin", "konstantina", "wilhelmina",
	"jürgen", "zoë.müller", "ольга", "святослав", "øystein", pinnedUser, "svc-backup", "svc-report",
}

// people are n users. Some share an address, some are not known to the broker
// before they were seen, some sit at thin clients that are trusted.
func people(o *office, n int) []*user {
	var all []*user
	for i := range n {
		name := names[i%len(names)]
		if i >= len(names) {
			name = fmt.Sprintf("%s%d", name, i/len(names))
		}
		addr := netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})
		switch {
		case i%9 == 8:
			addr = netip.AddrFrom4([4]byte{10, 0, byte((i - 1) >> 8), byte(i - 1)})
		case i%7 == 6:
			addr = netip.AddrFrom4([4]byte{10, 9, byte(i >> 8), byte(i)})
		}
		all = append(all, &user{o: o, account: sessions.Account{Domain: domain, User: name}, addr: addr})
	}
	return all
}

// directory is what the operator told the broker of the people.
func directory(n int) identity.Directory {
	d := identity.Directory{
		Trusted:     []netip.Prefix{netip.MustParsePrefix("10.9.0.0/16")},
		UPNSuffixes: map[string]string{"mail.example": domain},
	}
	for i, u := range people(nil, n) {
		if i%5 != 4 {
			d.Users = append(d.Users, u.account)
		}
	}
	return d
}

// cookie is what u's client says, one time or another.
func (u *user) cookie(rnd *rand.Rand) string {
	cut := func(s string) string { return s[:min(len(s), identity.CutLength)] }
	name := u.account.User
	switch rnd.IntN(16) {
	case 0, 1, 2, 3:
		return name
	case 4:
		return domain + `\` + name
	case 5:
		return name + "@contoso.example"
	case 6:
		return name + "@mail.example"
	case 7:
		return strings.ToUpper(name)
	case 8, 9, 10:
		return cut(name)
	case 11, 12:
		return cut(domain + `\` + name)
	case 13:
		return "" // none
	case 14: // that of a colleague, who used this computer before
		return u.o.people[rnd.IntN(len(u.o.people))].account.User
	}
	return "@@B" + cut(name)
}
