package identity_test

import (
	"net/netip"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/rdpbroker/rdpbroker/broker/identity"
	"github.com/rdpbroker/rdpbroker/broker/token"
	"github.com/rdpbroker/rdpbroker/sessions"
)

var (
	someUser   = rapid.StringMatching(`[a-dA-Däöé][a-c ._0-1éßЖ日-]{0,14}[a-dü]`)
	someNB     = rapid.StringMatching(`[A-C][A-C0-]{0,14}`) // NetBIOS: up to 15 characters
	someSuffix = rapid.SampledFrom([]string{".example", ".ad.example", ".de"})
)

func someAccount(t *rapid.T, label string) sessions.Account {
	a := sessions.Account{User: someUser.Draw(t, label+" user")}
	if rapid.Bool().Draw(t, label+" has a domain") {
		a.Domain = someNB.Draw(t, label+" domain")
		if rapid.IntRange(0, 4).Draw(t, label+" DNS") == 0 {
			a.Domain += ".example"
		}
	}
	return a
}

// typed draws one of the ways in which the owner of a may write their name.
func typed(t *rapid.T, a sessions.Account) string {
	ways := []string{a.User, `.\` + a.User, a.User + "@" + someNB.Draw(t, "any domain") + someSuffix.Draw(t, "suffix")}
	if a.Domain != "" {
		first, _, _ := strings.Cut(a.Domain, ".")
		ways = append(ways, a.Domain+`\`+a.User, first+`\`+a.User, a.User+"@"+a.Domain, a.User+"@"+first+someSuffix.Draw(t, "suffix"))
		if first == a.Domain {
			ways = append(ways, a.Domain+someSuffix.Draw(t, "suffix")+`\`+a.User)
		}
	}
	name := rapid.SampledFrom(ways).Draw(t, "typed")
	change := rapid.SampledFrom([]func(string) string{func(s string) string { return s }, strings.ToUpper, strings.ToLower}).Draw(t, "in the case of")
	return change(name)
}

// sent draws one of the ways in which a client sends what was typed: in UTF-8 or
// its own code page; cut to 9 bytes, to 9 characters, or in full.
func sent(t *rapid.T, name string) string {
	if b, ok := latin1(name); ok && rapid.Bool().Draw(t, "in its own code page") {
		if !ascii(name) || rapid.Bool().Draw(t, "cut") {
			return b[:min(len(b), identity.CutLength)]
		}
		return b
	}
	switch rapid.IntRange(0, 2).Draw(t, "cut") {
	case 0:
		return name[:min(len(name), identity.CutLength)]
	case 1:
		r := []rune(name)
		return string(r[:min(len(r), identity.CutLength)])
	}
	return name
}

func ascii(s string) bool { return len(s) == utf8.RuneCountInString(s) }

func latin1(s string) (string, bool) {
	var b []byte
	for _, c := range s {
		if c > 0xff {
			return "", false
		}
		b = append(b, byte(c))
	}
	return string(b), true
}

// Whoever is not known exactly must not lose their own work to their own
// arrival: however an account's owner writes the name, and whatever the client
// leaves of it, the caller could be that account.
func TestWhoeverItIsCouldBeThemselves(t *testing.T) {
	base := identity.NewResolver(identity.Directory{}, identity.Memory{})
	rapid.Check(t, func(t *rapid.T) {
		me := someAccount(t, "my")
		dir := identity.Directory{UPNSuffixes: map[string]string{"mail.example": "AAA"}}
		for range rapid.IntRange(0, 4).Draw(t, "others") {
			dir.Users = append(dir.Users, someAccount(t, "another's"))
		}
		dir.Users = rapid.Permutation(append(dir.Users, me)).Draw(t, "listed")

		name := typed(t, me)
		cookie := sent(t, name)
		id := base.WithDirectory(dir).Resolve(identity.Hint{Client: client, Cookie: cookie}, showing())
		if id.CouldBe(me) {
			return
		}
		if me.Domain == "" && leavesOnlyADomain(cookie, name) {
			t.Skip("nothing is left of the user, and the account's domain is not known")
		}
		t.Fatalf("%+v, typed as %q and sent as %q, is %s\nlisted: %v", me, name, cookie, who(id), dir.Users)
	})
}

// leavesOnlyADomain: of DOMAIN\user not even the backslash was left.
func leavesOnlyADomain(cookie, name string) bool {
	return strings.Contains(name, `\`) && !strings.Contains(cookie, `\`)
}

// FuzzResolve: a cookie is any bytes. Nothing panics, and nothing follows that
// could not be shown or believed.
func FuzzResolve(f *testing.F) {
	for _, cookie := range []string{
		"", "Administr", `IT-HELP\A`, "Protected", "@@BooZeoy", `FTBCO\A70`, "AWAKECODI", "JOHN-PC  ", "WDeployAd", "jbberthelin",
		"hello", "a", "nmap", "masscan", `\`, `\\`, "@", "@@", `.\`, `.\Adminis`, "alice@", "a@b@c", `CONTOSO\`, "\x00\r\n\x1b[0m",
		"J\xfcrgen", "Администр", "\xd0", "\xf0\x9f\x98", "\xff\xff\xff\xff\xff\xff\xff\xff\xff", "         ", strings.Repeat("ä", 200),
	} {
		f.Add(cookie, true, "")
		f.Add("", false, cookie)
	}
	f.Add("Administr", false, `IT-HELP\Administrator`)
	f.Add("", true, string(sealed(f, ringOf(f, 1), "alice", nil)))
	snap := showing(`IT-HELP\Administrator`, "administrator", `CONTOSO\alice`, "jürgen", "администратор", "protected user")
	dir := identity.Directory{
		Users:       accounts(`CONTOSO\bob`, `FABRIKAMEAST\carol`),
		Aliases:     map[string]sessions.Account{"front desk": sessions.ParseAccount(`CONTOSO\bob`)},
		UPNSuffixes: map[string]string{"mail.example": "CONTOSO"},
		Clients:     map[netip.Prefix]sessions.Account{single(client): sessions.ParseAccount(`CONTOSO\kiosk`)},
	}
	dir.Tokens = ringOf(f, 1)
	r := identity.NewResolver(dir, identity.Memory{})
	f.Fuzz(func(t *testing.T, cookie string, thin bool, blob string) {
		h := identity.Hint{Cookie: cookie, Client: client, Blob: blob, Farm: "office", At: now}
		if !thin {
			h.Client = client.Next()
		}
		id := r.Resolve(h, snap)
		if len(id.Said) > 72 || !utf8.ValidString(id.Said) {
			t.Errorf("said %q", id.Said)
		}
		for _, c := range id.Said {
			if !unicode.IsPrint(c) {
				t.Errorf("said %q, with %U", id.Said, c)
			}
		}
		if id.Known && len(id.Accounts) != 1 {
			t.Errorf("known, and is %d accounts", len(id.Accounts))
		}
		for _, a := range id.Accounts {
			if a.IsZero() || !id.CouldBe(a) {
				t.Errorf("could be %+v", a)
			}
		}
		switch id.Confidence {
		case sessions.ConfidenceNone:
			if len(id.Accounts) != 0 {
				t.Errorf("nothing is known, and it is %v", id.Accounts)
			}
		case sessions.ConfidenceAddress, sessions.ConfidenceName:
			if len(id.Accounts) == 0 {
				t.Errorf("%s, and it is nobody", id.Confidence)
			}
		case sessions.ConfidencePrefix:
			if utf8.ValidString(cookie) && len(cookie) != identity.CutLength && utf8.RuneCountInString(cookie) != identity.CutLength {
				t.Errorf("%q cannot have been cut", cookie)
			}
		case sessions.ConfidenceToken:
			if len(id.Accounts) == 0 || id.Token != string(token.Valid) || id.TokenID == "" {
				t.Errorf("a token %q with ID %q for %v", id.Token, id.TokenID, id.Accounts)
			}
		default:
			t.Errorf("confidence %s from a cookie", id.Confidence)
		}
		if id.Key() == "" || id.Key() != r.Resolve(h, snap).Key() {
			t.Errorf("keys %q and %q", id.Key(), r.Resolve(h, snap).Key())
		}
	})
}
