package sessions_test

import (
	"net/netip"
	"testing"

	"github.com/rdpbroker/rdpbroker/sessions"
)

func TestConfidenceTextRoundTrip(t *testing.T) {
	for c := sessions.ConfidenceNone; c <= sessions.ConfidenceToken; c++ {
		b, err := c.MarshalText()
		if err != nil {
			t.Fatal(err)
		}
		var back sessions.Confidence
		if err := back.UnmarshalText(b); err != nil || back != c {
			t.Errorf("%s came back as %s, %v", c, back, err)
		}
	}
	var c sessions.Confidence
	if err := c.UnmarshalText([]byte("absolute")); err == nil {
		t.Error("a confidence that does not exist was read")
	}
}

func TestIdentityAccountAndCouldBe(t *testing.T) {
	alice, bob := sessions.ParseAccount(`CONTOSO\alice`), sessions.ParseAccount(`CONTOSO\bob`)
	for _, c := range []struct {
		name  string
		id    sessions.Identity
		exact bool
		could bool // be the alice of a listing without domains
	}{
		{"nobody", sessions.Identity{}, false, false},
		{"alice", sessions.Identity{Accounts: []sessions.Account{alice}}, true, true},
		{"alice or bob", sessions.Identity{Accounts: []sessions.Account{bob, alice}}, false, true},
		{"bob", sessions.Identity{Accounts: []sessions.Account{bob}}, true, false},
	} {
		if _, ok := c.id.Account(); ok != c.exact {
			t.Errorf("%s: exact %v", c.name, ok)
		}
		if got := c.id.CouldBe(sessions.Account{User: "ALICE"}); got != c.could {
			t.Errorf("%s: could be alice: %v", c.name, got)
		}
		if c.id.CouldBe(sessions.Account{}) {
			t.Errorf("%s could be nobody", c.name)
		}
	}
}

func TestIdentityKey(t *testing.T) {
	one, two := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	alice := []sessions.Account{{Domain: "CONTOSO", User: "Alice"}}
	lower := []sessions.Account{{Domain: "contoso", User: "alice"}}
	both := []sessions.Account{{User: "alice"}, {User: "alicia"}}
	for _, c := range []struct {
		name string
		a, b sessions.Identity
		same bool
	}{
		{"an account is one caller wherever it comes from", sessions.Identity{Accounts: alice, Client: one, Said: "alice"}, sessions.Identity{Accounts: lower, Client: two, Said: `CONTOSO\a`}, true},
		{"whoever may be several is told by address", sessions.Identity{Accounts: both, Client: one, Said: "ali"}, sessions.Identity{Accounts: both, Client: two, Said: "ali"}, false},
		{"and by what they said", sessions.Identity{Client: one, Said: "ali"}, sessions.Identity{Client: one, Said: "bob"}, false},
		{"and is the same one again", sessions.Identity{Client: one, Said: "ali"}, sessions.Identity{Client: one, Said: "ali"}, true},
		{"nobody is not the account of that name", sessions.Identity{Client: one, Said: "contoso\\alice"}, sessions.Identity{Accounts: alice, Client: one}, false},
	} {
		if got := c.a.Key() == c.b.Key(); got != c.same {
			t.Errorf("%s: %q and %q", c.name, c.a.Key(), c.b.Key())
		}
	}
}

func TestTriText(t *testing.T) {
	for tri, text := range map[sessions.Tri]string{sessions.Unknown: "unknown", sessions.Yes: "yes", sessions.No: "no"} {
		if b, err := tri.MarshalText(); err != nil || string(b) != text {
			t.Errorf("%q, %v; want %q", b, err, text)
		}
		var back sessions.Tri
		if err := back.UnmarshalText([]byte(text)); err != nil || back != tri {
			t.Errorf("%q came back as %s, %v", text, back, err)
		}
	}
	tri := sessions.Yes
	if err := tri.UnmarshalText([]byte("perhaps")); err != nil || tri != sessions.Unknown {
		t.Errorf("an answer that is none became %s, %v", tri, err)
	}
}

func TestEvictionErrorsNameTheSession(t *testing.T) {
	ref := sessions.Ref{Host: "ts1", ID: 4}
	for err, want := range map[error]string{
		&sessions.RefusedError{Ref: ref, Why: "the user is connected again"}: "session ts1/4 was not logged off: the user is connected again",
		&sessions.StuckError{Ref: ref, State: sessions.StateDown}:            "session ts1/4 was told to log off but is still there (Down)",
	} {
		if err.Error() != want {
			t.Errorf("%q, want %q", err, want)
		}
	}
}
