package placement_test

import (
	"encoding/json"
	"reflect"
	"testing"

	"pgregory.net/rapid"

	"github.com/rdpbroker/rdpbroker/broker/placement"
)

func TestGlob(t *testing.T) {
	for _, c := range []struct {
		pattern, name string
		want          bool
	}{
		{"alice", "ALICE", true},
		{"alice", "alice2", false},
		{"*", "", true},
		{"*", `CONTOSO\alice`, true},
		{"svc-*", "svc-", true},
		{"svc-*", "SVC-Backup", true},
		{"svc-*", "mysvc-x", false},
		{`CONTOSO\svc-*`, `contoso\svc-backup`, true},
		{`CONTOSO\svc-*`, `CONTOSO\alice`, false},
		{`CONTOSO\*`, `CONTOSO\alice`, true},
		{`*\alice`, `CONTOSO\alice`, true},
		{"a?b", "a/b", true}, // "/" is a character like any other
		{"a*c", "a/b/c", true},
		{"?ürgen", "Jürgen", true},
		{"[a-c]x", "bX", true},
		{"[a-c]x", "dx", false},
		{`a\*`, `a*`, false}, // a backslash escapes nothing
		{`a\*`, `a\anything`, true},
		{"[", "[", false},
		{"", "", true},
	} {
		if got := placement.Glob(c.pattern, c.name); got != c.want {
			t.Errorf("Glob(%q, %q) = %v", c.pattern, c.name, got)
		}
	}
}

// A pattern that can match nothing protects nobody: it must be found beforehand.
func TestValidGlob(t *testing.T) {
	for _, bad := range []string{"[", "a[", "*[", "x[]", "[a", "[a-", "[-a]", "alice[", `CONTOSO\[`, "*svc[a-]*"} {
		if placement.ValidGlob(bad) {
			t.Errorf("%q passes for a pattern", bad)
		}
	}
	for _, good := range []string{"", "*", "alice", `CONTOSO\svc-*`, `CONTOSO\`, "[abc]", "[^a]x", "a?b", "a]b", "setup.exe"} {
		if !placement.ValidGlob(good) {
			t.Errorf("%q does not pass for a pattern", good)
		}
	}
}

// Text without the characters of a pattern matches itself in any case, and
// nothing longer.
func TestPlainTextMatchesItself(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.StringMatching(`[A-Za-z0-9äÖ/\\ ._-]{1,20}`).Draw(t, "name")
		if !placement.Glob(name, name) || placement.Glob(name, name+"x") || placement.Glob(name, "x"+name) {
			t.Fatalf("%q", name)
		}
	})
}

func TestKindText(t *testing.T) {
	for k := placement.Reconnect; k <= placement.Disconnect; k++ {
		b, err := k.MarshalText()
		if err != nil {
			t.Fatal(err)
		}
		var back placement.Kind
		if err := back.UnmarshalText(b); err != nil || back != k {
			t.Errorf("%s came back as %s, %v", k, back, err)
		}
	}
	k := placement.Place
	if err := k.UnmarshalText([]byte("elsewhere")); err != nil || k != 0 {
		t.Errorf("a kind that does not exist was read as %s, %v", k, err)
	}
	if got := placement.Kind(99).String(); got != "none" {
		t.Errorf("a kind that does not exist is called %q", got)
	}
}

func TestModeAndProofWords(t *testing.T) {
	got := []string{placement.Off.String(), placement.Shadow.String(), placement.Evict.String(), placement.KnownUser.String(), placement.Credentials.String()}
	if want := []string{"off", "shadow", "evict", "known-user", "credentials"}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %q", got)
	}
}

// A decision is kept as JSON, in the audit and by a shared ledger, and must come
// back as it was.
func TestDecisionSurvivesJSON(t *testing.T) {
	d := placement.Decide(view(host("a", 1, disc(4, `CONTOSO\old`, 9*hour))), named("alice"), evicting())
	b, err := json.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	var back placement.Decision
	if err := json.Unmarshal(b, &back); err != nil {
		t.Fatal(err)
	}
	if back.Victim.Ref() != d.Victim.Ref() || back.Kind != d.Kind || back.Host != d.Host || len(back.Candidates) != len(d.Candidates) {
		t.Errorf("%+v came back as %+v", d, back)
	}
}
