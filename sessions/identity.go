package sessions

import (
	"fmt"
	"net/netip"
)

// Confidence says how well a connection request tells who is coming. Higher is
// better; compare with <.
type Confidence uint8

// The rungs of the identity ladder.
const (
	ConfidenceNone    Confidence = iota // nothing is known
	ConfidenceAddress                   // the account last seen from this client address, or a static map
	ConfidencePrefix                    // a cookie of exactly 9 bytes, which may have been cut
	ConfidenceName                      // a cookie that cannot have been cut
	ConfidenceToken                     // a routing token that we sealed
)

var confidenceNames = [...]string{"none", "address", "prefix", "name", "token"}

func (c Confidence) String() string {
	if int(c) < len(confidenceNames) {
		return confidenceNames[c]
	}
	return fmt.Sprintf("Confidence(%d)", uint8(c))
}

// MarshalText writes the confidence by name.
func (c Confidence) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// UnmarshalText reads a name that MarshalText wrote; any other is an error.
func (c *Confidence) UnmarshalText(b []byte) error {
	for i, n := range confidenceNames {
		if n == string(b) {
			*c = Confidence(i)
			return nil
		}
	}
	return fmt.Errorf("unknown confidence %q", b)
}

// Identity is what a connection request tells of the caller. It is a hint until
// the host has accepted a password, and may be wrong or somebody else's.
type Identity struct {
	Confidence Confidence `json:"confidence"`
	// Said is what the client wrote (cookie or user part), bounded and with
	// unprintable bytes escaped; for people and keys, never compared with accounts.
	Said string `json:"said,omitempty"`
	// Accounts are the known accounts that the caller may be. Exactly one: that
	// is who it is taken for. More: it could be any of them and is nobody.
	Accounts []Account `json:"accounts,omitempty"`
	// Guess is, where Accounts is not exactly one, whose session was last seen after
	// the same address said the same; zero if there is none. It makes the host of
	// that session the first choice, and gives no right to anything else.
	Guess Account `json:"guess,omitzero"`
	// Known: the one account was seen on a host, learned before, or is listed in
	// broker.yaml. A name that somebody merely typed is not.
	Known bool `json:"known"`
	// Client is the address that the connection comes from.
	Client netip.Addr `json:"client,omitzero"`
	// Trusted: Client is in one of the networks of trusted_clients.
	Trusted bool `json:"trusted,omitempty"`
	// Host is the host that a token of ours, or an msts= token that names a
	// configured host, asks for; "" if none.
	Host string `json:"host,omitempty"`
	// Token says in one word what became of the routing token: "valid", or why it
	// is not believed; "" if there was none.
	Token string `json:"token,omitempty"`
	// TokenID tells a token of ours from all others, "" if it could not be opened.
	TokenID string `json:"token_id,omitempty"`
}

// Account is who the caller is taken for. ok is false if that is nobody: there
// is no candidate, or more than one.
func (id Identity) Account() (a Account, ok bool) {
	if len(id.Accounts) == 1 {
		return id.Accounts[0], true
	}
	return Account{}, false
}

// CouldBe reports whether the caller may be a. Whoever is not known exactly must
// not lose their own work to their own arrival, so this errs towards yes.
func (id Identity) CouldBe(a Account) bool {
	for _, x := range id.Accounts {
		if x.Matches(a) {
			return true
		}
	}
	return id.Guess.Matches(a)
}

// Key names the caller for reservations: requests with the same key belong to
// one logon. An account is one caller wherever it comes from; whoever is not
// known is told by address and by what they said.
func (id Identity) Key() string {
	if a, ok := id.Account(); ok {
		return "account:" + a.Folded().String()
	}
	return "client:" + id.Client.String() + "/" + id.Said
}
