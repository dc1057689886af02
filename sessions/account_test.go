package sessions_test

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/rdpbroker/rdpbroker/sessions"
)

func TestParseAccount(t *testing.T) {
	for _, c := range []struct {
		in     string
		domain string
		user   string
		text   string // of the result's String
	}{
		{`CONTOSO\alice`, "CONTOSO", "alice", `CONTOSO\alice`},
		{`alice@contoso.example`, "contoso.example", "alice", `contoso.example\alice`},
		{`alice`, "", "alice", "alice"},
		{`  alice	`, "", "alice", "alice"},
		{`.\alice`, "", "alice", "alice"},
		{`\alice`, "", "alice", "alice"},
		{`CONTOSO\`, "CONTOSO", "", `CONTOSO\`},
		{`CONTOSO\alice@home`, "CONTOSO", "alice@home", `CONTOSO\alice@home`},
		{`a@b@contoso.example`, "contoso.example", "a@b", `contoso.example\a@b`},
		{`@contoso.example`, "", "@contoso.example", "@contoso.example"},
		{`alice@`, "", "alice", "alice"},
		{`Jürgen Groß`, "", "Jürgen Groß", "Jürgen Groß"},
		{``, "", "", ""},
	} {
		got := sessions.ParseAccount(c.in)
		if got != (sessions.Account{Domain: c.domain, User: c.user}) {
			t.Errorf("ParseAccount(%q) = %+v", c.in, got)
		}
		if got.String() != c.text {
			t.Errorf("ParseAccount(%q).String() = %q, want %q", c.in, got.String(), c.text)
		}
		if got.IsZero() != (c.user == "") {
			t.Errorf("ParseAccount(%q).IsZero() = %v", c.in, got.IsZero())
		}
	}
}

func TestAccountMatches(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{`CONTOSO\alice`, `contoso\ALICE`, true},
		{`CONTOSO\alice`, `CONTOSO\bob`, false},
		{`CONTOSO\alice`, `FABRIKAM\alice`, false},
		{`CONTOSO\alice`, `alice`, true}, // a listing without domains
		{`alice`, `alice`, true},
		{`CONTOSO\alice`, `contoso.example\alice`, true},
		{`CONTOSO\alice`, `alice@contoso.example`, true},
		{`CONTOSO\alice`, `contoso-north.example\alice`, false},
		{`contoso.example\alice`, `contoso.test\alice`, false}, // two DNS names are two domains
		{`contoso.example\alice`, `CONTOSO.EXAMPLE\alice`, true},
		{`Ä\jürgen`, `ä\JÜRGEN`, true},
		{``, ``, false}, // nobody is not somebody
		{`CONTOSO\`, `CONTOSO\`, false},
		{`alice`, ``, false},
	} {
		a, b := sessions.ParseAccount(c.a), sessions.ParseAccount(c.b)
		if got := a.Matches(b); got != c.want {
			t.Errorf("%q matches %q: %v", c.a, c.b, got)
		}
		if got := b.Matches(a); got != c.want {
			t.Errorf("%q matches %q: %v (it must be symmetric)", c.b, c.a, got)
		}
	}
}

// An account's name as text and back is the same account, in whatever case.
func TestAccountTextRoundTrip(t *testing.T) {
	part := rapid.StringMatching(`[A-Za-zäöüЖя0-9._-]{1,12}`)
	rapid.Check(t, func(t *rapid.T) {
		a := sessions.Account{Domain: part.Draw(t, "domain"), User: part.Draw(t, "user")}
		if a.Domain == "." {
			t.Skip("stands for this computer")
		}
		if got := sessions.ParseAccount(a.String()); got != a {
			t.Fatalf("%+v came back as %+v", a, got)
		}
		if !a.Matches(a.Folded()) || !a.Folded().Matches(a) {
			t.Fatalf("%+v does not match itself in lower case", a)
		}
	})
}
