package placement_test

import (
	"strings"
	"testing"

	"github.com/rdpbroker/rdpbroker/broker/placement"
	"github.com/rdpbroker/rdpbroker/sessions"
)

// One slot of the farm is kept for administrators.
func TestReservedSlots(t *testing.T) {
	admin := named(`CONTOSO\Administrator`)
	stranger := admin
	stranger.Known = false
	cut := prefix(`CONTOSO\administrator`)
	busy := []sessions.HostState{host("a", 2, active(1, "x"), active(2, "y")), host("b", 2, active(1, "z"))}
	adminIn := []sessions.HostState{host("a", 2, active(1, "x"), active(2, `CONTOSO\administrator`)), host("b", 2, active(1, "z"))}
	two := []sessions.HostState{host("a", 2, active(1, "x")), host("b", 2, active(1, "z"))}
	full := []sessions.HostState{host("a", 1, active(1, "x"))}
	victim := []sessions.HostState{host("a", 2, disc(1, "old", 9*hour))}
	token := named("alice")
	token.Host = "b"
	for _, c := range []struct {
		name   string
		hosts  []sessions.HostState
		id     sessions.Identity
		claims []placement.Claim
		want   string // the decision, or what is said of host b as a slot
	}{
		{"the last one is kept", busy, named("alice"), nil, "kept for others: 1 of the farm's slots are free, and 1 reserved"},
		{"a token is no way around it", busy, token, nil, "named by the token, but kept for others"},
		{"for the administrator", busy, admin, nil, "place b"},
		{"for one whose name was cut", busy, cut, nil, "place b"},
		{"for one guessed by address", busy, at(sessions.ConfidenceAddress, admin), nil, "kept for others"},
		{"for a name that nobody has", busy, stranger, nil, "kept for others"},
		{"for a name that fits two", busy, prefix("administrator", "administratrix"), nil, "kept for others"},
		{"another one is free", two, named("alice"), nil, "place a"},
		{"the administrator is there already", adminIn, named("alice"), nil, "place b"},
		{"the administrator is on the way", two, named("alice"), []placement.Claim{{Host: "a", Account: sessions.Account{User: "administrator"}}}, "place b"},
		{"somebody else is on the way", two, named("alice"), []placement.Claim{{Host: "a", Account: sessions.Account{User: "carol"}}}, "kept for others"},
		{"somebody of whom nothing is known is on the way", two, named("alice"), []placement.Claim{{Host: "a"}}, "kept for others"},
		{"none is free", full, named("alice"), nil, "wait"},
		{"a victim's is not kept", victim, named("alice"), nil, "make-room a victim a/1"},
	} {
		for _, brief := range []bool{false, true} {
			v := view(c.hosts...)
			v.Brief, v.Claims = brief, placement.NewClaims(c.claims...)
			p := evicting()
			p.Reserve = placement.Reserve{Users: []string{"admin*"}, Slots: 1}
			d := placement.Decide(v, c.id, p)
			if summary(d) == c.want {
				continue
			}
			if brief && d.Kind == placement.WaitForSlot || !brief && strings.Contains(why(d, "slot", "b", 0), c.want) && d.Kind == placement.WaitForSlot && strings.Contains(d.Reason, "the free slots are kept for others") {
				continue
			}
			t.Errorf("%s: %s: %s; %q (brief: %v)", c.name, summary(d), d.Reason, why(d, "slot", "b", 0), brief)
		}
	}
}
