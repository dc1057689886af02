package placement_test

import (
	"strings"
	"testing"
	"time"

	"github.com/rdpbroker/rdpbroker/broker/placement"
	"github.com/rdpbroker/rdpbroker/sessions"
)

const hour = time.Hour

// The order of the house: token, own disconnected session, own active session, a
// free slot, the slot of the stalest session, waiting, refusing.
func TestTheOrder(t *testing.T) {
	token := func(host string, id sessions.Identity) sessions.Identity { id.Host = host; return id }
	full := func(name string) sessions.HostState { return host(name, 1, active(9, "zoe")) }
	noTakeOver := changed(evicting(), func(p *placement.Policy) { p.TakeOverActive = false })
	unreachable := func(v placement.View, host string) placement.View {
		v.Unreachable = map[string]string{host: "connection refused"}
		return v
	}

	for _, c := range []struct {
		name   string
		view   placement.View
		id     sessions.Identity
		policy placement.Policy
		want   string
	}{
		// 1. the host that a token names
		{"token: own session there", view(host("a", 2, disc(1, "alice", hour)), host("b", 2, disc(5, "alice", time.Minute))),
			token("a", named("alice")), evicting(), "reconnect a own a/1"},
		{"token: free slot there, although own session elsewhere", view(host("a", 2), host("b", 2, disc(5, "alice", time.Minute))),
			token("a", named("alice")), evicting(), "place a"},
		{"token: for whoever it is", view(host("a", 5), host("b", 5)), token("b", nobody()), evicting(), "place b"},
		{"token: full, so as without it", view(full("a"), host("b", 2)), token("a", nobody()), evicting(), "place b"},
		{"token: draining, so as without it", view(with(host("a", 2), func(h *sessions.HostState) { h.Host.Draining = true }), host("b", 2)), token("a", nobody()), evicting(), "place b"},
		{"token: draining, but one's own session", view(with(host("a", 2, disc(1, "alice", hour)), func(h *sessions.HostState) { h.Host.Draining = true }), host("b", 2)), token("a", named("alice")), evicting(), "reconnect a own a/1"},
		{"token: cannot be reached", unreachable(view(host("a", 2, disc(1, "alice", hour)), host("b", 2)), "a"), token("a", named("alice")), evicting(), "place b"},
		{"token: of another farm", view(host("b", 2), with(host("a", 2), func(h *sessions.HostState) { h.Host.Farm = "school" })), token("a", nobody()), evicting(), "place b"},
		{"token: of no host", view(host("b", 2)), token("a", nobody()), evicting(), "place b"},

		// 2. own disconnected session
		{"own: before a free slot", view(host("a", 9), host("b", 2, disc(5, "alice", hour))), named("alice"), evicting(), "reconnect b own b/5"},
		{"own: the most recently disconnected, by host", view(host("a", 2, disc(5, "alice", 2*hour)), host("b", 2, disc(5, "alice", hour))), named("alice"), evicting(), "reconnect b own b/5"},
		{"own: the most recently disconnected, on one host", view(host("a", 4, disc(3, "alice", 2*hour), disc(4, "alice", hour), disc(5, "alice", 3*hour))), named("alice"), evicting(), "reconnect a own a/4"},
		{"own: on equal terms by host, then ID", view(host("b", 4, disc(1, "alice", hour)), host("a", 4, disc(5, "alice", hour), disc(3, "alice", hour))), named("alice"), evicting(), "reconnect a own a/3"},
		{"own: with a known time before one without", view(host("a", 4, with0(disc(1, "alice", 0))), host("b", 4, disc(5, "alice", 9*hour))), named("alice"), evicting(), "reconnect b own b/5"},
		{"own: disconnected before active", view(host("a", 4, active(1, "alice")), host("b", 4, disc(5, "alice", 9*hour))), named("alice"), evicting(), "reconnect b own b/5"},
		{"own: on a full host", view(host("a", 1, disc(1, "alice", hour)), host("b", 4)), named("alice"), evicting(), "reconnect a own a/1"},
		{"own: on a full host where the way back takes a slot", view(onlyActive(host("a", 1, disc(1, "alice", hour), active(2, "zoe"))), host("b", 4)), named("alice"), evicting(), "wait"},
		{"own: the second best, if the best is on such a host", view(onlyActive(host("a", 1, disc(1, "alice", hour), active(2, "zoe"))), host("b", 4, disc(1, "alice", 2*hour))), named("alice"), evicting(), "reconnect b own b/1"},
		{"own: where the way back takes a slot, and one is free", view(onlyActive(host("a", 2, disc(1, "alice", hour), active(2, "zoe")))), named("alice"), evicting(), "reconnect a own a/1"},
		{"own: on a draining host", view(with(host("a", 4, disc(1, "alice", hour)), func(h *sessions.HostState) { h.Report.Draining = true }), host("b", 4)), named("alice"), evicting(), "reconnect a own a/1"},
		{"own: on a host with a stale reading", view(stale(host("a", 4, disc(1, "alice", hour))), host("b", 4)), named("alice"), evicting(), "reconnect a own a/1"},
		{"own: on a host whose limit is not known", view(host("a", 0, disc(1, "alice", hour)), host("b", 4)), named("alice"), evicting(), "reconnect a own a/1"},
		{"own: on a host that cannot be reached", unreachable(view(host("a", 4, disc(1, "alice", hour)), host("b", 4)), "a"), named("alice"), evicting(), "place b"},
		{"own: the second best, if the best cannot be reached", unreachable(view(host("a", 4, disc(1, "alice", hour)), host("b", 4, disc(1, "alice", 2*hour))), "a"), named("alice"), evicting(), "reconnect b own b/1"},
		{"own: being logged off", leaving(view(host("a", 4, disc(1, "alice", hour)), host("b", 4)), "a", disc(1, "alice", hour)), named("alice"), evicting(), "place b"},
		{"own: a listing without domains", view(host("a", 4, disc(1, "alice", hour)), host("b", 4)), named(`CONTOSO\alice`), evicting(), "reconnect a own a/1"},
		{"own: not that of a namesake", view(host("a", 4, disc(1, `FABRIKAM\alice`, hour)), host("b", 4)), named(`CONTOSO\alice`), evicting(), "place b"},
		{"own: a prefix that fits one account", view(host("a", 4, disc(1, "administrator", hour)), host("b", 4)), prefix("administrator"), evicting(), "reconnect a own a/1"},
		{"own: a prefix that fits two goes beside", view(host("a", 4, disc(1, "administrator", hour)), host("b", 4)), prefix("administrator", "administrator2"), evicting(), "place b"},
		{"own: guessed from the address", view(host("a", 4, disc(1, "alice", hour)), host("b", 4)), at(sessions.ConfidenceAddress, named("alice")), evicting(), "reconnect a own a/1"},
		{"own: somebody unknown has none", view(host("a", 4, disc(1, "alice", hour)), host("b", 4)), nobody(), evicting(), "place b"},
		{"own: not one that is stuck on its way down", view(host("a", 4, withState(disc(1, "alice", hour), sessions.StateDown)), host("b", 4)), named("alice"), evicting(), "place b"},
		{"own: not one whose state could not be read", view(host("a", 4, withState(disc(1, "alice", hour), sessions.StateUnknown)), host("b", 4)), named("alice"), evicting(), "place b"},

		// 3. own active session
		{"take over", view(host("a", 4, active(1, "alice")), host("b", 4)), named("alice"), evicting(), "take-over a own a/1"},
		{"take over: the policy says no", view(host("a", 4, active(1, "alice")), host("b", 4)), named("alice"), noTakeOver, "place b"},
		{"take over: by host on equal terms", view(host("b", 4, active(1, "alice")), host("a", 4, active(7, "alice"))), named("alice"), evicting(), "take-over a own a/7"},

		// 4. a free slot
		{"slot: the emptiest host", view(host("a", 4, active(1, "x")), host("b", 4)), nobody(), evicting(), "place b"},
		{"slot: by name on equal terms", view(host("c", 4), host("a", 4), host("b", 4)), nobody(), evicting(), "place a"},
		{"slot: rather than somebody's old session", view(host("a", 1, disc(1, "old", 99*hour)), host("b", 5, active(1, "v"), active(2, "w"))), named("alice"), evicting(), "place b"},
		{"slot: not on a host that is stale", view(stale(host("a", 4)), host("b", 4, active(1, "x"))), nobody(), evicting(), "place b"},
		{"slot: nor one never read", view(with(host("a", 4), func(h *sessions.HostState) { h.Host.Slots, h.Report = 4, nil }), host("b", 4, active(1, "x"))), nobody(), evicting(), "place b"},
		{"slot: nor one whose limit is not known", view(host("a", 0), host("b", 4, active(1, "x"))), nobody(), evicting(), "place b"},
		{"slot: nor of another farm", view(with(host("a", 4), func(h *sessions.HostState) { h.Host.Farm = "school" }), host("b", 4, active(1, "x"))), nobody(), evicting(), "place b"},
		{"slot: nor where the caller's own session is being logged off", leaving(view(host("a", 4, disc(1, "alice", hour)), host("b", 4, active(1, "x"), active(2, "y"))), "a", disc(1, "alice", hour)), named("alice"), evicting(), "place b"},
		{"slot: but where it only may be the caller's own", leaving(view(host("a", 4, disc(1, "administrator", hour)), host("b", 4, active(1, "x"), active(2, "y"))), "a", disc(1, "administrator", hour)), prefix("administrator", "administrator2"), evicting(), "place a"},
		{"slot: but where one's own is stuck for good", untouchable(leaving(view(host("a", 4, disc(1, "alice", hour)), host("b", 4, active(1, "x"), active(2, "y"))), "a", disc(1, "alice", hour)), "a", disc(1, "alice", hour), "stuck"), named("alice"), evicting(), "place a"},

		// 5. the slot of the stalest session
		{"room: the stalest of all hosts", view(host("a", 2, disc(1, "u", 2*hour), disc(2, "v", 3*hour)), host("b", 2, disc(1, "w", 9*hour), active(2, "x"))), named("alice"), evicting(), "make-room b victim b/1"},
		{"room: by host, then ID, on equal terms", view(host("b", 1, disc(1, "u", 2*hour)), host("a", 2, disc(8, "v", 2*hour), disc(3, "w", 2*hour))), named("alice"), evicting(), "make-room a victim a/3"},

		// 6. waiting, 7. refusing
		{"wait: nothing to give", view(full("a"), full("b")), named("alice"), evicting(), "wait"},
		{"wait: no host can be read", view(stale(host("a", 4))), named("alice"), evicting(), "wait"},
		{"refuse: a farm without hosts", view(with(host("a", 4), func(h *sessions.HostState) { h.Host.Farm = "school" })), named("alice"), evicting(), "refuse"},
		{"refuse: nothing at all", placement.View{}, sessions.Identity{}, placement.Policy{}, "refuse"},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := placement.Decide(c.view, c.id, c.policy)
			if got := summary(d); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
				explain(t, d)
			}
			if d.Reason == "" {
				t.Error("no reason is given")
			}
		})
	}
}

// with0 is s without the time of its disconnect.
func with0(s sessions.Session) sessions.Session { s.DisconnectedAt = time.Time{}; return s }

func withState(s sessions.Session, st sessions.State) sessions.Session { s.State = st; return s }

// leaving is v in which s on host was told to log off.
func leaving(v placement.View, host string, s sessions.Session) placement.View {
	v.Leaving = map[sessions.Ref]bool{sessions.RefOf(host, s): true}
	return v
}

func untouchable(v placement.View, host string, s sessions.Session, why string) placement.View {
	v.Untouchable = map[sessions.Ref]string{sessions.RefOf(host, s): why}
	return v
}

func TestBalance(t *testing.T) {
	users := func(n int) (ss []sessions.Session) {
		for i := range n {
			ss = append(ss, active(i+1, "user"))
		}
		return ss
	}
	weighted := func(name string, weight, limit, used int) sessions.HostState {
		return with(host(name, limit, users(used)...), func(h *sessions.HostState) { h.Host.Weight = weight })
	}
	pin := func(account, host string) []placement.Pin {
		return []placement.Pin{{Account: sessions.ParseAccount(account), Host: host}}
	}
	for _, c := range []struct {
		name    string
		balance placement.Balance
		pins    []placement.Pin
		hosts   []sessions.HostState
		want    string
	}{
		{"least sessions, whatever the limit", placement.LeastSessions, nil, []sessions.HostState{host("a", 3, users(2)...), host("b", 50, users(3)...)}, "a"},
		{"least sessions, but not on a full host", placement.LeastSessions, nil, []sessions.HostState{host("a", 2, users(2)...), host("b", 50, users(3)...)}, "b"},
		{"fill first: the fewest slots left", placement.FillFirst, nil, []sessions.HostState{host("a", 9, users(1)...), host("b", 9, users(8)...), host("c", 9, users(9)...)}, "b"},
		{"weighted: a double host gets two users for one", placement.Weighted, nil, []sessions.HostState{weighted("a", 1, 9, 2), weighted("b", 2, 9, 3)}, "b"},
		{"weighted: until it has its share", placement.Weighted, nil, []sessions.HostState{weighted("a", 1, 9, 2), weighted("b", 2, 9, 5)}, "a"},
		{"weighted: no weight is one", placement.Weighted, nil, []sessions.HostState{weighted("a", 0, 9, 2), weighted("b", 1, 9, 1)}, "b"},
		{"weighted: by name on equal terms", placement.Weighted, nil, []sessions.HostState{weighted("b", 2, 9, 4), weighted("a", 1, 9, 2)}, "a"},
		{"pinned, to the fullest host", placement.LeastSessions, pin(`CONTOSO\alice`, "b"), []sessions.HostState{host("a", 9), host("b", 9, users(8)...)}, "b"},
		{"pinned, but full", placement.LeastSessions, pin(`CONTOSO\alice`, "b"), []sessions.HostState{host("a", 9), host("b", 9, users(9)...)}, "a"},
		{"pinned, but gone", placement.LeastSessions, pin(`CONTOSO\alice`, "z"), []sessions.HostState{host("a", 9), host("b", 9)}, "a"},
		{"somebody else is pinned", placement.LeastSessions, pin(`CONTOSO\bob`, "b"), []sessions.HostState{host("a", 9), host("b", 9)}, "a"},
	} {
		d := placement.Decide(view(c.hosts...), named("alice"), placement.Policy{Balance: c.balance, Pins: c.pins})
		if d.Kind != placement.Place || d.Host != c.want {
			t.Errorf("%s: %s, want %s", c.name, summary(d), c.want)
			explain(t, d)
		}
		if pinned := strings.Contains(d.Reason, "pinned"); pinned != (c.name == "pinned, to the fullest host") {
			t.Errorf("%s: %s", c.name, d.Reason)
		}
	}
}

// Every host is accounted for when somebody has to wait, so that an operator
// sees why.
func TestWhyThereIsNoSlot(t *testing.T) {
	v := view(
		host("a-full", 1, active(1, "x")),
		stale(host("b-stale", 9)),
		with(host("c-silent", 9), func(h *sessions.HostState) { h.Report, h.Problem = nil, "connection refused" }),
		with(host("d-new", 9), func(h *sessions.HostState) { h.Report = nil }),
		with(host("e-drained", 9), func(h *sessions.HostState) { h.Host.Draining = true }),
		host("f-endless", 0),
		host("g-down", 9),
		with(stale(host("h-lost", 9)), func(h *sessions.HostState) { h.Problem = "no route" }),
	)
	v.Unreachable = map[string]string{"g-down": "timeout"}
	d := placement.Decide(v, named("alice"), evicting())
	if d.Kind != placement.WaitForSlot {
		t.Fatalf("got %s", summary(d))
	}
	for host, want := range map[string]string{
		"a-full":    "1 of 1 slots in use",
		"b-stale":   "its reading is 1m1s old",
		"c-silent":  "never read: connection refused",
		"d-new":     "not read yet",
		"e-drained": "draining",
		"f-endless": "its session limit is not known",
		"g-down":    "cannot be reached: timeout",
		"h-lost":    "no route",
	} {
		if got := why(d, "slot", host, 0); !strings.Contains(got, want) {
			t.Errorf("%s: %q, want %q", host, got, want)
		}
	}
}

func TestUsed(t *testing.T) {
	own, other := disc(1, "alice", hour), disc(2, "bob", hour)
	gone := sessions.RefOf("a", disc(7, "carol", hour))
	ref := func(s sessions.Session) *sessions.Ref { r := sessions.RefOf("a", s); return &r }
	counts := host("a", 9, own, other, active(3, "dave"))
	not := with(counts, func(h *sessions.HostState) { h.Host.CountDisconnected = sessions.No })
	for _, c := range []struct {
		name         string
		claim        placement.Claim
		counts, nots int // further slots held, where disconnected sessions count and where not
	}{
		{"on another host", placement.Claim{Host: "b"}, 0, 0},
		{"a new session", placement.Claim{Host: "a"}, 1, 1},
		{"a new session that was seen", placement.Claim{Host: "a", Confirmed: true}, 0, 0},
		{"back to one's own", placement.Claim{Host: "a", Own: ref(own)}, 0, 1},
		{"back to one's own that is gone", placement.Claim{Host: "a", Own: &gone}, 1, 1},
		{"to one's own active one", placement.Claim{Host: "a", Own: ref(active(3, "dave"))}, 0, 0},
		{"in a victim's place", placement.Claim{Host: "a", Victim: ref(other)}, 0, 1},
		{"in the place of a victim that is gone", placement.Claim{Host: "a", Victim: &gone}, 1, 1},
	} {
		v := view(counts)
		v.Claims = placement.NewClaims(c.claim)
		if got := placement.Used(v, v.Snapshot.Host("a")); got != 3+c.counts {
			t.Errorf("%s: %d in use where disconnected sessions count, want %d", c.name, got, 3+c.counts)
		}
		v = view(not)
		v.Claims = placement.NewClaims(c.claim)
		if got := placement.Used(v, v.Snapshot.Host("a")); got != 1+c.nots {
			t.Errorf("%s: %d in use where they do not, want %d", c.name, got, 1+c.nots)
		}
	}
	if got := placement.Used(placement.View{}, &sessions.HostState{}); got != 0 {
		t.Errorf("%d in use on a host that was never read", got)
	}
}

// A guess makes the host of that one's session the first choice, and nothing else.
func TestAGuess(t *testing.T) {
	id := prefix("alice", "alicia")
	id.Guess = sessions.Account{User: "alicia"}
	for _, c := range []struct {
		name  string
		hosts []sessions.HostState
		kind  placement.Kind
		host  string
	}{
		{"their session", []sessions.HostState{host("a", 9), host("b", 9, disc(1, "alicia", hour))}, placement.Place, "b"},
		{"the last one", []sessions.HostState{host("a", 9), host("b", 9, disc(1, "alicia", hour)), host("c", 9, disc(1, "alicia", hour/2), active(2, "x"))}, placement.Place, "c"},
		{"not the other's", []sessions.HostState{host("a", 9), host("b", 9, disc(1, "alice", hour))}, placement.Place, "a"},
		{"not an active one", []sessions.HostState{host("a", 9), host("b", 9, active(1, "alicia"))}, placement.Place, "a"},
		{"not where no slot is free", []sessions.HostState{host("a", 9), host("b", 1, disc(1, "alicia", hour))}, placement.Place, "a"},
		{"not where nobody new is taken", []sessions.HostState{host("a", 9), stale(host("b", 9, disc(1, "alicia", hour)))}, placement.Place, "a"},
		{"neither gives way", []sessions.HostState{host("a", 1, disc(1, "alicia", 9*hour))}, placement.WaitForSlot, ""},
		{"nobody is logged off", []sessions.HostState{host("a", 1, disc(1, "bob", 9*hour))}, placement.WaitForSlot, ""},
	} {
		v := view(c.hosts...)
		for _, brief := range []bool{false, true} {
			v.Brief = brief
			if d := placement.Decide(v, id, evicting()); d.Kind != c.kind || d.Host != c.host || d.Own != nil {
				t.Errorf("%s, in brief %v: %s", c.name, brief, summary(d))
			}
		}
	}
}
