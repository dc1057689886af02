package placement_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/rdpbroker/rdpbroker/broker/placement"
	"github.com/rdpbroker/rdpbroker/sessions"
)

// Whom the host's acceptance of a password lets evict whom.
func TestProofByCredentials(t *testing.T) {
	elsewhere := disc(1, "old", 9*hour)
	elsewhere.ClientAddr = netip.MustParseAddr("198.51.100.9")
	unknown := disc(1, "old", 9*hour)
	sameAddr := elsewhere
	sameAddr.ClientAddr = nobody().Client
	stranger := named("alice")
	stranger.Known = false
	refuse := func(p *placement.Policy) { p.Eviction.RefuseUnproven = true }

	for _, c := range []struct {
		name     string
		id       sessions.Identity
		session  sessions.Session
		unproven string
		policy   func(*placement.Policy)
		proof    bool
		want     string // why not
	}{
		{name: "by name", id: named("alice"), session: unknown, proof: true},
		{name: "a name that nobody has", id: stranger, session: unknown, proof: true},
		{name: "a prefix that fits two", id: prefix("alice1", "alice2"), session: unknown, proof: true},
		{name: "a prefix that the session could be", id: prefix("old", "older"), session: elsewhere, want: "caller's own"},
		{name: "a prefix that nobody has", id: prefix(), session: unknown, proof: true},
		{name: "a trusted client", id: trusted(named("alice")), session: unknown, proof: true},
		{name: "by address", id: at(sessions.ConfidenceAddress, named("alice")), session: elsewhere, proof: true},
		{name: "by address, from where it was used", id: at(sessions.ConfidenceAddress, named("alice")), session: sameAddr, want: "caller's address"},
		{name: "by address, not known from where it was used", id: at(sessions.ConfidenceAddress, named("alice")), session: unknown, want: "from where it was last used"},
		{name: "without anything", id: nobody(), session: elsewhere, proof: true},
		{name: "without anything, not known from where it was used", id: nobody(), session: unknown, want: "from where it was last used"},

		{name: "no NLA: by name", id: named("alice"), session: unknown, unproven: "a"},
		{name: "no NLA: a name that nobody has", id: stranger, session: unknown, unproven: "a", want: "not a known account"},
		{name: "no NLA: without anything", id: nobody(), session: elsewhere, unproven: "a", want: "not known who is coming"},
		{name: "no NLA: a trusted client", id: trusted(nobody()), session: unknown, unproven: "a"},
		{name: "no NLA on another host", id: named("alice"), session: unknown, unproven: "b", want: "no reason"},
		{name: "no NLA, which is refused", id: trusted(named("alice")), session: unknown, unproven: "a", policy: refuse, want: "a does not ask for a password"},
		{name: "refusing does not concern proof", id: named("alice"), session: unknown, policy: refuse, proof: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := evicting()
			p.Eviction.Proof = placement.Credentials
			if c.policy != nil {
				c.policy(&p)
			}
			v := view(host("a", 1, c.session))
			v.Unproven = c.unproven
			d := placement.Decide(v, c.id, p)
			if c.want == "" {
				if d.Kind != placement.MakeRoom || d.NeedsProof != c.proof {
					t.Errorf("got %s, proof %v: %s\n%+v", summary(d), d.NeedsProof, d.Reason, d.Candidates)
				}
				return
			}
			said := d.Reason
			for _, x := range d.Candidates {
				said += "; " + x.Why
			}
			if d.Kind != placement.WaitForSlot || !strings.Contains(said, c.want) {
				t.Errorf("got %s: %s; want %q", summary(d), said, c.want)
			}
		})
	}
}
