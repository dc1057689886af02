package daemon_test

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"testing"
	"time"

	"go.uber.org/zap/zapcore"

	"github.com/rdpbroker/rdpbroker/broker/audit"
	"github.com/rdpbroker/rdpbroker/broker/config"
	"github.com/rdpbroker/rdpbroker/broker/daemon"
	"github.com/rdpbroker/rdpbroker/broker/token"
	"github.com/rdpbroker/rdpbroker/rdpproxy/x224"
	"github.com/rdpbroker/rdpbroker/sessions"
	"github.com/rdpbroker/rdpbroker/sessions/simhost"
)

// writeKey makes a token key in a file of o.
func (o *office) writeKey(t testing.TB, name string) {
	t.Helper()
	var secret [token.KeySize]byte
	_, _ = rand.Read(secret[:]) // never fails
	o.write(t, name, token.FormatKey(secret)+"\n# a comment\n")
}

// seal makes a token with the keys of these files, as a client sends it.
func (o *office) seal(t testing.TB, tok token.Token, keys ...string) []byte {
	t.Helper()
	var files []string
	for _, k := range keys {
		files = append(files, o.path(k))
	}
	ring, err := daemon.TokenRing(config.Tokens{Keys: files})
	if err != nil {
		t.Fatal(err)
	}
	var nonce [token.NonceSize]byte
	_, _ = rand.Read(nonce[:])
	text, err := ring.Seal(tok, nonce)
	if err != nil {
		t.Fatal(err)
	}
	return []byte(text)
}

// tokenFor is a token of the farm office that is good now.
func tokenFor(user string) token.Token {
	return token.Token{Account: sessions.Account{Domain: "CONTOSO", User: user}, Farm: "office", MadeAt: time.Now(), ExpiresAt: time.Now().Add(time.Hour)}
}

// withToken is the first packet of a client that has a routing token.
func withToken(text []byte) []byte {
	return (&x224.Request{Token: text, Negotiation: &x224.Negotiation{Protocols: x224.ProtocolSSL | x224.ProtocolHybrid}}).Append(nil)
}

// TestSealedTokens: whoever carries a good token gets back to their own session or to the
// host that it names; whoever carries any other is nobody.
func TestSealedTokens(t *testing.T) {
	t.Parallel()
	var many []simhost.Seed // so that whoever is nobody is sent to ts1
	for i := range 20 {
		many = append(many, away(fmt.Sprint("user", i), time.Hour))
	}
	ts1, ts2 := startWindows(t, "ts1", full(30)), startWindows(t, "ts2", full(30), append(many, away("alice", time.Hour))...)
	o := newOffice(t, ts1, ts2)
	o.writeKey(t, "new.key")
	o.writeKey(t, "old.key")
	o.writeKey(t, "theirs.key")
	o.top += "identity: {tokens: {keys: [new.key, old.key], not_before: {mallory: 2200-01-01}}}\n"
	s := o.open(t)

	with := func(change func(*token.Token)) token.Token {
		tok := tokenFor("alice")
		change(&tok)
		return tok
	}
	good := o.seal(t, tokenFor("alice"), "new.key")
	forged := bytes.Clone(good)
	forged[len(forged)-3] = "AB"[forged[len(forged)-3]%2] // A is odd, B is even
	for i, c := range []struct {
		name       string
		text       []byte
		confidence sessions.Confidence
		verdict    token.Verdict
		host       *windows
	}{
		{"good", good, sessions.ConfidenceToken, token.Valid, ts2},
		{"by the old key", o.seal(t, tokenFor("alice"), "old.key"), sessions.ConfidenceToken, token.Valid, ts2},
		{"for a host", o.seal(t, with(func(x *token.Token) { x.Account.User, x.Host = "bob", "ts2" }), "new.key"), sessions.ConfidenceToken, token.Valid, ts2},
		{"expired", o.seal(t, with(func(x *token.Token) { x.MadeAt, x.ExpiresAt = time.Unix(1, 0), time.Unix(2, 0) }), "new.key"), sessions.ConfidenceNone, token.Expired, ts1},
		{"of another farm", o.seal(t, with(func(x *token.Token) { x.Farm = "linux" }), "new.key"), sessions.ConfidenceNone, token.OtherFarm, ts1},
		{"revoked", o.seal(t, tokenFor("mallory"), "new.key"), sessions.ConfidenceNone, token.Revoked, ts1},
		{"by another broker", o.seal(t, tokenFor("alice"), "theirs.key"), sessions.ConfidenceNone, token.UnknownKey, ts1},
		{"forged", forged, sessions.ConfidenceNone, token.Forged, ts1},
		{"a collection", []byte("tsv://MS Terminal Services Plugin.1.Office"), sessions.ConfidenceNone, token.Foreign, ts1},
	} {
		before := s.metric(t, `rdpbroker_tokens_total{farm="office",verdict="`+string(c.verdict)+`"}`)
		call := s.dial(t, fmt.Sprint("127.0.0.", 10+i)) // nobody's connections from one address are one logon
		call.say(withToken(c.text))
		call.connected()
		records := s.recorded(audit.Decided)
		d := records[len(records)-1]
		if d.Identity.Confidence != c.confidence || d.Identity.Token != string(c.verdict) || d.Decision.Host != c.host.name {
			t.Errorf("%s: confidence %s, token %s, %s: %s", c.name, d.Identity.Confidence, d.Identity.Token, d.Decision.Host, d.Decision.Reason)
		}
		if got := s.metric(t, `rdpbroker_tokens_total{farm="office",verdict="`+string(c.verdict)+`"}`); got != before+1 {
			t.Errorf("%s: counted %v times", c.name, got-before)
		}
		call.alive(c.host)
		call.Close()
		s.until(t, "the connection is over", func() bool { return s.metric(t, "rdpbroker_connections_open") == 0 })
	}

	// In a preconnection blob, which is no host's business.
	call := s.dial(t, "")
	blob := &x224.Preconnection{Version: 2, Payload: string(o.seal(t, tokenFor("alice"), "new.key"))}
	call.say(append(blob.Append(nil), named("somebody")...))
	call.connected()
	call.alive(ts2)

	// A key that cannot be read changes nothing; one that is out takes its tokens along.
	o.write(t, "old.key", "damaged\n")
	s.reload(t)
	if n := len(s.logged(zapcore.ErrorLevel, "NOT reloaded")); n != 1 {
		t.Errorf("a damaged key was logged %d times", n)
	}
	o.writeKey(t, "new.key")
	o.writeKey(t, "old.key")
	s.reload(t)
	call = s.dial(t, "127.0.0.9")
	call.say(withToken(good))
	call.connected()
	records := s.recorded(audit.Decided)
	if d := records[len(records)-1]; d.Identity.Token != string(token.UnknownKey) {
		t.Errorf("after its key was taken out the token is %s", d.Identity.Token)
	}
}

// TestADamagedKey is told at the start, by the name of its file.
func TestADamagedKey(t *testing.T) {
	o := newOffice(t, unreachable(t, "ts1"))
	o.top += "identity: {tokens: {keys: [token.key]}}\n"
	for text, want := range map[string]string{
		"":             "identity.tokens.keys[0]: " + o.path("token.key") + ": this is no token key",
		"secret sauce": "identity.tokens.keys[0]: " + o.path("token.key") + ": this is no token key",
	} {
		o.write(t, "token.key", text)
		_, err := daemon.New(o.parse(t), daemon.Options{})
		if err == nil || !bytes.HasPrefix([]byte(err.Error()), []byte(want)) || bytes.Contains([]byte(err.Error()), []byte("sauce")) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// TestATokenForANamedHost: a token with an address leads to the host that was reached
// there, though the configuration has only its DNS name.
func TestATokenForANamedHost(t *testing.T) {
	t.Parallel()
	ts1 := startWindows(t, "ts1", full(9))
	ts2 := startWindows(t, "ts2", full(9), away("bob", time.Hour))
	address := ts2.rdp
	ts2.rdp = "localhost:" + port(t, ts2.rdp)
	s := newOffice(t, ts1, ts2).open(t)
	for i, want := range []*windows{ts1, ts2} { // ts2 has been reached in between
		c := s.dial(t, fmt.Sprint("127.0.0.", 10+i))
		c.say(toAddress(t, address))
		c.connected()
		c.alive(want)
		c.Close()
		s.call(t, "", "bob").connected()
	}
}
