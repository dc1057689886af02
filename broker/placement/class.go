package placement

// Class is why a decision is as it is, in one of few words: for counters, where
// Decision.Reason is for people.
type Class string

// The classes of reasons.
const (
	// The caller gets a host.
	ClassOwn      Class = "own-session"
	ClassToken    Class = "token"  // a token names the host, which has a slot
	ClassPinned   Class = "pinned" // a slot on the host that the caller is pinned to
	ClassFreeSlot Class = "free-slot"
	ClassVictim   Class = "victim" // a slot that a logoff frees

	// No slot is free, and nobody is logged off.
	ClassEvictionOff   Class = "eviction-off"
	ClassShadow        Class = "shadow" // evict mode would have
	ClassClientCeiling Class = "client-ceiling"
	ClassHostCeiling   Class = "host-ceiling" // at least one host is at it, and no other gives anybody up
	ClassFarmCeiling   Class = "farm-ceiling" // that of the farm, or of all farms
	ClassHours         Class = "outside-hours"
	ClassUnproven      Class = "without-nla"
	ClassCaller        Class = "unknown-caller" // it is not known well enough who is coming
	ClassNoVictim      Class = "no-victim"      // no session may go

	// Other reasons to wait.
	ClassOwnHostFull Class = "own-host-full" // the caller's own session is on a host that is full
	ClassTooMany     Class = "too-many-reservations"
	ClassBehind      Class = "behind-others" // those who came before are looked at first
	ClassInternal    Class = "internal"      // the ledger failed, or other brokers were faster
	// ClassNoHost: the farm has none.
	ClassNoHost Class = "no-host"
	// ClassEnough: there are as many free slots as the farm wants.
	ClassEnough Class = "enough"
)

// Classes are the classes that a decision of kind k may have.
func (k Kind) Classes() []Class {
	switch k {
	case Reconnect, TakeOver:
		return []Class{ClassOwn}
	case Place:
		return []Class{ClassFreeSlot, ClassPinned, ClassToken}
	case MakeRoom:
		return []Class{ClassVictim}
	case WaitForSlot:
		return []Class{
			ClassEvictionOff, ClassShadow, ClassClientCeiling, ClassHostCeiling, ClassFarmCeiling,
			ClassHours, ClassUnproven, ClassCaller,
			ClassNoVictim, ClassOwnHostFull, ClassTooMany, ClassBehind, ClassInternal,
		}
	case KeepFree:
		return []Class{
			ClassVictim, ClassEnough, ClassEvictionOff, ClassShadow, ClassHostCeiling, ClassFarmCeiling, ClassHours,
			ClassNoVictim,
		}
	case Disconnect:
		return []Class{ClassVictim, ClassEnough, ClassEvictionOff, ClassFarmCeiling, ClassHours, ClassNoVictim}
	case Refuse:
		return []Class{ClassNoHost}
	}
	return nil
}
