package sessions_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/rdpbroker/rdpbroker/sessions"
)

// Names that are hard to compare: by case, beyond ASCII, no UTF-8, and beginning alike.
var someUser = rapid.OneOf(
	rapid.SampledFrom([]string{"", "alice", "Alice", "ALICIA", "al", "bob", "müller", "MÜLLER", "straße", "kelvin", "\u212aelvin", "İpek", "ipek", "ſam", "sam", "x\xff", "x\xfe", "ς", "σ"}),
	rapid.StringMatching(`[a-c]{1,3}`),
)

func someState(t *rapid.T, name string) sessions.HostState {
	h := sessions.HostState{Host: sessions.Host{Name: name, Farm: string(name[0]), Weight: rapid.IntRange(0, 3).Draw(t, "weight")}}
	if rapid.IntRange(0, 5).Draw(t, "read") == 0 {
		return h
	}
	h.Report = &sessions.Report{Limit: rapid.IntRange(0, 4).Draw(t, "limit"), CountsDisconnected: sessions.Tri(rapid.IntRange(0, 2).Draw(t, "counts"))}
	for id := range rapid.IntRange(0, 4).Draw(t, "sessions") {
		h.Report.Sessions = append(h.Report.Sessions, sessions.Session{
			ID: id, State: rapid.SampledFrom([]sessions.State{sessions.StateActive, sessions.StateDisconnected, sessions.StateListen}).Draw(t, "state"),
			Account: sessions.Account{Domain: rapid.SampledFrom([]string{"", "CONTOSO", "contoso.example", "FABRIKAM"}).Draw(t, "domain"), User: someUser.Draw(t, "user")},
			LogonAt: time.Unix(int64(rapid.IntRange(0, 1).Draw(t, "logon")), 0),
		})
	}
	return h
}

// checkIndex compares what s answers with what is found by looking through all of it.
func checkIndex(t *rapid.T, s *sessions.Snapshot) {
	farms := map[string][]int{}
	var users []string
	for i := range s.Hosts {
		h := &s.Hosts[i]
		farms[h.Host.Farm] = append(farms[h.Host.Farm], i)
		if s.Position(h.Host.Name) != i {
			t.Fatalf("%s is at %d, not %d", h.Host.Name, s.Position(h.Host.Name), i)
		}
		counted := 0
		if h.Report != nil {
			for j, x := range h.Report.Sessions {
				users = append(users, x.Account.User)
				if h.Counted(x) {
					counted++
				}
				if ref := sessions.RefOf(h.Host.Name, x); *s.Ref(i, j) != ref {
					t.Fatalf("session %d of %s is %v", j, h.Host.Name, *s.Ref(i, j))
				}
			}
		}
		if s.Counted(i) != counted {
			t.Fatalf("%s: %d sessions hold slots, not %d", h.Host.Name, counted, s.Counted(i))
		}
	}
	for farm, all := range farms {
		if s.FarmSize(farm) != len(all) {
			t.Fatalf("farm %s has %d hosts, not %d", farm, len(all), s.FarmSize(farm))
		}
		free := slices.DeleteFunc(slices.Clone(all), func(i int) bool { return s.Hosts[i].Limit() <= s.Counted(i) })
		for o, key := range map[sessions.Order]func(i int) float64{
			sessions.BySessions: func(i int) float64 { return float64(s.Counted(i)) },
			sessions.ByShare:    func(i int) float64 { return float64(s.Counted(i)) / float64(max(1, s.Hosts[i].Host.Weight)) },
			sessions.ByFree:     func(i int) float64 { return float64(s.Hosts[i].Limit() - s.Counted(i)) },
		} {
			slices.SortStableFunc(free, func(a, b int) int {
				if x, y := key(a), key(b); x != y {
					return map[bool]int{true: -1, false: 1}[x < y]
				}
				return a - b
			})
			if !slices.Equal(s.Free(farm, o), free) {
				t.Fatalf("farm %s, order %d: %v, not %v", farm, o, s.Free(farm, o), free)
			}
		}
	}
	domains := map[string]bool{}
	for a := range s.Accounts {
		domains[a.Domain] = true
	}
	for _, d := range []string{"", "CONTOSO", "contoso.example", "FABRIKAM"} {
		if got := s.AnyDomain(func(x string) bool { return x == d }); got != domains[d] {
			t.Fatalf("domain %q: %v", d, got)
		}
	}
	for _, user := range append(users, "nobody") {
		for _, domain := range []string{"", "CONTOSO", "FABRIKAM"} {
			a := sessions.Account{Domain: domain, User: user}
			var want []int
			for i := range s.Hosts {
				if r := s.Hosts[i].Report; r != nil && slices.ContainsFunc(r.Sessions, func(x sessions.Session) bool { return x.HasUser() && x.Account.Matches(a) }) {
					want = append(want, i)
				}
			}
			if got := s.AppendHostsOf(nil, a); !slices.Equal(got, want) {
				t.Fatalf("%q has sessions at %v, not %v", a, want, got)
			}
		}
		cut := user[:len(user)/2]
		got := map[sessions.Account]bool{}
		s.UsersFrom(cut, func(a sessions.Account) bool { got[a] = true; return true })
		for a := range s.Accounts {
			if strings.HasPrefix(strings.ToLower(a.User), strings.ToLower(cut)) && !got[a] {
				t.Fatalf("%q begins with %q and is not found", a, cut)
			}
		}
	}
}

// However a Snapshot came about, it finds what looking through it finds.
func TestIndex(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var hosts []sessions.HostState
		for _, name := range rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"a1", "a2", "a3", "a4", "b1", "b2"}), 0, 6, rapid.ID[string]).Draw(t, "hosts") {
			hosts = append(hosts, someState(t, name))
		}
		s := sessions.NewSnapshot(hosts)
		checkIndex(t, s)
		for range rapid.IntRange(0, 8).Draw(t, "changes") {
			if len(hosts) == 0 {
				break
			}
			h := someState(t, rapid.SampledFrom(s.Hosts).Draw(t, "host").Host.Name)
			next, ok := s.With(h)
			if !ok {
				t.Fatalf("%s is not there", h.Host.Name)
			}
			checkIndex(t, next)
			checkIndex(t, s) // and stays as it was
			s = next
		}
		if _, ok := s.With(sessions.HostState{Host: sessions.Host{Name: "z"}}); ok {
			t.Fatal("a host that is not there was changed")
		}
		checkIndex(t, &sessions.Snapshot{Hosts: s.Hosts})
	})
}

// Enough sessions for several pieces of the index.
func TestIndexOfMany(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := sessions.NewSnapshot([]sessions.HostState{{Host: sessions.Host{Name: "a", Farm: "a"}}, {Host: sessions.Host{Name: "b", Farm: "a"}}})
		for range 6 {
			h := s.Hosts[rapid.IntRange(0, 1).Draw(t, "host")]
			r := &sessions.Report{}
			first := rapid.IntRange(0, 300).Draw(t, "first")
			for id := range rapid.SampledFrom([]int{0, 1, 100, 400}).Draw(t, "sessions") {
				r.Sessions = append(r.Sessions, sessions.Session{ID: id, State: sessions.StateActive, Account: sessions.Account{User: fmt.Sprintf("u%03d", (first+7*id)%500)}})
			}
			h.Report = r
			s, _ = s.With(h)
		}
		for n := range 500 {
			a := sessions.Account{User: fmt.Sprintf("U%03d", n)}
			for i := range s.Hosts {
				r := s.Hosts[i].Report
				want := r != nil && slices.ContainsFunc(r.Sessions, func(x sessions.Session) bool { return x.Account.Matches(a) })
				if got := slices.Contains(s.AppendHostsOf(nil, a), i); got != want {
					t.Fatalf("%s on %s: %v", a, s.Hosts[i].Host.Name, got)
				}
			}
		}
	})
}

// thousand is a farm of 1,000 hosts with 50 sessions each.
func thousand() *sessions.Snapshot {
	hosts := make([]sessions.HostState, 1000)
	for i := range hosts {
		r := &sessions.Report{Limit: 60}
		for id := range 50 {
			r.Sessions = append(r.Sessions, sessions.Session{ID: id + 2, State: sessions.StateActive, Account: sessions.Account{Domain: "CONTOSO", User: fmt.Sprintf("user%05d", i*50+id)}})
		}
		hosts[i] = sessions.HostState{Host: sessions.Host{Name: fmt.Sprintf("ts%04d", i), Farm: "office"}, Report: r}
	}
	return sessions.NewSnapshot(hosts)
}

// BenchmarkWith is one logon more in a large farm.
func BenchmarkWith(b *testing.B) {
	s := thousand()
	h := s.Hosts[500]
	r := *h.Report
	r.Sessions = append(slices.Clone(r.Sessions), sessions.Session{ID: 99, State: sessions.StateActive, Account: sessions.Account{User: "zoe"}})
	h.Report = &r
	b.ReportAllocs()
	for b.Loop() {
		s.With(h)
	}
}

// BenchmarkNewSnapshot is what a change cost when everything was made anew.
func BenchmarkNewSnapshot(b *testing.B) {
	s := thousand()
	b.ReportAllocs()
	for b.Loop() {
		sessions.NewSnapshot(s.Hosts)
	}
}
