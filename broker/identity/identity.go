// Package identity turns what a connection request says into an Identity with a
// confidence. The cookie is a hint: cut to 9 bytes by mstsc, perhaps DOM\us, a
// UPN, a marshalled certificate, stale, or absent; and it is sent before anybody
// has shown a password.
package identity

import (
	"net/netip"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/rdpbroker/rdpbroker/broker/token"
	"github.com/rdpbroker/rdpbroker/sessions"
)

// CutLength is the length to which Microsoft's clients cut the cookie
// ([MS-RDPBCGR] appendix A, note on 3.2.5.3.1). A cookie of exactly this many
// bytes may be the beginning of a longer name.
const CutLength = 9

// Hint is what one connection says of its caller.
type Hint struct {
	// Client is where it comes from.
	Client netip.Addr
	// Cookie is the IDENTIFIER of "Cookie: mstshash=", raw and untrusted.
	Cookie string
	// HostToken is the address of an "msts=" routing token, invalid if there is none.
	HostToken netip.AddrPort
	// Token is the text of the routing token, raw and untrusted; nil if there is none.
	Token []byte
	// Blob is the text of the preconnection blob (pcb:s: in an .rdp file), raw and
	// untrusted; "" if there is none. It may hold a name in full, or a token.
	Blob string
	// Farm is the farm of the listener, and At the time: tokens are good for one
	// farm, and for a while.
	Farm string
	At   time.Time
}

// Directory is what the operator told of the people. It is immutable.
type Directory struct {
	// Users are known accounts, whether or not they have ever had a session.
	Users []sessions.Account
	// Aliases are other names of accounts, keys in lower case.
	Aliases map[string]sessions.Account
	// UPNSuffixes maps DNS suffixes, in lower case, to NetBIOS domains.
	UPNSuffixes map[string]string
	// Clients is the static map of thin clients' addresses and networks, masked; the
	// longest one that an address is in counts.
	Clients map[netip.Prefix]sessions.Account
	// Trusted are networks of clients for which any confidence will do.
	Trusted []netip.Prefix
	// Tokens opens our own routing tokens; nil opens none.
	Tokens *token.Ring
	// Revoked are those of them that count no longer.
	Revoked token.Revocations
}

// mapped is a with its domain in place of a UPN suffix that the operator has mapped.
func (d Directory) mapped(a sessions.Account) sessions.Account {
	if domain, ok := d.UPNSuffixes[strings.ToLower(a.Domain)]; ok {
		a.Domain = domain
	}
	return a
}

// Account is who name stands for by the operator's word alone: an alias, else
// DOMAIN\user, user@domain or a bare user. It is zero if name names nobody.
func (d Directory) Account(name string) sessions.Account {
	if a, ok := d.Aliases[strings.ToLower(strings.TrimSpace(name))]; ok {
		return d.mapped(a)
	}
	return d.mapped(sessions.ParseAccount(name))
}

// at is who sits at client by the static map. There may be thousands of addresses
// in it, so that each length that a network can have is looked up.
func (d Directory) at(client netip.Addr) (sessions.Account, bool) {
	if len(d.Clients) == 0 || !client.IsValid() {
		return sessions.Account{}, false
	}
	for bits := client.BitLen(); bits >= 0; bits-- {
		p, err := client.WithZone("").Prefix(bits)
		if err != nil {
			break
		}
		if a, ok := d.Clients[p]; ok {
			return a, true
		}
	}
	return sessions.Account{}, false
}

// resolved is d with all of its accounts mapped, so that whoever the operator wrote
// as a UPN is the same account as on the hosts.
func (d Directory) resolved() Directory {
	users := make([]sessions.Account, len(d.Users))
	for i, a := range d.Users {
		users[i] = d.mapped(a)
	}
	aliases := make(map[string]sessions.Account, len(d.Aliases))
	for alias, a := range d.Aliases {
		aliases[alias] = d.mapped(a)
	}
	clients := make(map[netip.Prefix]sessions.Account, len(d.Clients))
	for client, a := range d.Clients {
		clients[client] = d.mapped(a)
	}
	d.Users, d.Aliases, d.Clients = users, aliases, clients
	return d
}

// Resolver knows people. Its methods may be called from any goroutine.
type Resolver struct {
	dir    Directory
	listed *people // in dir
	mem    *memory
}

// NewResolver makes a Resolver over dir with an empty memory. (The cache that
// holds the memory keeps a goroutine of its own for as long as the process lives.)
func NewResolver(dir Directory, mem Memory) *Resolver { return over(dir, newMemory(mem)) }

// over is a Resolver over dir that remembers in m.
func over(dir Directory, m *memory) *Resolver {
	dir = dir.resolved()
	listed := &people{}
	for _, a := range dir.Users {
		listed.add(a)
	}
	for _, a := range dir.Aliases {
		listed.add(a)
	}
	for _, a := range dir.Clients {
		listed.add(a)
	}
	return &Resolver{dir: dir, listed: listed, mem: m}
}

// WithDirectory is a Resolver over dir that shares r's memory; for a reload.
func (r *Resolver) WithDirectory(dir Directory) *Resolver {
	return over(dir, r.mem)
}

// Resolve says who h may be, given the accounts that snap shows.
func (r *Resolver) Resolve(h Hint, snap *sessions.Snapshot) sessions.Identity {
	id := sessions.Identity{Client: h.Client.Unmap()}
	id.Trusted = r.trusted(id.Client)
	id.Host = r.hostOf(h.HostToken, snap)

	name := strings.TrimSpace(h.Cookie)
	id.Said = printable(name)
	if r.byToken(&id, h, snap) {
		return id
	}
	if full := r.inBlob(h, name); full != "" {
		id.Said = printable(full)
		r.byName(&id, full, false, snap)
		r.guess(&id)
		return id
	}
	if named(name) {
		// Even if the name is nobody's: the address must not speak for somebody else.
		r.byName(&id, name, mayBeCut(h.Cookie), snap)
		r.guess(&id)
		return id
	}
	r.byAddress(&id)
	return id
}

// named reports whether cookie is a name. "@@B…" is a marshalled certificate
// reference (CredMarshalCredential), the first bytes of a hash: it names nobody.
func named(cookie string) bool { return cookie != "" && !strings.HasPrefix(cookie, "@@") }

// mayBeCut reports whether cookie may be the beginning of a longer name: one of 9
// bytes or characters. One that is no UTF-8 cannot be compared letter by letter,
// so it is not a name in full either.
func mayBeCut(cookie string) bool {
	return len(cookie) == CutLength || utf8.RuneCountInString(cookie) == CutLength || !utf8.ValidString(cookie)
}

// byName fills id from the name that a cookie gave.
func (r *Resolver) byName(id *sessions.Identity, name string, cut bool, snap *sessions.Snapshot) {
	id.Confidence = sessions.ConfidenceName
	if cut {
		id.Confidence = sessions.ConfidencePrefix
		id.Accounts = r.withPrefix(name, snap)
	} else if a, ok := r.dir.Aliases[strings.ToLower(name)]; ok {
		id.Accounts = []sessions.Account{a}
	} else {
		id.Accounts = r.named(r.parse(name), snap)
	}
	id.Known = len(id.Accounts) == 1
	if len(id.Accounts) > 0 || cut {
		return
	}
	if a := r.parse(name); !a.IsZero() {
		id.Accounts = []sessions.Account{a}
	} else {
		id.Confidence = sessions.ConfidenceNone // "CONTOSO\" names nobody
	}
}

// aliasesOf are the accounts of the aliases that begin with prefix.
func (r *Resolver) aliasesOf(prefix string) []sessions.Account {
	fold := folding(prefix)
	p := fold(wholeCharacters(prefix))
	var meant []sessions.Account
	for alias, a := range r.dir.Aliases {
		if strings.HasPrefix(fold(alias), p) {
			meant = append(meant, a)
		}
	}
	return meant
}

// guess notes, where a name does not tell who it is, whose session was last seen
// after the same name from the same address: that of somebody whose name it may be
// the beginning of, or if it is nobody's (as an old one that a client still sends)
// that of anybody.
func (r *Resolver) guess(id *sessions.Identity) {
	if _, exact := id.Account(); exact {
		return
	}
	a, ok := r.learned(id)
	if ok && (len(id.Accounts) == 0 || slices.ContainsFunc(id.Accounts, a.Matches)) {
		id.Guess = a
	}
}

// byAddress fills id from the static map, else from memory: a smart card says
// the same each time, though nothing that names anybody.
func (r *Resolver) byAddress(id *sessions.Identity) {
	a, ok := r.dir.at(id.Client)
	if !ok {
		a, ok = r.learned(id)
	}
	if !ok {
		a, ok = r.mem.get(place{client: id.Client})
	}
	if ok {
		id.Confidence = sessions.ConfidenceAddress
		id.Accounts, id.Known = []sessions.Account{a}, true
	}
}

// parse reads a whole name. A UPN's suffix need not be the name of a domain:
// what the operator has not mapped is left open unless it looks like a DNS name
// that an account's domain can be compared with.
func (r *Resolver) parse(name string) sessions.Account {
	return r.dir.mapped(sessions.ParseAccount(name))
}

func (r *Resolver) trusted(client netip.Addr) bool {
	for _, p := range r.dir.Trusted {
		if p.Contains(client) {
			return true
		}
	}
	return false
}

// hostOf is the name of the configured host at token's address: the one that has
// it in the configuration, else one that was last reached there. A client's token
// that names any other address is not honoured: the broker is no open relay.
func (r *Resolver) hostOf(token netip.AddrPort, snap *sessions.Snapshot) string {
	if !token.IsValid() {
		return ""
	}
	reached := ""
	for i := range snap.Hosts {
		h := &snap.Hosts[i].Host
		if ap, err := netip.ParseAddrPort(h.Addr); err == nil {
			if ap == token {
				return h.Name
			}
			continue
		}
		if at, ok := r.mem.reached.Load(h.Name); ok && at == token && reached == "" {
			reached = h.Name
		}
	}
	return reached
}

// printable is name for people: bounded, and without characters that a terminal
// or a log would act on or that nobody sees.
func printable(name string) string {
	const most = 64
	var b strings.Builder
	for _, c := range name { // a byte that is no UTF-8 comes as U+FFFD
		if b.Len() >= most {
			b.WriteString("…")
			break
		}
		if !unicode.IsPrint(c) {
			c = '·'
		}
		b.WriteRune(c)
	}
	return b.String()
}
