package identity

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/rdpbroker/rdpbroker/broker/token"
	"github.com/rdpbroker/rdpbroker/sessions"
)

// byToken fills id from a token of ours, and reports whether there is a good
// one. Of any other it notes why it does not count: the caller is then whoever
// they would be without it.
func (r *Resolver) byToken(id *sessions.Identity, h Hint, snap *sessions.Snapshot) bool {
	t, verdict := r.open(h)
	if verdict == token.Valid {
		verdict = t.Judge(h.Farm, h.At, r.dir.Revoked)
	}
	id.Token, id.TokenID = string(verdict), t.ID
	if verdict != token.Valid {
		return false
	}
	id.Confidence, id.Said = sessions.ConfidenceToken, printable(t.Account.String())
	if t.Host != "" {
		id.Host = t.Host
	}
	id.Accounts = r.named(r.dir.mapped(t.Account), snap)
	if len(id.Accounts) == 0 {
		id.Accounts = []sessions.Account{r.dir.mapped(t.Account)}
	}
	// Whoever made the token knows the account, be it new. (One without its domain
	// may still be that of several people.)
	id.Known = len(id.Accounts) == 1
	return true
}

// open is the token that h holds, in its place or in the preconnection blob. The
// verdict is "" if there is none.
func (r *Resolver) open(h Hint) (token.Token, token.Verdict) {
	var verdict token.Verdict
	if len(h.Token) > 0 {
		t, v := r.dir.Tokens.Open(h.Token)
		if v != token.Foreign {
			return t, v
		}
		verdict = v
	}
	if h.Blob != "" {
		if t, v := r.dir.Tokens.Open([]byte(h.Blob)); v != token.Foreign {
			return t, v
		}
	}
	return token.Token{}, verdict
}

// longestName bounds a name in a preconnection blob, in characters: longer than
// any DOMAIN\user or UPN that a host lets log on.
const longestName = 256

// inBlob is the name that a preconnection blob gives in full, "" if none. The
// blob stands in an .rdp file that somebody has prepared, the cookie is what the
// client knows of its user: where they contradict each other, the cookie is right.
func (r *Resolver) inBlob(h Hint, cookie string) string {
	name := strings.TrimSpace(h.Blob)
	a := r.dir.Account(name)
	if a.IsZero() || len(name) > longestName || !utf8.ValidString(name) || strings.ContainsFunc(name, notInName) {
		return ""
	}
	if !named(cookie) {
		return name
	}
	if mayBeCut(h.Cookie) {
		fold := folding(cookie)
		if p := fold(wholeCharacters(cookie)); p != "" &&
			(canBegin(p, sessions.Account{Domain: fold(a.Domain), User: fold(a.User)}) || strings.HasPrefix(fold(name), p)) {
			return name
		}
		return ""
	}
	if strings.EqualFold(cookie, name) || r.parse(cookie).Matches(a) {
		return name
	}
	return ""
}

// notInName are characters that no Windows account has in its name, but texts do
// that other machines want of a blob, such as "GUID;EnhancedMode=1".
func notInName(c rune) bool {
	return !unicode.IsPrint(c) || strings.ContainsRune(`"/[]:;|=,+*?<>`, c)
}
