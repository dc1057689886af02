// Package token seals and opens routing tokens: what an .rdp file or a thin
// client carries instead of a cookie, so that the broker knows exactly who is
// coming, and perhaps to which host. A token says who somebody is to the broker
// and to nobody else: the host still asks for the password.
//
// On the wire it is the routing token of [MS-RDPBCGR] 2.2.1.1,
//
//	Cookie: msts=BASE64URL CR LF
//
// and BASE64URL stands for
//
//	1B version | 4B key ID | 24B nonce | sealed text | 16B tag
//
// sealed by XChaCha20-Poly1305, with the first 5 bytes authenticated too. The
// text is
//
//	4B made at | 4B expires at | farm | domain | user | host | zeros
//
// with times in seconds since 1970, the highest byte first, a length byte before
// each name, and as many zeros (0 to 2) as make the whole line even, which
// Microsoft's ActiveX control wants of a LoadBalanceInfo.
//
// The package is pure: keys, time and randomness are arguments.
package token

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/rdpbroker/rdpbroker/sessions"
)

const (
	// Prefix is what every routing token begins with.
	Prefix = "Cookie: msts="
	// MaxText is the longest text of a token: with CR LF 202 bytes, the most that
	// an X.224 Connection Request with all of its other parts has room for, because
	// its length indicator is a byte.
	MaxText = 200
	// NonceSize is how many random bytes Seal takes.
	NonceSize = 24

	version  = 1
	idAt     = 1            // key ID
	nonceAt  = idAt + 4     // and what is authenticated but not sealed ends
	sealedAt = nonceAt + 24 // text and tag
	tagSize  = 16
	timeSize = 4
	names    = 4 // farm, domain, user, host

	// maxRaw is what a text of MaxText bytes decodes to.
	maxRaw = (MaxText - len(Prefix)) * 6 / 8
	minRaw = sealedAt + 2*timeSize + names + tagSize
	// MaxNames bounds farm, domain, user and host of a token together, in bytes.
	MaxNames = maxRaw - minRaw
)

var encoding = base64.RawURLEncoding.Strict()

// Token is what a routing token says. Times are whole seconds.
type Token struct {
	// ID tells it from all others, for logs and for revoking it: 16 hexadecimal
	// digits. Seal takes no notice of it.
	ID string
	// Account is whose token it is.
	Account sessions.Account
	// Farm is the farm for which it counts, never "".
	Farm string
	// Host is the host that it asks for, "" for any.
	Host string
	// MadeAt and ExpiresAt bound its life.
	MadeAt, ExpiresAt time.Time
}

// ErrTooLong is in the error of Seal for names that do not fit.
var ErrTooLong = errors.New("the names do not fit into a routing token")

// Seal makes the text of a token that says t, with the ring's first key: the
// whole line of the routing token without CR LF, of even length. nonce must come
// from a good source of randomness and never be used twice. The error says which
// of the names is wrong, or wraps ErrTooLong.
func (r *Ring) Seal(t Token, nonce [NonceSize]byte) (string, error) {
	if r == nil || len(r.keys) == 0 {
		return "", errors.New("there is no key to seal a token with")
	}
	text, err := t.text()
	if err != nil {
		return "", err
	}
	k := r.keys[0]
	raw := make([]byte, 0, maxRaw)
	raw = append(raw, version)
	raw = append(raw, k.id[:]...)
	raw = append(raw, nonce[:]...)
	raw = k.aead.Seal(raw, nonce[:], text, raw[:nonceAt])
	return Prefix + encoding.EncodeToString(raw), nil
}

// text is what is sealed.
func (t Token) text() ([]byte, error) {
	total := 0
	for _, n := range []struct {
		what, name string
		needed     bool
	}{{"farm", t.Farm, true}, {"domain", t.Account.Domain, false}, {"user", t.Account.User, true}, {"host", t.Host, false}} {
		total += len(n.name)
		switch {
		case n.needed && n.name == "":
			return nil, fmt.Errorf("a token needs a %s", n.what)
		case !legible(n.name):
			return nil, fmt.Errorf("the %s %q cannot stand in a token: it is not printable text", n.what, n.name)
		}
	}
	if total > MaxNames {
		return nil, fmt.Errorf("%w: farm %q, account %s and host %q have %d bytes together, %d at most; the account's NetBIOS name (CONTOSO\\user) is mostly the shortest",
			ErrTooLong, t.Farm, t.Account, t.Host, total, MaxNames)
	}
	made, expires := t.MadeAt.Unix(), t.ExpiresAt.Unix()
	if made < 0 || expires > math.MaxUint32 || expires <= made {
		return nil, fmt.Errorf("a token cannot be good from %s to %s", t.MadeAt.UTC().Format(time.RFC3339), t.ExpiresAt.UTC().Format(time.RFC3339))
	}
	text := make([]byte, 0, maxRaw)
	text = binary.BigEndian.AppendUint32(text, uint32(made))
	text = binary.BigEndian.AppendUint32(text, uint32(expires))
	for _, name := range []string{t.Farm, t.Account.Domain, t.Account.User, t.Host} {
		text = append(text, byte(len(name)))
		text = append(text, name...)
	}
	for len(text)%3 != 2 { // so that the base64 has an odd length, as Prefix has
		text = append(text, 0)
	}
	return text, nil
}

// read is what text, as it was sealed, says. ok is false for text that Seal does
// not write: of another program with the same key.
func read(text []byte) (t Token, ok bool) {
	if len(text) < 2*timeSize {
		return Token{}, false
	}
	t.MadeAt = time.Unix(int64(binary.BigEndian.Uint32(text)), 0)
	t.ExpiresAt = time.Unix(int64(binary.BigEndian.Uint32(text[timeSize:])), 0)
	text = text[2*timeSize:]
	for _, name := range []*string{&t.Farm, &t.Account.Domain, &t.Account.User, &t.Host} {
		if len(text) == 0 || len(text) < 1+int(text[0]) {
			return Token{}, false
		}
		*name, text = string(text[1:1+text[0]]), text[1+text[0]:]
		if !legible(*name) {
			return Token{}, false
		}
	}
	if len(text) > 2 || strings.Trim(string(text), "\x00") != "" {
		return Token{}, false
	}
	return t, t.Farm != "" && t.Account.User != "" && t.ExpiresAt.After(t.MadeAt)
}

func legible(name string) bool {
	return utf8.ValidString(name) && !strings.ContainsFunc(name, func(c rune) bool { return !unicode.IsPrint(c) })
}

// tokenID is the name of the token with this nonce, which is random and authentic.
func tokenID(nonce []byte) string { return hex.EncodeToString(nonce[:8]) }
