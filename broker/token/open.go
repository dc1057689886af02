package token

import (
	"encoding/hex"
	"strings"
	"time"

	"github.com/rdpbroker/rdpbroker/sessions"
)

// Verdict is what became of a routing token, in one word. The list is closed, so
// that it can be a metric label.
type Verdict string

// The verdicts. Only Valid makes anybody known.
const (
	Valid      Verdict = "valid"
	Foreign    Verdict = "foreign"     // not one of ours: of a load balancer, a session collection, or nonsense
	UnknownKey Verdict = "unknown-key" // in our form, by a key that is not in the ring, or not any more
	Forged     Verdict = "forged"      // in our form, with one of our key IDs, and not sealed by that key
	Expired    Verdict = "expired"
	OtherFarm  Verdict = "other-farm" // for another farm than that of the listener
	Revoked    Verdict = "revoked"
)

// Verdicts are all of them, for counters that want to start at zero.
func Verdicts() []Verdict {
	return []Verdict{Valid, Foreign, UnknownKey, Forged, Expired, OtherFarm, Revoked}
}

// Open reads a token that one of the ring's keys has sealed. The verdict is Valid
// or says why there is none; Judge then says whether it counts. text is a routing
// token without CR LF; Prefix may be missing and blanks may follow.
//
// Nothing is allocated for what is not in our form or of an unknown key, and how
// long it takes tells nothing of a key.
func (r *Ring) Open(text []byte) (Token, Verdict) {
	var buf [maxRaw]byte
	n, ok := decode(&buf, text)
	if !ok {
		return Token{}, Foreign
	}
	k, ok := r.key([4]byte(buf[idAt:]))
	if !ok {
		return Token{}, UnknownKey
	}
	raw := append(make([]byte, 0, maxRaw), buf[:n]...) // buf stays off the heap
	nonce := raw[nonceAt:sealedAt]
	plain, err := k.aead.Open(nil, nonce, raw[sealedAt:], raw[:nonceAt])
	if err != nil {
		return Token{}, Forged
	}
	t, ok := read(plain)
	if !ok {
		return Token{}, Foreign
	}
	t.ID = tokenID(nonce)
	return t, Valid
}

// decode reads the base64 of text into buf; ok is false if that cannot be a token
// of ours.
func decode(buf *[maxRaw]byte, text []byte) (n int, ok bool) {
	if len(text) >= len(Prefix) && strings.EqualFold(string(text[:len(Prefix)]), Prefix) {
		text = text[len(Prefix):]
	}
	for len(text) > 0 && text[len(text)-1] == ' ' {
		text = text[:len(text)-1]
	}
	if n = encoding.DecodedLen(len(text)); n < minRaw || n > maxRaw || n%3 != 2 {
		return 0, false
	}
	for _, c := range text {
		if c == '\r' || c == '\n' { // which the decoder would skip
			return 0, false
		}
	}
	n, err := encoding.Decode(buf[:], text)
	return n, err == nil && buf[0] == version
}

// About is the ID of the token in text and that of the key which it names, for
// tokens that cannot be opened. ok is false if it is not in our form.
func About(text []byte) (id, key string, ok bool) {
	var buf [maxRaw]byte
	if _, ok := decode(&buf, text); !ok {
		return "", "", false
	}
	return tokenID(buf[nonceAt:sealedAt]), hex.EncodeToString(buf[idAt:nonceAt]), true
}

// Revocations are the tokens that no longer count, although their time is not
// over. It is immutable.
type Revocations struct {
	// IDs are single tokens.
	IDs map[string]bool
	// Before makes all tokens of an account void that were made before a time.
	Before map[sessions.Account]time.Time
}

// Judge says whether t, which was opened, counts at a listener of farm: Valid,
// or why not.
func (t Token) Judge(farm string, now time.Time, r Revocations) Verdict {
	switch {
	case !now.Before(t.ExpiresAt):
		return Expired
	case t.Farm != farm:
		return OtherFarm
	case r.IDs[t.ID]:
		return Revoked
	}
	for a, before := range r.Before {
		if a.Matches(t.Account) && t.MadeAt.Before(before) {
			return Revoked
		}
	}
	return Valid
}
