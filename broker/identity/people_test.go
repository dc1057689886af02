package identity

import (
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/rdpbroker/rdpbroker/sessions"
)

// Looking only at those whose names begin so finds the same as looking at everybody.
func TestOfAllThatAreKnownTheRightOnesAreLookedAt(t *testing.T) {
	someName := rapid.OneOf(
		rapid.SampledFrom([]string{"alice", "Alice", "al", "ALICIA", "jürgen", "JÜRGEN", "\u212aelvin", "kelvin", "İpek", "ipek", "администратор", "contoso", "fabrikam east"}),
		rapid.StringMatching(`[a-cÄé]{1,4}`),
	)
	someDomain := rapid.SampledFrom([]string{"", "", "CONTOSO", "contoso.example", "FABRIKAMEAST", "AA", "Äb"})
	someAccount := rapid.Custom(func(t *rapid.T) sessions.Account {
		return sessions.Account{Domain: someDomain.Draw(t, "domain"), User: someName.Draw(t, "user")}
	})
	someCookie := rapid.OneOf(
		rapid.Custom(func(t *rapid.T) string {
			a := someAccount.Draw(t, "whose")
			b := []byte(rapid.SampledFrom([]string{a.User, a.String(), a.User + "@" + a.Domain, `.\` + a.User}).Draw(t, "written"))
			return string(b[:rapid.IntRange(0, len(b)).Draw(t, "cut")])
		}),
		rapid.SampledFrom([]string{"j\xfcr", "\xff", "", "@", `\`, "contoso", `contoso\`, `CONTOSO\a`, "contoso.e", `x\j`, "a\xfcb"}),
	)
	rapid.Check(t, func(t *rapid.T) {
		dir := Directory{
			Users:   rapid.SliceOfN(someAccount, 0, 4).Draw(t, "users"),
			Aliases: map[string]sessions.Account{someName.Draw(t, "alias"): someAccount.Draw(t, "alias of")},
			Clients: map[netip.Prefix]sessions.Account{netip.MustParsePrefix("192.0.2.9/32"): someAccount.Draw(t, "kiosk")},
		}
		r := over(dir, NewResolver(Directory{}, Memory{}).mem)
		for i := range rapid.IntRange(0, 4).Draw(t, "learned") {
			r.Learn(sessions.Identity{Client: netip.AddrFrom4([4]byte{192, 0, 2, byte(i % 3)}), Said: someName.Draw(t, "said")}, someAccount.Draw(t, "was"))
		}
		report := &sessions.Report{}
		for i, a := range rapid.SliceOfN(someAccount, 0, 5).Draw(t, "sessions") {
			report.Sessions = append(report.Sessions, sessions.Session{ID: i, Account: a, State: sessions.StateActive})
		}
		snap := sessions.NewSnapshot([]sessions.HostState{{Host: sessions.Host{Name: "ts1"}, Report: report}})

		all := r.knownFrom(snap, "")
		cookie := someCookie.Draw(t, "cookie")
		if got, want := r.withPrefix(cookie, snap), all.withPrefix(cookie, r.aliasesOf(cookie)); !reflect.DeepEqual(got, want) {
			t.Fatalf("%q: %v, not %v", cookie, got, want)
		}
		a := sessions.ParseAccount(cookie)
		if got, want := r.named(a, snap), all.named(a); len(got)+len(want) > 0 && !reflect.DeepEqual(got, want) {
			t.Fatalf("%+v: %v, not %v", a, got, want)
		}
	})
}

// People are who is remembered, however they were forgotten.
func TestPeopleAreWhoIsRemembered(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := NewResolver(Directory{}, Memory{Entries: 3, For: time.Hour})
		for range rapid.IntRange(0, 30).Draw(t, "logons") {
			n := rapid.IntRange(0, 5).Draw(t, "client")
			r.Learn(sessions.Identity{Client: netip.AddrFrom4([4]byte{192, 0, 2, byte(n)}), Said: rapid.SampledFrom([]string{"", "x", "y"}).Draw(t, "said")},
				sessions.Account{Domain: "CONTOSO", User: fmt.Sprintf("u%d", rapid.IntRange(0, 4).Draw(t, "account"))})
		}
		want := map[sessions.Account]bool{}
		for _, l := range slices.Concat(r.mem.last.Values(), r.mem.saying.Values()) {
			want[l.Account] = true
		}
		got := map[sessions.Account]bool{}
		r.mem.people.from("", func(a sessions.Account) { got[a] = true })
		if !maps.Equal(got, want) || len(want) != len(r.mem.people.users) || r.mem.people.anyDomain(func(string) bool { return true }) != (len(want) > 0) {
			t.Fatalf("%v, not %v", got, want)
		}
	})
}

// BenchmarkResolve is a connection to a farm of 50,000 sessions.
func BenchmarkResolve(b *testing.B) {
	hosts := make([]sessions.HostState, 1000)
	for i := range hosts {
		r := &sessions.Report{}
		for id := range 50 {
			r.Sessions = append(r.Sessions, sessions.Session{ID: id, State: sessions.StateActive, Account: sessions.Account{Domain: "CONTOSO", User: fmt.Sprintf("name%05d", i*50+id)}})
		}
		hosts[i] = sessions.HostState{Host: sessions.Host{Name: fmt.Sprintf("ts%04d", i)}, Report: r}
	}
	snap := sessions.NewSnapshot(hosts)
	r := NewResolver(Directory{}, Memory{})
	for _, cookie := range []string{"name33333", "NAME3333", `contoso\name33333`, `CONTOSO\n`} {
		b.Run(cookie, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				r.Resolve(Hint{Cookie: cookie}, snap)
			}
		})
	}
}
