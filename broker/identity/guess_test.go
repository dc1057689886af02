package identity_test

import (
	"net/netip"
	"testing"

	"github.com/rdpbroker/rdpbroker/broker/identity"
	"github.com/rdpbroker/rdpbroker/sessions"
)

// TestWhatALogonTaught: the address and what was said there together tell whose
// session to go back to, where the name does not; and the last logon is right.
func TestWhatALogonTaught(t *testing.T) {
	other := netip.MustParseAddr("192.0.2.8")
	snap := showing(`CONTOSO\Administrator`, `CONTOSO\Administratrix`, `CONTOSO\alice`)
	r := identity.NewResolver(identity.Directory{}, identity.Memory{})
	ask := func(client netip.Addr, cookie string) sessions.Identity {
		return r.Resolve(identity.Hint{Client: client, Cookie: cookie}, snap)
	}
	// logon is that whoever says cookie at client turns out to be account.
	logon := func(client netip.Addr, cookie, account string) {
		r.Learn(ask(client, cookie), sessions.ParseAccount(account))
	}
	expect := func(when string, client netip.Addr, cookie, guess string) {
		t.Helper()
		id := ask(client, cookie)
		got, exact := id.Account()
		if !exact {
			got = id.Guess
		}
		if got.String() != guess {
			t.Errorf("%s: %q at %s is likely %q, want %q (%s)", when, cookie, client, got, guess, who(id))
		}
	}
	expect("at first", client, "Administr", "")

	logon(client, "Administr", `CONTOSO\Administratrix`)
	expect("once seen", client, "Administr", `CONTOSO\Administratrix`)
	expect("once seen, in another case", client, "ADMINISTR", `CONTOSO\Administratrix`)
	expect("elsewhere", other, "Administr", "")
	if id := ask(client, "Administr"); len(id.Accounts) != 2 || id.Known || !id.CouldBe(sessions.ParseAccount(`CONTOSO\Administrator`)) || id.Key() != ask(client, "Administr").Key() {
		t.Errorf("a guess is taken for knowledge: %+v", id)
	}
	logon(client, "Administr", `CONTOSO\Administrator`)
	expect("after the guess was wrong", client, "Administr", `CONTOSO\Administrator`)

	// Somebody whose name the client gets wrong.
	expect("a name that nobody has, cut", client, "oldname12", "")
	logon(client, "oldname12", `CONTOSO\alice`)
	expect("which is alice's", client, "oldname12", `CONTOSO\alice`)
	if id := ask(client, "oldname12"); !id.CouldBe(sessions.ParseAccount("alice")) {
		t.Errorf("it could not be alice: %+v", id)
	}

	// What is learned of one who says something else does not fit.
	logon(client, "Administr", `CONTOSO\alice`)
	expect("one whom the name cannot stand for", client, "Administr", "")
	logon(client, "alice", `CONTOSO\Administrator`)
	expect("an exact name", client, "alice", `CONTOSO\alice`)

	// A smart card says the same each time.
	logon(client, "@@BooZeoy", `CONTOSO\Administratrix`)
	logon(client, "@@BpNSrka", `CONTOSO\Administrator`)
	expect("a card", client, "@@BooZeoy", `CONTOSO\Administratrix`)
	expect("another card", client, "@@BpNSrka", `CONTOSO\Administrator`)
	expect("nothing said, whoever was last", client, "", `CONTOSO\Administrator`)
	expect("a card that was never seen", client, "@@BzzZzzz", `CONTOSO\Administrator`)

	r = r.WithDirectory(identity.Directory{Clients: map[netip.Prefix]sessions.Account{single(client): sessions.ParseAccount("kiosk")}})
	expect("the static map comes first", client, "@@BooZeoy", "kiosk")
}
