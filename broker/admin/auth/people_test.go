package auth

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// cheap is a well-formed hash, of no known password.
const cheap = "$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$9yECpLMTCPJhDdSzG7N6bDtgCmbLYBdNtYvtrjzuOMI"

func TestHash(t *testing.T) {
	made, err := Hash("correct horse")
	if err != nil || !strings.HasPrefix(made, "$argon2id$v=19$m=19456,t=2,p=1$") {
		t.Fatal(made, err)
	}
	h, err := parseHash(made)
	if err != nil || !h.matches("correct horse") || h.matches("correct horsf") || h.matches("") {
		t.Errorf("the hash does not tell its password from others (%v)", err)
	}
	if other, err := Hash("correct horse"); err != nil || other == made {
		t.Errorf("two hashes of one password are the same (%v)", err)
	}
	for _, p := range []string{"", strings.Repeat("x", MaxPassword+1)} {
		if _, err := Hash(p); err == nil {
			t.Errorf("a password of %d bytes was hashed", len(p))
		}
	}
	// The reference implementation: echo -n password | argon2 somesalt -id -t 2 -m 16 -p 1
	ref, err := parseHash("$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc")
	if err != nil || !ref.matches("password") {
		t.Errorf("a hash of the reference implementation is not understood (%v)", err)
	}
}

func TestHashesThatAreNone(t *testing.T) {
	for _, s := range []string{
		"", "secret", "$2y$10$abcdefghijklmnopqrstuu", strings.Replace(cheap, "argon2id", "argon2i", 1),
		strings.Replace(cheap, "v=19", "v=16", 1), strings.Replace(cheap, "m=8", "m=4294967295", 1), strings.Replace(cheap, "t=1", "t=0", 1),
		strings.Replace(cheap, "p=1", "p=255", 1), strings.Replace(cheap, "c2FsdHNhbHQ", "!", 1), cheap[:50],
	} {
		if _, err := parseHash(s); err == nil {
			t.Errorf("%q passes for a hash", s)
		}
	}
}

func TestParsePeople(t *testing.T) {
	m, token, err := NewMachine("prometheus", Viewer, time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC))
	if err != nil {
		t.Fatal(err)
	}
	p, err := ParsePeople([]byte("\ufeff# who may come\r\n\nperson Anna admin " + cheap + "  # the boss\r\nperson bob@contoso.example helpdesk -\n" + m.Line()))
	if err != nil {
		t.Fatal(err)
	}
	if e, ok := p.person("ANNA"); !ok || e.Role != Admin || !e.HasPassword() || e.Name != "Anna" {
		t.Errorf("Anna: %+v, %v", e, ok)
	}
	if e, ok := p.person("bob@contoso.example"); !ok || e.Role != Helpdesk || e.HasPassword() {
		t.Errorf("bob: %+v, %v", e, ok)
	}
	if _, ok := p.person("prometheus"); ok {
		t.Error("a machine passes for a person")
	}
	before, after := m.Until.Add(-time.Second), m.Until
	if e, ok := p.machine(token, before); !ok || e.Name != "prometheus" || e.Role != Viewer {
		t.Errorf("the machine: %+v, %v", e, ok)
	}
	if _, ok := p.machine(token, after); ok {
		t.Error("a token is good after its end")
	}
	if _, ok := p.machine(token+"x", before); ok {
		t.Error("another token is good")
	}
	if _, ok := new(People).machine("", before); ok {
		t.Error("no token is good where there is nobody")
	}
}

func TestPeopleWithMistakes(t *testing.T) {
	for text, want := range map[string]string{
		"person anna admin":                                 "line 1: a person has",
		"\nperson anna chief " + cheap:                      "line 2: \"chief\" is not a role",
		"person anna admin secret":                          "is not an argon2id hash",
		"person an:na admin -":                              "is not a name",
		"person anna admin -\nperson ANNA viewer -":         "line 2: person ANNA is there twice",
		"machine m viewer soon " + strings.Repeat("0", 64):  "is not a time",
		"machine m viewer never 00":                         "is not a SHA-256",
		"machine m viewer never":                            "a machine has",
		"anna admin -":                                      `begins with "anna"`,
		"person anna anybody -":                             "is not a role",
		"person " + strings.Repeat("x", 65) + " viewer -\n": "is not a name",
	} {
		if _, err := ParsePeople([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
}

func TestPutAndRemove(t *testing.T) {
	text := []byte("# ours\nperson anna admin " + cheap + " # boss\n\nmachine anna viewer never " + strings.Repeat("0", 64))
	e, err := NewPerson("ANNA", Viewer, "")
	if err != nil {
		t.Fatal(err)
	}
	text = Put(text, e)
	if want := "# ours\nperson ANNA viewer -\n\nmachine anna viewer never " + strings.Repeat("0", 64); string(text) != want {
		t.Errorf("got\n%s\nwant\n%s", text, want)
	}
	bob, err := NewPerson("bob", Helpdesk, "")
	if err != nil {
		t.Fatal(err)
	}
	text = Put(text, bob)
	if !bytes.HasSuffix(text, []byte("\nperson bob helpdesk -\n")) {
		t.Errorf("got\n%s", text)
	}
	text, removed := Remove(text, Entry{Name: "Anna"})
	if !removed || bytes.Contains(text, []byte("person ANNA")) || !bytes.Contains(text, []byte("machine anna")) {
		t.Errorf("removed %v:\n%s", removed, text)
	}
	if _, removed := Remove(text, Entry{Name: "nobody"}); removed {
		t.Error("nobody was removed")
	}
}

// FuzzParsePeople: no panic, and what was read can be written and read again.
func FuzzParsePeople(f *testing.F) {
	f.Add([]byte("person anna admin " + cheap + "\nmachine m viewer 2027-01-01T00:00:00Z " + strings.Repeat("ab", 32) + "\n# x\n"))
	f.Add([]byte("person a viewer -"))
	f.Fuzz(func(t *testing.T, text []byte) {
		p, err := ParsePeople(text)
		if err != nil {
			return
		}
		var out bytes.Buffer
		for i := range p.Entries() {
			out.WriteString(p.Entries()[i].Line())
		}
		again, err := ParsePeople(out.Bytes())
		if err != nil || len(again.Entries()) != len(p.Entries()) {
			t.Errorf("%q was written as %q: %v", text, &out, err)
		}
	})
}

// TestFileIsReadAnew: a change counts soon, a mistake counts for nothing, and a
// file that is taken away lets nobody in.
func TestFileIsReadAnew(t *testing.T) {
	path := filepath.Join(t.TempDir(), "people")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := OpenFile(path, nil); err == nil {
		t.Error("a file that is not there was opened")
	}
	write("person anna admin -\n")
	f, err := OpenFile(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	names := func() (out string) {
		f.mu.Lock()
		f.looked = time.Time{} // a second has passed
		f.mu.Unlock()
		for _, e := range f.People().Entries() {
			out += e.Name + " "
		}
		return out
	}
	for _, step := range []struct{ text, want string }{
		{"person anna admin -\nperson bob viewer -\n", "anna bob "},
		{"person anna chief -\n", "anna bob "},
		{"person bob viewer -\n", "bob "},
	} {
		write(step.text)
		if got := names(); got != step.want {
			t.Errorf("after %q: %s", step.text, got)
		}
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if got := names(); got != "" {
		t.Errorf("without the file: %s", got)
	}
	write("person carol viewer -\n")
	if got := names(); got != "carol " {
		t.Errorf("after it came back: %s", got)
	}
}
