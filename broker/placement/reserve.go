package placement

import (
	"fmt"
	"slices"

	"github.com/rdpbroker/rdpbroker/sessions"
)

// Reserve keeps slots of a farm for some accounts, such as those of administrators,
// who would be locked out with everybody else. The zero value keeps none.
//
// It is about free slots only: whoever takes one evicts nobody by it, so that a name
// which turns out to be somebody else's does no more harm than a reservation. A
// caller is one of the accounts if it is known, by name or a prefix that only one
// known account matches.
type Reserve struct {
	// Users are patterns as in Eviction.Protect.
	Users []string
	// Slots is how many of the farm's are kept, less those in use by such accounts.
	Slots int
}

func (r *Reserve) isFor(a sessions.Account) bool {
	return !a.IsZero() && slices.ContainsFunc(r.Users, func(p string) bool { return globAccount(p, a) })
}

// heldBack is why the caller gets none of the farm's free slots, "" if they do: all
// that are left are kept for others.
func (d *decider) heldBack() string {
	r := &d.policy.Reserve
	if r.Slots <= 0 {
		return ""
	}
	if a, exact := d.id.Account(); exact && d.id.Known && d.id.Confidence >= sessions.ConfidencePrefix && r.isFor(a) {
		return ""
	}
	free, kept := 0, r.Slots
	for i := range d.hosts {
		h := &d.hosts[i]
		if d.takesNew(h) {
			free += h.free()
		}
		kept -= d.inUseBy(h, r)
	}
	if free == 0 || free > kept {
		return ""
	}
	return fmt.Sprintf("kept for others: %d of the farm's slots are free, and %d reserved", free, kept)
}

// inUseBy is how many of h's slots those hold whom r is for.
func (d *decider) inUseBy(h *hostView, r *Reserve) (n int) {
	if h.Report != nil {
		for _, s := range h.Report.Sessions {
			if h.Counted(s) && s.HasUser() && r.isFor(s.Account) {
				n++
			}
		}
	}
	for _, c := range d.view.Claims.onHost(h.Host.Name) {
		if r.isFor(c.Account) && claimHolds(d.view.Snapshot, h.HostState, &c) {
			n++
		}
	}
	return n
}
