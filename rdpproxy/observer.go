package rdpproxy

import (
	"net/netip"

	"github.com/rdpbroker/rdpbroker/rdpproxy/x224"
)

// Observer is told what happens, to count it. Every field may be nil. The
// functions are called by many goroutines at once and must not block.
type Observer struct {
	// Accepted is called for every connection that was accepted, before any limit.
	Accepted func(listener string)
	// Refused is called when a connection ends without a relay. kind is one of
	// RefusalKinds.
	Refused func(listener, kind string)
	// Opened is called when a relay begins, with the address that the host was
	// reached at, and Closed when it has ended.
	Opened func(listener, host string, at netip.AddrPort)
	Closed func(listener, host string, o Outcome)
	// DialFailed is called for every failed dial.
	DialFailed func(host string)
}

// Why connections end without a relay, besides the kinds of x224.FormatError.
const (
	RefusedTooMany                  = "too-many"                     // Config.MaxConnections
	RefusedTooManyFromClient        = "too-many-from-client"         // Config.MaxPerClient
	RefusedTooManyPending           = "too-many-pending"             // Config.MaxPending: the oldest such connection
	RefusedTooManyPendingFromClient = "too-many-pending-from-client" // Config.MaxPendingPerClient
	RefusedSlow                     = "slow"                         // Config.FirstPacketTimeout
	RefusedGone                     = "gone"                         // the client left, or its connection broke, before a relay began
	RefusedProxyHeader              = "bad-proxy-header"             // none, or a wrong one, where one is required
	RefusedProxyUntrusted           = "proxy-untrusted"              // not from Config.ProxyTrusted
	RefusedByRouter                 = "refused"                      // the Router said no
	RefusedRouterFailed             = "route-failed"                 // the Router could not decide
	RefusedUnreachable              = "unreachable"                  // no dial succeeded
	RefusedStopping                 = "stopping"                     // Shutdown
)

// RefusalKinds returns every kind that Observer.Refused may be called with, for
// counters that want to start at zero.
func RefusalKinds() []string {
	kinds := []string{
		RefusedTooMany, RefusedTooManyFromClient, RefusedTooManyPending, RefusedTooManyPendingFromClient,
		RefusedSlow, RefusedGone, RefusedProxyHeader, RefusedProxyUntrusted, RefusedByRouter,
		RefusedRouterFailed, RefusedUnreachable, RefusedStopping,
	}
	for _, k := range x224.Kinds() {
		kinds = append(kinds, string(k))
	}
	return kinds
}

// withDefaults is o with functions that do nothing in place of nil.
func (o Observer) withDefaults() Observer {
	if o.Accepted == nil {
		o.Accepted = func(string) {}
	}
	if o.Refused == nil {
		o.Refused = func(string, string) {}
	}
	if o.Opened == nil {
		o.Opened = func(string, string, netip.AddrPort) {}
	}
	if o.Closed == nil {
		o.Closed = func(string, string, Outcome) {}
	}
	if o.DialFailed == nil {
		o.DialFailed = func(string) {}
	}
	return o
}
