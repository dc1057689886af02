package auth

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// The file of people says who may come, one a line:
//
//	person NAME ROLE HASH            a password, as rdpbroker admin passwd writes it
//	person NAME ROLE -               known by what a trusted proxy says only
//	machine NAME ROLE UNTIL SHA256   a token, as rdpbroker admin token writes it; UNTIL is a
//	                                 time as in RFC 3339, or never
//
// Fields are separated by white space; # begins a comment.

// maxPeople bounds the entries of a file.
const maxPeople = 10000

// Entry is one line of the file.
type Entry struct {
	// Machine: it is known by a token. Else it is a person.
	Machine bool
	Name    string
	Role    Role
	// Until is when a machine's token ends; zero is never.
	Until time.Time

	secret string // as it stands in the file
	hash   *hash
	token  [sha256.Size]byte
}

// Kind is person or machine.
func (e *Entry) Kind() string {
	if e.Machine {
		return "machine"
	}
	return "person"
}

// HasPassword reports whether a person can log in with a password.
func (e *Entry) HasPassword() bool { return e.hash != nil }

// People are the entries of a file. Its zero value has none. It is immutable.
type People struct {
	entries []Entry
	byName  map[string]*Entry // of persons, in lower case
	byToken map[[sha256.Size]byte]*Entry
}

// Entries are all entries, in the order of the file. They are not to be changed.
func (p *People) Entries() []Entry { return p.entries }

// LineError is what is wrong with one line of the file.
type LineError struct {
	Line int
	What string
}

func (e *LineError) Error() string { return fmt.Sprintf("line %d: %s", e.Line, e.What) }

// ParsePeople reads a file of people. The error is *LineError.
func ParsePeople(text []byte) (*People, error) {
	p := &People{byName: map[string]*Entry{}, byToken: map[[sha256.Size]byte]*Entry{}}
	text = bytes.TrimPrefix(text, []byte("\ufeff"))
	line := 0
	for raw := range bytes.Lines(text) {
		line++
		s, _, _ := strings.Cut(string(raw), "#")
		fields := strings.Fields(s)
		if len(fields) == 0 {
			continue
		}
		e, err := parseEntry(fields)
		if err != nil {
			return nil, &LineError{line, err.Error()}
		}
		if len(p.entries) == maxPeople {
			return nil, &LineError{line, fmt.Sprintf("there are more than %d", maxPeople)}
		}
		if i := slices.IndexFunc(p.entries, e.same); i >= 0 {
			return nil, &LineError{line, e.Kind() + " " + e.Name + " is there twice"}
		}
		p.entries = append(p.entries, e)
	}
	for i := range p.entries { // they stay where they are now
		if e := &p.entries[i]; e.Machine {
			p.byToken[e.token] = e
		} else {
			p.byName[strings.ToLower(e.Name)] = e
		}
	}
	return p, nil
}

func (e *Entry) same(o Entry) bool {
	return e.Machine == o.Machine && strings.EqualFold(e.Name, o.Name)
}

func parseEntry(f []string) (e Entry, err error) {
	switch {
	case f[0] == "person" && len(f) == 4:
	case f[0] == "machine" && len(f) == 5:
		e.Machine = true
	case f[0] == "person":
		return e, fmt.Errorf("a person has a name, a role and a hash, or - for none")
	case f[0] == "machine":
		return e, fmt.Errorf("a machine has a name, a role, a time or never, and the SHA-256 of its token")
	default:
		return e, fmt.Errorf("it begins with %q, and not with person or machine", f[0])
	}
	if e.Name = f[1]; !goodName(e.Name) {
		return e, fmt.Errorf("%q is not a name: up to 64 letters, digits and . _ - @ + \\", e.Name)
	}
	if e.Role, err = ParseRole(f[2]); err != nil {
		return e, err
	}
	e.secret = f[len(f)-1]
	if !e.Machine {
		if e.secret == "-" {
			return e, nil
		}
		h, err := parseHash(e.secret)
		if err != nil {
			return e, fmt.Errorf("what stands for the password of %s %w", e.Name, err)
		}
		e.hash = &h
		return e, nil
	}
	if f[3] != "never" {
		if e.Until, err = time.Parse(time.RFC3339, f[3]); err != nil {
			return e, fmt.Errorf("%q is not a time such as 2027-01-31T12:00:00Z, nor never", f[3])
		}
	}
	sum, err := hex.DecodeString(e.secret)
	if err != nil || len(sum) != sha256.Size {
		return e, fmt.Errorf("what stands for the token of %s is not a SHA-256", e.Name)
	}
	copy(e.token[:], sum)
	return e, nil
}

// goodName reports whether s can stand in the file and in the audit.
func goodName(s string) bool {
	if s == "" || utf8.RuneCountInString(s) > 64 || !utf8.ValidString(s) {
		return false
	}
	for _, r := range s {
		if !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune(`._-@+\`, r) {
			return false
		}
	}
	return true
}

// person is the person of this name, in whatever case.
func (p *People) person(name string) (*Entry, bool) {
	e, ok := p.byName[strings.ToLower(name)]
	return e, ok
}

// machine is whose token this is, if it is one that is still good at now.
func (p *People) machine(token string, now time.Time) (*Entry, bool) {
	e, ok := p.byToken[sha256.Sum256([]byte(token))]
	if !ok || !e.Until.IsZero() && !now.Before(e.Until) {
		return nil, false
	}
	return e, true
}

// Line is the entry as a line of the file.
func (e *Entry) Line() string {
	if !e.Machine {
		return fmt.Sprintf("person %s %s %s\n", e.Name, e.Role, e.secret)
	}
	until := "never"
	if !e.Until.IsZero() {
		until = e.Until.UTC().Format(time.RFC3339)
	}
	return fmt.Sprintf("machine %s %s %s %s\n", e.Name, e.Role, until, e.secret)
}

// NewPerson is an entry for a person with this password; "" for one who is known
// by what a trusted proxy says only.
func NewPerson(name string, role Role, password string) (Entry, error) {
	secret := "-"
	if password != "" {
		var err error
		if secret, err = Hash(password); err != nil {
			return Entry{}, err
		}
	}
	return parseEntry([]string{"person", name, role.String(), secret})
}

// NewMachine is an entry for a machine, and the token that it must send: that is
// kept nowhere. A zero until is never.
func NewMachine(name string, role Role, until time.Time) (e Entry, token string, err error) {
	token = "rdpb_" + rand.Text() + rand.Text() // 260 bits
	sum := sha256.Sum256([]byte(token))
	text := "never"
	if !until.IsZero() {
		text = until.UTC().Format(time.RFC3339)
	}
	e, err = parseEntry([]string{"machine", name, role.String(), text, hex.EncodeToString(sum[:])})
	return e, token, err
}

// Put is the file text with e in place of the entry of the same kind and name, or
// at its end. Comments and all other lines stay.
func Put(text []byte, e Entry) []byte { return edit(text, e, e.Line()) }

// Remove is the file text without e's kind and name; removed is false if there
// was none.
func Remove(text []byte, e Entry) (out []byte, removed bool) {
	out = edit(text, e, "")
	return out, len(out) < len(text)
}

func edit(text []byte, e Entry, with string) []byte {
	var out bytes.Buffer
	put := false
	for raw := range bytes.Lines(text) {
		s, _, _ := strings.Cut(string(raw), "#")
		f := strings.Fields(s)
		if len(f) > 1 && f[0] == e.Kind() && strings.EqualFold(f[1], e.Name) {
			if !put {
				out.WriteString(with)
				put = true
			}
			continue
		}
		out.Write(raw)
	}
	if !put && with != "" {
		if b := out.Bytes(); len(b) > 0 && b[len(b)-1] != '\n' {
			out.WriteByte('\n')
		}
		out.WriteString(with)
	}
	return out.Bytes()
}
