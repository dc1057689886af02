package token_test

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/rdpbroker/rdpbroker/broker/token"
	"github.com/rdpbroker/rdpbroker/rdpproxy/x224"
	"github.com/rdpbroker/rdpbroker/sessions"
)

var (
	made  = time.Unix(1_800_000_000, 0)
	later = made.Add(time.Hour)
	alice = token.Token{
		Account: sessions.Account{Domain: "CONTOSO", User: "alice"}, Farm: "office", Host: "ts1",
		MadeAt: made, ExpiresAt: made.Add(24 * time.Hour),
	}
)

// key is the key of 32 times b.
func key(b byte) token.Key {
	return token.NewKey([token.KeySize]byte(bytes.Repeat([]byte{b}, token.KeySize)))
}

func ring(t interface{ Fatal(...any) }, keys ...token.Key) *token.Ring {
	r, err := token.NewRing(keys...)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func seal(t testing.TB, r *token.Ring, tok token.Token, nonce byte) string {
	t.Helper()
	text, err := r.Seal(tok, [token.NonceSize]byte(bytes.Repeat([]byte{nonce}, token.NonceSize)))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// TestGolden keeps tokens that were handed out readable by later versions.
func TestGolden(t *testing.T) {
	const text = "Cookie: msts=AcaDClAHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwf2ZVro1oFr9AyGFn_FcYyjH-PfP1wnZg6cM9X-75PRDmUC4LkidndRmzR-PiCdLPUSkOQ"
	r := ring(t, key(1))
	if got := seal(t, r, alice, 7); got != text {
		t.Errorf("sealed as %s", got)
	}
	got, verdict := r.Open([]byte(text))
	want := alice
	want.ID = "0707070707070707"
	if verdict != token.Valid || got != want {
		t.Errorf("opened as %+v, %s", got, verdict)
	}
	if id, k, ok := token.About([]byte(text)); !ok || id != want.ID || k != key(1).ID() {
		t.Errorf("it is about %s, %s, %v", id, k, ok)
	}
}

func TestOpen(t *testing.T) {
	r, other := ring(t, key(1), key(2)), ring(t, key(3))
	text := seal(t, r, alice, 7)
	body := strings.TrimPrefix(text, token.Prefix)
	change := func(i int) string {
		b := []byte(body)
		if b[i] == 'A' {
			b[i] = 'B'
		} else {
			b[i] = 'A'
		}
		return token.Prefix + string(b)
	}
	for _, c := range []struct {
		name, text string
		want       token.Verdict
	}{
		{"as it was sealed", text, token.Valid},
		{"padded with blanks", text + "  ", token.Valid},
		{"the prefix in another case", "COOKIE: MSTS=" + body, token.Valid},
		{"without the prefix", body, token.Valid},
		{"by the second key", seal(t, ring(t, key(2)), alice, 8), token.Valid},
		{"by a key that is not there", seal(t, other, alice, 9), token.UnknownKey},
		{"a changed key ID", change(3), token.UnknownKey},
		{"a changed nonce", change(10), token.Forged},
		{"a changed text", change(60), token.Forged},
		{"a changed tag", change(len(body) - 3), token.Forged},
		{"another version", change(0), token.Foreign},
		{"cut", text[:len(text)-2], token.Foreign},
		{"cut by four", text[:len(text)-4], token.Forged},
		{"longer", text + "AAAA", token.Forged},
		{"a line end within", text[:40] + "\r\n" + text[40:], token.Foreign},
		{"a blank within", text[:40] + " " + text[40:], token.Foreign},
		{"padded base64", text + "=", token.Foreign},
		{"nothing", "", token.Foreign},
		{"the prefix alone", token.Prefix, token.Foreign},
		{"an address", "Cookie: msts=3640205228.15629.0000", token.Foreign},
		{"a collection", "tsv://MS Terminal Services Plugin.1.Office", token.Foreign},
		{"another product's", "Cookie: msts=0123456789abcdef0123456789abcdef", token.Foreign},
		{"very long", token.Prefix + strings.Repeat("A", 5000), token.Foreign},
		{"of the longest length", token.Prefix + strings.Repeat("A", token.MaxText-len(token.Prefix)), token.Foreign},
	} {
		got, verdict := r.Open([]byte(c.text))
		if verdict != c.want {
			t.Errorf("%s: %s, want %s", c.name, verdict, c.want)
		}
		if (verdict == token.Valid) == (got == token.Token{}) {
			t.Errorf("%s: %s, and it says %+v", c.name, verdict, got)
		}
	}
	for _, r := range []*token.Ring{nil, new(token.Ring)} {
		if _, verdict := r.Open([]byte(text)); verdict != token.UnknownKey {
			t.Errorf("without any key: %s", verdict)
		}
	}
}

func TestJudge(t *testing.T) {
	a := alice
	a.ID = "0707070707070707"
	before := func(name string, at time.Time) token.Revocations {
		return token.Revocations{Before: map[sessions.Account]time.Time{sessions.ParseAccount(name): at}}
	}
	for _, c := range []struct {
		name string
		farm string
		now  time.Time
		rev  token.Revocations
		want token.Verdict
	}{
		{"within its time", "office", later, token.Revocations{}, token.Valid},
		{"before its time", "office", made.Add(-time.Hour), token.Revocations{}, token.Valid}, // another machine's clock
		{"at its end", "office", a.ExpiresAt, token.Revocations{}, token.Expired},
		{"long after", "office", a.ExpiresAt.AddDate(9, 0, 0), token.Revocations{}, token.Expired},
		{"another farm", "linux", later, token.Revocations{}, token.OtherFarm},
		{"the farm in another case", "Office", later, token.Revocations{}, token.OtherFarm},
		{"no farm", "", later, token.Revocations{}, token.OtherFarm},
		{"revoked", "office", later, token.Revocations{IDs: map[string]bool{a.ID: true}}, token.Revoked},
		{"another one revoked", "office", later, token.Revocations{IDs: map[string]bool{"0707070707070708": true}}, token.Valid},
		{"made before", "office", later, before(`contoso\ALICE`, made.Add(time.Second)), token.Revoked},
		{"made before, by the bare name", "office", later, before("alice", made.Add(time.Second)), token.Revoked},
		{"made at that time", "office", later, before("alice", made), token.Valid},
		{"somebody else's", "office", later, before(`FABRIKAM\alice`, made.Add(time.Second)), token.Valid},
	} {
		if got := a.Judge(c.farm, c.now, c.rev); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

func TestSealRefuses(t *testing.T) {
	with := func(change func(*token.Token)) token.Token {
		a := alice
		change(&a)
		return a
	}
	for _, c := range []struct {
		name string
		tok  token.Token
		want string
	}{
		{"nobody", with(func(a *token.Token) { a.Account.User = "" }), "a token needs a user"},
		{"no farm", with(func(a *token.Token) { a.Farm = "" }), "a token needs a farm"},
		{"a line end in a name", with(func(a *token.Token) { a.Host = "ts1\r\n" }), "not printable"},
		{"no text", with(func(a *token.Token) { a.Account.User = "\xff" }), "not printable"},
		{"no time", with(func(a *token.Token) { a.ExpiresAt = a.MadeAt }), "cannot be good from"},
		{"before 1970", with(func(a *token.Token) { a.MadeAt = time.Time{} }), "cannot be good from"},
		{"beyond 2106", with(func(a *token.Token) { a.ExpiresAt = a.MadeAt.AddDate(100, 0, 0) }), "cannot be good from"},
		{"a very long name", with(func(a *token.Token) { a.Account.User = strings.Repeat("a", 300) }), "316 bytes together, 83 at most"},
	} {
		if text, err := ring(t, key(1)).Seal(c.tok, [token.NonceSize]byte{}); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %q, %v; want %q", c.name, text, err, c.want)
		}
	}
	if _, err := new(token.Ring).Seal(alice, [token.NonceSize]byte{}); err == nil {
		t.Error("sealed without a key")
	}
}

// TestFits: the longest names that Seal takes fit into a request with everything
// in it, byte for byte, and one byte more does not.
func TestFits(t *testing.T) {
	r := ring(t, key(1))
	for n := range token.MaxNames + 2 {
		tok := token.Token{Farm: "f", Account: sessions.Account{User: "u" + strings.Repeat("x", max(0, n-2))}, MadeAt: made, ExpiresAt: later}
		text, err := r.Seal(tok, [token.NonceSize]byte{})
		if n > token.MaxNames {
			if !errors.Is(err, token.ErrTooLong) {
				t.Errorf("%d bytes of names: %v", n, err)
			}
			continue
		}
		if err != nil {
			t.Fatalf("%d bytes of names: %v", n, err)
		}
		if len(text)%2 != 0 || len(text) > token.MaxText {
			t.Errorf("%d bytes of names: %d bytes of text", n, len(text))
		}
		id := [16]byte{1, 2, 3}
		req := x224.Request{Token: []byte(text), Negotiation: &x224.Negotiation{Protocols: 0xb}, CorrelationID: &id}
		got, err := x224.ParseRequest(req.Append(nil))
		if err != nil || got.LengthMismatch || string(got.Token) != text {
			t.Errorf("%d bytes of names: the request is %+v, %v", n, got, err)
		}
	}
}

var (
	someName = rapid.StringMatching(`[A-Za-z0-9 .äÖ日_-]{0,12}`)
	some     = rapid.Custom(func(t *rapid.T) token.Token {
		return token.Token{
			Farm:    "f" + someName.Draw(t, "farm"),
			Account: sessions.Account{Domain: someName.Draw(t, "domain"), User: "u" + someName.Draw(t, "user")},
			Host:    someName.Draw(t, "host"),
			MadeAt:  made.Add(time.Duration(rapid.IntRange(0, 1e8).Draw(t, "made")) * time.Second),
		}
	})
)

// TestRoundTripAndTampering: what was sealed is opened as it was; with one bit
// changed anywhere, or by another key, it is not.
func TestRoundTripAndTampering(t *testing.T) {
	r := ring(t, key(1), key(2))
	rapid.Check(t, func(t *rapid.T) {
		tok := some.Draw(t, "token")
		tok.ExpiresAt = tok.MadeAt.Add(time.Duration(rapid.IntRange(1, 1e8).Draw(t, "for")) * time.Second)
		nonce := [token.NonceSize]byte(rapid.SliceOfN(rapid.Byte(), token.NonceSize, token.NonceSize).Draw(t, "nonce"))
		text, err := r.Seal(tok, nonce)
		if errors.Is(err, token.ErrTooLong) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		got, verdict := r.Open([]byte(text))
		if verdict != token.Valid || len(got.ID) != 16 {
			t.Fatalf("%s, ID %q", verdict, got.ID)
		}
		id := got.ID
		if got.ID = ""; got != tok {
			t.Fatalf("%+v became %+v", tok, got)
		}
		if len(text)%2 != 0 || len(text) > token.MaxText {
			t.Fatalf("%d bytes", len(text))
		}
		if again, _ := r.Open([]byte(text)); again.ID != id {
			t.Fatalf("IDs %s and %s", id, again.ID)
		}
		for _, farm := range []string{"", "f", tok.Farm + "x", strings.ToUpper(tok.Farm)} {
			if farm != tok.Farm && tok.Judge(farm, tok.MadeAt, token.Revocations{}) != token.OtherFarm {
				t.Fatalf("it counts in farm %q", farm)
			}
		}

		b := []byte(text)
		i, bit := rapid.IntRange(len(token.Prefix), len(b)-1).Draw(t, "at"), byte(1)<<rapid.IntRange(0, 7).Draw(t, "bit")
		b[i] ^= bit
		if got, verdict := r.Open(b); verdict == token.Valid {
			t.Fatalf("with %q in place of %q at %d it is opened as %+v", b[i], text[i], i, got)
		}
		if _, verdict := ring(t, key(3)).Open([]byte(text)); verdict != token.UnknownKey {
			t.Fatalf("another key says %s", verdict)
		}
	})
}

// TestGarbageAllocatesNothing: anybody can send a routing token.
func TestGarbageAllocatesNothing(t *testing.T) {
	r := ring(t, key(1))
	unknown := []byte(seal(t, ring(t, key(2)), alice, 7))
	for _, text := range [][]byte{
		[]byte("Cookie: msts=3640205228.15629.0000"), []byte("tsv://x"), bytes.Repeat([]byte("A"), 400), unknown, unknown[:100],
	} {
		if n := testing.AllocsPerRun(100, func() { r.Open(text) }); n != 0 {
			t.Errorf("%.40q costs %v allocations", text, n)
		}
	}
}

func TestKeys(t *testing.T) {
	secret := [token.KeySize]byte(bytes.Repeat([]byte{1}, token.KeySize))
	line := token.FormatKey(secret)
	k, err := token.ParseKey(" " + line + "\n")
	if err != nil || k.ID() != key(1).ID() || len(k.ID()) != 8 {
		t.Errorf("key %s, %v", k.ID(), err)
	}
	for _, bad := range []string{"", "secret", line[:len(line)-4], line + "AAAA", line + "!", "rdpbroker-token-key-2:" + line[22:]} {
		if _, err := token.ParseKey(bad); err == nil || strings.Contains(err.Error(), "AQEB") {
			t.Errorf("%q: %v", bad, err)
		}
	}
	if _, err := token.NewRing(key(1), key(2), key(1)); err == nil {
		t.Error("one key stands in the ring twice")
	}
	if got, want := ring(t, key(2), key(1)).IDs(), []string{key(2).ID(), key(1).ID()}; !slices.Equal(got, want) {
		t.Errorf("IDs %v, want %v", got, want)
	}
}

// FuzzOpen: whatever comes, no panic; and nothing that was not sealed is opened.
func FuzzOpen(f *testing.F) {
	r := ring(f, key(1))
	text := seal(f, r, alice, 7)
	for _, s := range []string{
		text, text[len(token.Prefix):], text + "  ", seal(f, ring(f, key(2)), alice, 7), "", token.Prefix,
		"Cookie: msts=3640205228.15629.0000", "tsv://x", "mth://localhost/x", token.Prefix + strings.Repeat("A", 187),
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		got, verdict := r.Open(b)
		if !slices.Contains(token.Verdicts(), verdict) {
			t.Errorf("verdict %q", verdict)
		}
		if (verdict == token.Valid) != (got.ID != "") {
			t.Errorf("%s, and it says %+v", verdict, got)
		}
		if verdict == token.Valid && !strings.Contains(string(b), text[len(token.Prefix):]) {
			t.Errorf("opened, and never sealed: %q", b)
		}
		if _, _, ok := token.About(b); ok != (verdict != token.Foreign) {
			t.Errorf("in our form: %v, but %s", ok, verdict)
		}
	})
}
