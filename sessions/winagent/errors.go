package winagent

import (
	"errors"
	"fmt"
)

// WhyNoInput is UnusableError.Why of a host that takes no standard input.
const WhyNoInput = "its standard input is refused"

// UnusableError says that the host cannot run the agent, and that trying again
// would not help until somebody changes the host. Its sessions may still be
// readable in another way.
type UnusableError struct {
	// Why is a short phrase: "constrained language mode", "PowerShell is missing".
	Why string
	// Detail is what the host said, cut; "" if it said nothing.
	Detail string
}

func (e *UnusableError) Error() string {
	if e.Detail == "" {
		return "the agent cannot run: " + e.Why
	}
	return fmt.Sprintf("the agent cannot run: %s (%s)", e.Why, e.Detail)
}

// errNotPrivileged: Windows leaves out sessions that the caller may not query,
// without a word ([MS-TSTS] RpcGetEnumResultEx), so what is shown may be a lack
// of rights and not a lack of sessions.
var errNotPrivileged = errors.New("the account is no administrator and is shown neither a listener nor the services session: " +
	"it may not query the sessions of others, so those could be there unseen")
