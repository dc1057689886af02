package identity_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rdpbroker/rdpbroker/broker/identity"
	"github.com/rdpbroker/rdpbroker/sessions"
)

var client = netip.MustParseAddr("192.0.2.7")

// at is somebody at an address who says nothing.
func at(client netip.Addr) sessions.Identity { return sessions.Identity{Client: client} }

// single is the network of one address.
func single(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

func accounts(names ...string) []sessions.Account {
	var as []sessions.Account
	for _, n := range names {
		as = append(as, sessions.ParseAccount(n))
	}
	return as
}

// showing is a snapshot in which each of names has a session.
func showing(names ...string) *sessions.Snapshot {
	r := &sessions.Report{}
	for i, a := range accounts(names...) {
		r.Sessions = append(r.Sessions, sessions.Session{ID: i + 1, Account: a, State: sessions.StateDisconnected})
	}
	return sessions.NewSnapshot([]sessions.HostState{{Host: sessions.Host{Name: "ts1"}, Report: r}})
}

// who are the accounts of id in short, "known " before it if that is known.
func who(id sessions.Identity) string {
	var names []string
	for _, a := range id.Accounts {
		names = append(names, a.String())
	}
	s := id.Confidence.String() + " " + strings.Join(names, ", ")
	if id.Known {
		s = "known " + s
	}
	return strings.TrimSpace(s)
}

// Cookies from public captures, with what was typed, and others made up after
// them. mstsc cuts to 9 bytes, FreeRDP and rdesktop send the user in full.
func TestCookies(t *testing.T) {
	for _, c := range []struct {
		name   string
		cookie string
		shown  []string // accounts that have a session
		users  []string // accounts that the operator listed
		want   string
	}{
		// cut: Administrator@ad.it-help.ninja
		{"a UPN cut within its user", "Administr", []string{`IT-HELP\Administrator`, `IT-HELP\bob`}, nil, `known prefix IT-HELP\Administrator`},
		{"the same in a listing without domains", "Administr", []string{"administrator", "bob"}, nil, "known prefix administrator"},
		{"the same, two could be meant", "Administr", []string{`IT-HELP\Administrator`, `IT-HELP\Administratrix`}, nil, `prefix IT-HELP\Administrator, IT-HELP\Administratrix`},
		{"the same, one in each of two domains", "Administr", []string{`IT-HELP\Administrator`, `TS1\Administrator`}, nil, `prefix IT-HELP\Administrator, TS1\Administrator`},
		{"the same, nobody could be meant", "Administr", []string{"bob"}, nil, "prefix"},
		{"the same, listed by the operator", "Administr", nil, []string{`IT-HELP\Administrator`}, `known prefix IT-HELP\Administrator`},
		{"the same account listed and shown", "Administr", []string{"administrator"}, []string{`IT-HELP\Administrator`}, `known prefix IT-HELP\Administrator`},
		{"the same account in another case", "ADMINISTR", []string{`it-help\administrator`, `IT-HELP\ADMINISTRATOR`}, nil, `known prefix IT-HELP\ADMINISTRATOR`},
		{"listed without, shown in two domains", "Administr", []string{`A\administrator`, `B\administrator`}, []string{"administrator"}, `prefix A\administrator, administrator, B\administrator`},

		// cut: IT-HELP\Administrator
		{"a domain and the first byte of a user", `IT-HELP\A`, []string{`IT-HELP\Administrator`, `IT-HELP\bob`, `OTHER\Anna`}, nil, `known prefix IT-HELP\Administrator`},
		{"the same, two could be meant", `IT-HELP\A`, []string{`IT-HELP\Administrator`, `IT-HELP\anna`}, nil, `prefix IT-HELP\Administrator, IT-HELP\anna`},
		{"the same in a listing without domains", `IT-HELP\A`, []string{"administrator", "bob"}, nil, "known prefix administrator"},
		{"the same, the domain is known by its DNS name", `IT-HELP\A`, []string{`it-help.ninja\administrator`}, nil, `known prefix it-help.ninja\administrator`},
		{"another domain", `FTBCO\A70`, []string{`FTBCO\A7001`, `FTBCO\B`, `OTHER\A70`}, nil, `known prefix FTBCO\A7001`},
		{"a domain of 8 bytes leaves nothing of the user", `FABRIKAM\`, []string{`FABRIKAM\a`, `FABRIKAM\b`, `OTHER\c`}, nil, `prefix FABRIKAM\a, FABRIKAM\b`},
		{"a longer domain leaves nothing of itself", "FABRIKAME", []string{`FABRIKAMEAST\a`, `FABRIKAM\b`, "c"}, nil, `prefix c, FABRIKAMEAST\a`},
		{"a DNS name for a domain", "tailspin.", []string{`TAILSPIN\a`, `OTHER\b`}, nil, `known prefix TAILSPIN\a`},
		{"an account of this computer", `.\Adminis`, []string{`TS1\Administrator`, `TS1\bob`}, nil, `known prefix TS1\Administrator`},

		// cut: a UPN with a short user
		{"a UPN cut within its domain", "bob@conto", []string{`CONTOSO\bob`, `CONTOSO\bobby`}, nil, `known prefix CONTOSO\bob`},
		{"a UPN whose suffix is not the domain", "bob@mail.", []string{`CONTOSO\bob`}, nil, `known prefix CONTOSO\bob`},
		{"a UPN cut behind the @", "johnsmit@", []string{`CONTOSO\johnsmit`, `CONTOSO\johnsmith`}, nil, `known prefix CONTOSO\johnsmit`},

		// exactly 9 bytes, but whole
		{"a whole name of nine bytes", "Protected", []string{`CONTOSO\protected`}, nil, `known prefix CONTOSO\protected`},
		{"and the beginning of another", "Protected", []string{`CONTOSO\protected`, `CONTOSO\ProtectedUser`}, nil, `prefix CONTOSO\protected, CONTOSO\ProtectedUser`},
		{"a computer name with two blanks", "JOHN-PC  ", []string{`CONTOSO\john`}, nil, "prefix"},
		{"blanks behind a name", "JOHN-PC  ", []string{`JOHN-PC\john`}, nil, `known prefix JOHN-PC\john`},
		{"a blank where the cut was", "Anna-Mar ", []string{`CONTOSO\anna-mar ia`}, nil, `known prefix CONTOSO\anna-mar ia`},
		{"characters of two bytes, cut between them", "Jürgens-", []string{`CONTOSO\jürgens-meier`}, nil, `known prefix CONTOSO\jürgens-meier`},
		{"characters of two bytes, one cut in half", "Администр"[:9], []string{"администратор", "борис"}, nil, "known prefix администратор"},
		{"nine characters, if the client counts those", "Администр", []string{"администратор"}, nil, "known prefix администратор"},

		// not UTF-8 but the client's own code page
		{"a name in Windows-1252", "J\xfcrgen", []string{`CONTOSO\jürgen`, `CONTOSO\bob`}, nil, `known prefix CONTOSO\jürgen`},
		{"a name in Windows-1251, cut", "\xc0\xe4\xec\xe8\xed\xe8\xf1\xf2\xf0", []string{`CONTOSO\администратор`, `CONTOSO\administrator`}, nil, `known prefix CONTOSO\администратор`},
		{"two names that such bytes could be", "J\xfcrgen", []string{`CONTOSO\jürgen`, `CONTOSO\jörgen`}, nil, `prefix CONTOSO\jörgen, CONTOSO\jürgen`},
		{"half a character", "\xd0", []string{"alice"}, nil, "prefix"},
		{"such bytes are no letters of ASCII", "J\xfcrgen", []string{`CONTOSO\jorgen`}, nil, "prefix"},

		// whole names
		{"a user", "alice", []string{`CONTOSO\alice`}, nil, `known name CONTOSO\alice`},
		{"a longer user", "jbberthelin", []string{"jbberthelin", "jbberthelin2"}, nil, "known name jbberthelin"},
		{"a short user is no prefix", "Admin", []string{"administrator"}, nil, "name Admin"},
		{"a user in another case", "ALICE", []string{`CONTOSO\alice`}, nil, `known name CONTOSO\alice`},
		{"a user in two domains", "alice", []string{`CONTOSO\alice`, `FABRIKAM\alice`}, nil, `name CONTOSO\alice, FABRIKAM\alice`},
		{"with the domain", `CONTOSO\alice`, []string{`CONTOSO\alice`, `FABRIKAM\alice`}, nil, `known name CONTOSO\alice`},
		{"with another domain", `NORTH\alice`, []string{`CONTOSO\alice`}, nil, `name NORTH\alice`},
		{"of this computer", `.\alice`, []string{`TS1\alice`}, nil, `known name TS1\alice`},
		{"a UPN", "alice@contoso.example", []string{`CONTOSO\alice`, `FABRIKAM\alice`}, nil, `known name CONTOSO\alice`},
		{"a UPN with a mapped suffix", "alice@mail.example", []string{`CONTOSO\alice`, `FABRIKAM\alice`}, nil, `known name CONTOSO\alice`},
		{"a UPN with any suffix, one could be meant", "bob@web.example", []string{`CONTOSO\bob`}, nil, `known name CONTOSO\bob`},
		{"a UPN with any suffix, two could be meant", "bob@web.example", []string{`CONTOSO\bob`, `FABRIKAM\bob`}, nil, `name CONTOSO\bob, FABRIKAM\bob`},
		{"a UPN of nobody", "zoe@web.example", []string{`CONTOSO\bob`}, nil, `name web.example\zoe`},
		{"a UPN of nobody with a mapped suffix", "zoe@mail.example", nil, nil, `name CONTOSO\zoe`},
		{"one account by its two domain names", "bob", []string{`CONTOSO\bob`}, []string{"bob@contoso.example"}, `known name CONTOSO\bob`},
		{"one account by its two domain names, and in a listing", "bob", []string{"bob"}, []string{"bob@contoso.example", `CONTOSO\bob`}, `known name CONTOSO\bob`},
		{"one account by a mapped suffix", "bob", []string{`CONTOSO\bob`}, []string{"bob@mail.example"}, `known name CONTOSO\bob`},
		{"two accounts by two DNS names", "bob", nil, []string{"bob@a.example", "bob@b.example"}, `name a.example\bob, b.example\bob`},
		{"blanks around it", "  alice ", []string{`CONTOSO\alice`}, nil, `known name CONTOSO\alice`},
		{"a name that nobody has", "masscan", []string{"alice"}, nil, "name masscan"},
		{"only a domain", `CONTOSO\`, []string{`CONTOSO\alice`}, nil, "none"},

		// aliases
		{"an alias", "reception", nil, nil, `known prefix DESKS\desk1`}, // nine bytes, as it happens
		{"an alias, whole", "frontdesk-south", nil, nil, `known name DESKS\desk2`},
		{"an alias, cut", "frontdesk", nil, nil, `known prefix DESKS\desk2`},
		{"an alias, cut, and a name", "frontdesk", []string{`CONTOSO\frontdesk9`}, nil, `prefix CONTOSO\frontdesk9, DESKS\desk2`},
		{"an alias for a UPN with a mapped suffix", "the-mail-alias", nil, nil, `known name CONTOSO\desk3`},
		{"a thin client's user, mapped", "kiosk", []string{"kiosk"}, nil, `known name CONTOSO\kiosk`},
		{"an alias in another case", "FrontDesk-South", nil, nil, `known name DESKS\desk2`},

		// no name
		{"nothing", "", []string{"alice"}, nil, "none"},
		{"blanks", "   ", []string{"alice"}, nil, "none"},
		{"a smart card", "@@BooZeoy", []string{"alice"}, nil, "none"},
		{"a smart card, whole", "@@BpNSrkaQmGx", []string{"alice"}, nil, "none"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := identity.NewResolver(identity.Directory{
				Users:       accounts(c.users...),
				UPNSuffixes: map[string]string{"mail.example": "CONTOSO"},
				Clients:     map[netip.Prefix]sessions.Account{single(client.Prev()): sessions.ParseAccount("kiosk@mail.example")},
				Aliases: map[string]sessions.Account{
					"the-mail-alias":  sessions.ParseAccount("desk3@mail.example"),
					"reception":       sessions.ParseAccount(`DESKS\desk1`),
					"frontdesk-south": sessions.ParseAccount(`DESKS\desk2`),
				},
			}, identity.Memory{})
			id := r.Resolve(identity.Hint{Client: client, Cookie: c.cookie}, showing(c.shown...))
			if got := who(id); got != c.want {
				t.Errorf("%q is %s, want %s", c.cookie, got, c.want)
			}
			if id.Client != client || id.Trusted || id.Host != "" {
				t.Errorf("got %+v", id)
			}
		})
	}
}

func TestAddressSpeaksOnlyWithoutAName(t *testing.T) {
	thin := netip.MustParseAddr("192.0.2.50")
	r := identity.NewResolver(identity.Directory{
		Clients: map[netip.Prefix]sessions.Account{single(thin): sessions.ParseAccount(`CONTOSO\kiosk`)},
	}, identity.Memory{})
	r.Learn(at(client), sessions.ParseAccount(`CONTOSO\alice`))
	r.Learn(at(thin), sessions.ParseAccount(`CONTOSO\bob`))
	r.Learn(at(netip.Addr{}), sessions.ParseAccount(`CONTOSO\nowhere`))
	r.Learn(at(netip.MustParseAddr("192.0.2.60")), sessions.Account{Domain: "CONTOSO"})
	none := showing()

	for _, c := range []struct {
		name string
		hint identity.Hint
		want string
	}{
		{"learned", identity.Hint{Client: client}, `known address CONTOSO\alice`},
		{"learned, seen as IPv6", identity.Hint{Client: netip.AddrFrom16(client.As16())}, `known address CONTOSO\alice`},
		{"the static map comes first", identity.Hint{Client: thin}, `known address CONTOSO\kiosk`},
		{"the static map, seen as IPv6", identity.Hint{Client: netip.AddrFrom16(thin.As16())}, `known address CONTOSO\kiosk`},
		{"a smart card", identity.Hint{Client: client, Cookie: "@@BooZeoy"}, `known address CONTOSO\alice`},
		{"a name is believed before the address", identity.Hint{Client: client, Cookie: "bob"}, `known name CONTOSO\bob`},
		{"even nobody's", identity.Hint{Client: client, Cookie: "zoe"}, "name zoe"},
		{"even a cut one", identity.Hint{Client: client, Cookie: "zoe-marie"}, "prefix"},
		{"an address that nobody was seen at", identity.Hint{Client: client.Next()}, "none"},
		{"no address", identity.Hint{}, "none"},
		{"nobody was learned", identity.Hint{Client: netip.MustParseAddr("192.0.2.60")}, "none"},
	} {
		if got := who(r.Resolve(c.hint, none)); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

// Whoever has been learned, or is in a map, is a known account for others too.
func TestKnownFromEverywhere(t *testing.T) {
	r := identity.NewResolver(identity.Directory{
		Users:   accounts(`CONTOSO\listed`),
		Aliases: map[string]sessions.Account{"x": sessions.ParseAccount(`CONTOSO\aliased`)},
		Clients: map[netip.Prefix]sessions.Account{single(client): sessions.ParseAccount(`CONTOSO\mapped`)},
	}, identity.Memory{})
	r.Learn(at(client), sessions.ParseAccount(`CONTOSO\learned`))
	for _, user := range []string{"listed", "aliased", "mapped", "learned", "shown"} {
		id := r.Resolve(identity.Hint{Client: client.Next(), Cookie: user}, showing(`CONTOSO\shown`))
		if got := who(id); got != `known name CONTOSO\`+user {
			t.Errorf("%s: %s", user, got)
		}
	}
}

// Of several networks that a client is in, the smallest counts.
func TestNetworksOfThinClients(t *testing.T) {
	r := identity.NewResolver(identity.Directory{Clients: map[netip.Prefix]sessions.Account{
		netip.MustParsePrefix("10.1.0.0/16"):     {User: "hall"},
		netip.MustParsePrefix("10.1.2.0/24"):     {User: "desk"},
		netip.MustParsePrefix("10.1.2.3/32"):     {User: "kiosk"},
		netip.MustParsePrefix("2001:db8::/32"):   {User: "six"},
		netip.MustParsePrefix("2001:db8::7/128"): {User: "seven"},
	}}, identity.Memory{})
	for addr, want := range map[string]string{
		"10.1.2.3": "known address kiosk", "::ffff:10.1.2.3": "known address kiosk", "10.1.2.4": "known address desk", "10.1.3.3": "known address hall",
		"10.2.0.0": "none", "2001:db8::7": "known address seven", "2001:db8::7%eth0": "known address seven", "2001:db8::8": "known address six", "2001:db9::": "none",
	} {
		if got := who(r.Resolve(identity.Hint{Client: netip.MustParseAddr(addr)}, showing())); got != want {
			t.Errorf("%s: %s, want %s", addr, got, want)
		}
	}
}

func TestMemoryIsBoundedAndSharedByReloads(t *testing.T) {
	r := identity.NewResolver(identity.Directory{}, identity.Memory{Entries: 2})
	addr := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}) }
	for i := range 3 {
		r.Learn(at(addr(i)), sessions.Account{User: fmt.Sprintf("user%d", i)})
	}
	r = r.WithDirectory(identity.Directory{Trusted: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}})
	for i, want := range []string{"none", "known address user1", "known address user2"} {
		id := r.Resolve(identity.Hint{Client: addr(i)}, showing())
		if got := who(id); got != want || !id.Trusted {
			t.Errorf("address %d: %s, want %s", i, got, want)
		}
	}
	r.Learn(at(addr(1)), sessions.Account{User: "successor"})
	if got := who(r.Resolve(identity.Hint{Client: addr(1)}, showing())); got != "known address successor" {
		t.Errorf("after somebody else sat down there: %s", got)
	}
}

func TestMemoryExpires(t *testing.T) {
	r := identity.NewResolver(identity.Directory{}, identity.Memory{For: time.Millisecond})
	r.Learn(at(client), sessions.Account{User: "alice"})
	for r.Resolve(identity.Hint{Client: client}, showing()).Confidence != sessions.ConfidenceNone {
		time.Sleep(time.Millisecond) // the test's own deadline ends this
	}
}

func TestTrustedNetworks(t *testing.T) {
	r := identity.NewResolver(identity.Directory{Trusted: []netip.Prefix{
		netip.MustParsePrefix("10.1.0.0/16"), netip.MustParsePrefix("2001:db8:1::/48"), netip.MustParsePrefix("192.0.2.7/32"),
	}}, identity.Memory{})
	for addr, want := range map[string]bool{
		"10.1.2.3":         true,
		"::ffff:10.1.2.3":  true,
		"10.2.0.1":         false,
		"::ffff:10.2.0.1":  false,
		"2001:db8:1::5":    true,
		"2001:db8:2::5":    false,
		"192.0.2.7":        true,
		"192.0.2.8":        false,
		"::10.1.2.3":       false, // an IPv6 address of its own, not a mapped one
		"64:ff9b::a01:203": false,
	} {
		if got := r.Resolve(identity.Hint{Client: netip.MustParseAddr(addr)}, showing()).Trusted; got != want {
			t.Errorf("%s: trusted %v", addr, got)
		}
	}
	if r.Resolve(identity.Hint{}, showing()).Trusted {
		t.Error("no address is trusted")
	}
}

// A client's token may name a configured host, and nothing else.
func TestHostToken(t *testing.T) {
	snap := sessions.NewSnapshot([]sessions.HostState{
		{Host: sessions.Host{Name: "ts1", Addr: "10.0.0.1:3389"}},
		{Host: sessions.Host{Name: "ts2", Addr: "10.0.0.2:3390"}},
		{Host: sessions.Host{Name: "ts3", Addr: "ts3.contoso.example:3389"}},
	})
	r := identity.NewResolver(identity.Directory{}, identity.Memory{})
	for token, want := range map[string]string{
		"10.0.0.1:3389":  "ts1",
		"10.0.0.2:3390":  "ts2",
		"10.0.0.2:3389":  "", // another port
		"10.0.0.9:3389":  "",
		"127.0.0.1:3389": "",
	} {
		if got := r.Resolve(identity.Hint{HostToken: netip.MustParseAddrPort(token)}, snap).Host; got != want {
			t.Errorf("%s: host %q, want %q", token, got, want)
		}
	}
	if got := r.Resolve(identity.Hint{}, snap).Host; got != "" {
		t.Errorf("no token names %q", got)
	}

	// A host that is configured by its name is the one at the address where it was
	// reached, and not any more once it has moved.
	ask := func(token string) string {
		return r.Resolve(identity.Hint{HostToken: netip.MustParseAddrPort(token)}, snap).Host
	}
	r.Reached("ts3", netip.MustParseAddrPort("[::ffff:10.0.0.9]:3389"))
	r.Reached("gone", netip.MustParseAddrPort("10.0.0.10:3389")) // from the configuration
	r.Reached("ts1", netip.MustParseAddrPort("10.0.0.11:3389"))
	r = r.WithDirectory(identity.Directory{})
	for token, want := range map[string]string{"10.0.0.9:3389": "ts3", "10.0.0.9:3390": "", "10.0.0.10:3389": "", "10.0.0.11:3389": "", "10.0.0.1:3389": "ts1"} {
		if got := ask(token); got != want {
			t.Errorf("once they were reached, %s: host %q, want %q", token, got, want)
		}
	}
	r.Reached("ts3", netip.MustParseAddrPort("10.0.0.1:3389")) // the configuration says that this is ts1
	for token, want := range map[string]string{"10.0.0.9:3389": "", "10.0.0.1:3389": "ts1"} {
		if got := ask(token); got != want {
			t.Errorf("once ts3 has moved, %s: host %q, want %q", token, got, want)
		}
	}
}

// What is kept from one question to the next does not outlive its reasons.
func TestKnownAccountsAreNotStale(t *testing.T) {
	r := identity.NewResolver(identity.Directory{}, identity.Memory{})
	snap := showing("alice")
	ask := func(cookie string, snap *sessions.Snapshot) string {
		return who(r.Resolve(identity.Hint{Client: client.Next(), Cookie: cookie}, snap))
	}
	for _, c := range []struct{ cookie, want string }{{"alice", "known name alice"}, {"bob", "name bob"}} {
		if got := ask(c.cookie, snap); got != c.want {
			t.Errorf("at first: %s, want %s", got, c.want)
		}
	}
	r.Learn(at(client), sessions.Account{User: "bob"})
	if got := ask("bob", snap); got != "known name bob" {
		t.Errorf("once learned: %s", got)
	}
	if got := ask("carol", showing("carol")); got != "known name carol" {
		t.Errorf("in a new picture: %s", got)
	}
	if got := ask("alice", showing("carol")); got != "name alice" {
		t.Errorf("gone from the picture: %s", got)
	}
}

func TestResolveFromManyGoroutines(t *testing.T) {
	r := identity.NewResolver(identity.Directory{Users: accounts("alice", "bob")}, identity.Memory{Entries: 100})
	snap := showing(`CONTOSO\alice`, "bob")
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 200 {
				r.Learn(at(netip.AddrFrom4([4]byte{10, 0, byte(i), byte(j)})), sessions.Account{User: fmt.Sprintf("user%d", j)})
				for _, cookie := range []string{"", "alice", "bob", "user10", "Administr"} {
					r.Resolve(identity.Hint{Client: client, Cookie: cookie}, snap)
				}
			}
		})
	}
	wg.Wait()
}

func BenchmarkResolve(b *testing.B) {
	r := identity.NewResolver(identity.Directory{}, identity.Memory{})
	for i := range 10_000 {
		r.Learn(at(netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)})), sessions.Account{Domain: "CONTOSO", User: fmt.Sprintf("User%d", i)})
	}
	snap := showing()
	for _, cookie := range []string{"user4711", "Administr"} {
		b.Run(cookie, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				r.Resolve(identity.Hint{Client: client, Cookie: cookie}, snap)
			}
		})
	}
}

// What is shown of a cookie can be put on a terminal and into a log.
func TestSaidIsHarmless(t *testing.T) {
	r := identity.NewResolver(identity.Directory{}, identity.Memory{})
	for cookie, want := range map[string]string{
		"alice":                  "alice",
		"  alice ":               "alice",
		"Jürgen":                 "Jürgen",
		"a\x00b\r\nc\x1b[31m":    "a·b··c·[31m",
		"a\u202egnp.exe":         "a·gnp.exe", // right to left
		"a\u200bb\ufeffc":        "a·b·c",     // nobody sees these
		"a\u2028b":               "a·b",
		"\xff\xfe":               "��",
		"@@BooZeoy":              "@@BooZeoy",
		"":                       "",
		strings.Repeat("x", 200): strings.Repeat("x", 64) + "…",
	} {
		if got := r.Resolve(identity.Hint{Cookie: cookie}, showing()).Said; got != want {
			t.Errorf("%q is shown as %q, want %q", cookie, got, want)
		}
	}
}

// The same question has the same answer, although maps are asked.
func TestResolveIsDeterministic(t *testing.T) {
	aliases := map[string]sessions.Account{}
	for i := range 20 {
		aliases[fmt.Sprintf("alias%d", i)] = sessions.Account{Domain: "CONTOSO", User: fmt.Sprintf("operator%02d", i)}
	}
	r := identity.NewResolver(identity.Directory{Aliases: aliases}, identity.Memory{})
	hint := identity.Hint{Client: client, Cookie: "operator0"}
	want := r.Resolve(hint, showing())
	if len(want.Accounts) != 10 {
		t.Fatalf("got %s", who(want))
	}
	for range 20 {
		if got := r.Resolve(hint, showing()); !slices.Equal(got.Accounts, want.Accounts) {
			t.Fatalf("first %s, then %s", who(want), who(got))
		}
	}
}
