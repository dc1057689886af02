package identity_test

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rdpbroker/rdpbroker/broker/identity"
	"github.com/rdpbroker/rdpbroker/broker/token"
	"github.com/rdpbroker/rdpbroker/sessions"
)

var now = time.Unix(1_800_000_000, 0)

func ringOf(t testing.TB, secrets ...byte) *token.Ring {
	t.Helper()
	var keys []token.Key
	for _, b := range secrets {
		keys = append(keys, token.NewKey([token.KeySize]byte(bytes.Repeat([]byte{b}, token.KeySize))))
	}
	r, err := token.NewRing(keys...)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// sealed is a token for name in the farm office, made an hour ago and good for a day.
func sealed(t testing.TB, r *token.Ring, name string, change func(*token.Token)) []byte {
	t.Helper()
	tok := token.Token{Account: sessions.ParseAccount(name), Farm: "office", MadeAt: now.Add(-time.Hour), ExpiresAt: now.Add(23 * time.Hour)}
	if change != nil {
		change(&tok)
	}
	text, err := r.Seal(tok, [token.NonceSize]byte(bytes.Repeat([]byte{9}, token.NonceSize)))
	if err != nil {
		t.Fatal(err)
	}
	return []byte(text)
}

// TestTokens: a good token is exact knowledge, and any other is as if it were not
// there, but for the word about it.
func TestTokens(t *testing.T) {
	ring := ringOf(t, 1, 2)
	dir := identity.Directory{
		Users: accounts(`CONTOSO\bob`, `FABRIKAM\bob`), Tokens: ring,
		UPNSuffixes: map[string]string{"mail.example": "CONTOSO"},
		Revoked: token.Revocations{
			IDs:    map[string]bool{"0808080808080808": true},
			Before: map[sessions.Account]time.Time{sessions.ParseAccount(`CONTOSO\mallory`): now},
		},
	}
	expired := func(x *token.Token) { x.ExpiresAt = now }
	ts2 := func(x *token.Token) { x.Host = "ts2" }
	revoked, err := ring.Seal(token.Token{Account: sessions.Account{User: "x"}, Farm: "office", MadeAt: now, ExpiresAt: now.Add(time.Hour)},
		[token.NonceSize]byte(bytes.Repeat([]byte{8}, token.NonceSize)))
	if err != nil {
		t.Fatal(err)
	}
	forged := bytes.Clone(sealed(t, ring, "alice", nil))
	forged[len(forged)-5] ^= 1
	old := sealed(t, ringOf(t, 2), `CONTOSO\alice`, nil)

	for _, c := range []struct {
		name    string
		hint    identity.Hint
		want    string
		verdict token.Verdict
		host    string
	}{
		{"a good one", identity.Hint{Token: sealed(t, ring, `CONTOSO\alice`, nil)}, `known token CONTOSO\alice`, token.Valid, ""},
		{"by an older key", identity.Hint{Token: old}, `known token CONTOSO\alice`, token.Valid, ""},
		{"with a host", identity.Hint{Token: sealed(t, ring, `CONTOSO\alice`, ts2)}, `known token CONTOSO\alice`, token.Valid, "ts2"},
		{"of a UPN", identity.Hint{Token: sealed(t, ring, "alice@mail.example", nil)}, `known token CONTOSO\alice`, token.Valid, ""},
		{"without a domain, somebody who is known", identity.Hint{Token: sealed(t, ring, "carol", nil)}, `known token CONTOSO\carol`, token.Valid, ""},
		{"without a domain, for two", identity.Hint{Token: sealed(t, ring, "bob", nil)}, `token CONTOSO\bob, FABRIKAM\bob`, token.Valid, ""},
		{"beside a cookie", identity.Hint{Token: sealed(t, ring, `CONTOSO\alice`, nil), Cookie: "dave"}, `known token CONTOSO\alice`, token.Valid, ""},
		{"in the blob", identity.Hint{Blob: string(sealed(t, ring, `CONTOSO\alice`, ts2)), Cookie: "dave"}, `known token CONTOSO\alice`, token.Valid, "ts2"},
		{"in the blob, bare", identity.Hint{Blob: strings.TrimPrefix(string(sealed(t, ring, `CONTOSO\alice`, nil)), token.Prefix)}, `known token CONTOSO\alice`, token.Valid, ""},
		{"in the blob, beside a load balancer's", identity.Hint{Blob: string(old), Token: []byte("tsv://x")}, `known token CONTOSO\alice`, token.Valid, ""},

		{"expired", identity.Hint{Token: sealed(t, ring, "alice", expired)}, "none", token.Expired, ""},
		{"expired, with a host", identity.Hint{Token: sealed(t, ring, "alice", func(x *token.Token) { expired(x); ts2(x) })}, "none", token.Expired, ""},
		{"expired, with a cookie", identity.Hint{Token: sealed(t, ring, "alice", expired), Cookie: "carol"}, `known name CONTOSO\carol`, token.Expired, ""},
		{"expired, from a known address", identity.Hint{Token: sealed(t, ring, "alice", expired), Client: client}, `known address CONTOSO\carol`, token.Expired, ""},
		{"of another farm", identity.Hint{Token: sealed(t, ring, "alice", func(x *token.Token) { x.Farm = "linux" })}, "none", token.OtherFarm, ""},
		{"revoked", identity.Hint{Token: []byte(revoked)}, "none", token.Revoked, ""},
		{"made before they were all revoked", identity.Hint{Token: sealed(t, ring, "mallory", nil)}, "none", token.Revoked, ""},
		{"forged", identity.Hint{Token: forged, Cookie: "carol"}, `known name CONTOSO\carol`, token.Forged, ""},
		{"forged, in the blob", identity.Hint{Blob: string(forged)}, "none", token.Forged, ""},
		{"by nobody's key", identity.Hint{Token: sealed(t, ringOf(t, 3), "alice", nil)}, "none", token.UnknownKey, ""},
		{"a collection", identity.Hint{Token: []byte("tsv://MS Terminal Services Plugin.1.Office")}, "none", token.Foreign, ""},
		{"none", identity.Hint{}, "none", "", ""},
	} {
		r := identity.NewResolver(dir, identity.Memory{})
		r.Learn(at(client), sessions.ParseAccount(`CONTOSO\carol`))
		c.hint.Farm, c.hint.At = "office", now
		id := r.Resolve(c.hint, showing(`CONTOSO\alice`, `CONTOSO\carol`))
		if got := who(id); got != c.want || id.Token != string(c.verdict) || id.Host != c.host {
			t.Errorf("%s: %s (%s) at %q, want %s (%s) at %q", c.name, got, id.Token, id.Host, c.want, c.verdict, c.host)
		}
		opened := slices.Contains([]token.Verdict{token.Valid, token.Expired, token.OtherFarm, token.Revoked}, c.verdict)
		if (id.TokenID != "") != opened {
			t.Errorf("%s: its ID is %q", c.name, id.TokenID)
		}
	}
}

// TestTokensOnReload: a key that is taken out takes its tokens with it.
func TestTokensOnReload(t *testing.T) {
	hint := identity.Hint{Token: sealed(t, ringOf(t, 1), "alice", nil), Farm: "office", At: now}
	r := identity.NewResolver(identity.Directory{Tokens: ringOf(t, 2, 1)}, identity.Memory{})
	if got := who(r.Resolve(hint, showing())); got != "known token alice" {
		t.Errorf("at first: %s", got)
	}
	r = r.WithDirectory(identity.Directory{Tokens: ringOf(t, 2)})
	if id := r.Resolve(hint, showing()); who(id) != "none" || id.Token != string(token.UnknownKey) {
		t.Errorf("without its key: %s, %s", who(id), id.Token)
	}
	if id := r.WithDirectory(identity.Directory{}).Resolve(hint, showing()); who(id) != "none" || id.Token != string(token.UnknownKey) {
		t.Errorf("without any key: %s, %s", who(id), id.Token)
	}
}

// TestBlobs: a preconnection blob may give the name in full that the cookie
// gives in part. A cookie that says otherwise is right.
func TestBlobs(t *testing.T) {
	r := identity.NewResolver(identity.Directory{
		Aliases: map[string]sessions.Account{"front desk": sessions.ParseAccount(`CONTOSO\desk1`)},
	}, identity.Memory{})
	r.Learn(at(client), sessions.ParseAccount(`CONTOSO\carol`))
	snap := showing(`CONTOSO\Administrator`, `CONTOSO\Administratrix`, `CONTOSO\alice`, `CONTOSO\carol`)
	for _, c := range []struct{ name, blob, cookie, want, said string }{
		{"alone", `CONTOSO\alice`, "", `known name CONTOSO\alice`, `CONTOSO\alice`},
		{"a UPN", "alice@contoso.example", "", `known name CONTOSO\alice`, "alice@contoso.example"},
		{"nine characters are no cut", "Administr", "", "name Administr", "Administr"},
		{"with its beginning", `CONTOSO\Administratrix`, "Administr", `known name CONTOSO\Administratrix`, `CONTOSO\Administratrix`},
		{"with its beginning, domain first", `CONTOSO\Administratrix`, `CONTOSO\A`, `known name CONTOSO\Administratrix`, `CONTOSO\Administratrix`},
		{"with the user in full", `CONTOSO\alice`, "alice", `known name CONTOSO\alice`, `CONTOSO\alice`},
		{"an alias", "front desk", "", `known name CONTOSO\desk1`, "front desk"},
		{"an alias, with its beginning", "front desk", "front des", `known name CONTOSO\desk1`, "front desk"},
		{"beside a smart card", `CONTOSO\alice`, "@@BooZeoy", `known name CONTOSO\alice`, `CONTOSO\alice`},
		{"the user has typed another name", `CONTOSO\alice`, "carol", `known name CONTOSO\carol`, "carol"},
		{"another name, cut", `CONTOSO\alice`, "Administr", `prefix CONTOSO\Administrator, CONTOSO\Administratrix`, "Administr"},
		{"a part of a name is another name", `CONTOSO\alice`, "ali", "name ali", "ali"},
		{"in another domain", `CONTOSO\alice`, `NORTH\alice`, `name NORTH\alice`, `NORTH\alice`},
		{"nothing", "", "", `known address CONTOSO\carol`, ""},
		{"blanks", "   ", "", `known address CONTOSO\carol`, ""},
		{"what Hyper-V wants", "d1f9e6a0-0b1c-4f5e-8d3a-1234567890ab;EnhancedMode=1", "", `known address CONTOSO\carol`, ""},
		{"what no name holds", "alice\x1b[0m", "", `known address CONTOSO\carol`, ""},
		{"too long", strings.Repeat("a", 300), "", `known address CONTOSO\carol`, ""},
	} {
		id := r.Resolve(identity.Hint{Client: client, Blob: c.blob, Cookie: c.cookie}, snap)
		if got := who(id); got != c.want || id.Said != c.said {
			t.Errorf("%s: %s, said %q; want %s, said %q", c.name, got, id.Said, c.want, c.said)
		}
	}
}
