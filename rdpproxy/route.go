package rdpproxy

import (
	"context"
	"net/netip"
	"time"

	"github.com/rdpbroker/rdpbroker/rdpproxy/relay"
	"github.com/rdpbroker/rdpbroker/rdpproxy/x224"
)

// Router decides where a connection goes.
type Router interface {
	// Route returns where to connect req to. It may block, for a queue or an
	// eviction, until ctx ends, which it does when the client leaves or the proxy
	// stops, and must then return soon. A *RefusedError is a "no" with a reason;
	// any other error means that no decision could be made. Either way the client
	// sees a closed connection and nothing else.
	//
	// If the host of the first Route cannot be reached, Route is called once
	// more for the same request, after Done of the first. The same goes for a host
	// that cannot do what Route.Accepted asks for; see Request.Unproven.
	Route(ctx context.Context, req Request) (Route, error)
}

// PromptRouter is a Router that can often answer at once.
type PromptRouter interface {
	Router
	// RouteNow is Route where nothing has to be waited for. It never blocks. false
	// means that Route is to be asked instead.
	RouteNow(req Request) (Route, bool)
}

// Request is what is known of a connection before the first byte is answered.
// All of it but Local and Listener is chosen by whoever connects.
type Request struct {
	// Client is the address of the client, from the PROXY header where one is required.
	Client netip.AddrPort
	// Local is the address that the client connected to.
	Local netip.AddrPort
	// Listener is the name of the listener.
	Listener string
	// Opening is the first packet, and the preconnection blob if there was one.
	Opening *x224.Opening
	// Unproven is the name of a host that a Route with Accepted has led to, and that
	// lets this client in without asking for credentials first (no NLA); "" if none
	// has. Such a client is not connected there by that Route.
	Unproven string
}

// Route is a Router's yes. Whoever gets one must see to it that Done is called.
type Route struct {
	Host string // name of the host, for logs and counters
	Addr string // where to dial, host:port
	// Dials is how many dials to the host may be in flight, where the configuration
	// leaves that open. 0: few.
	Dials int
	Why   string // a word or a sentence for the log line
	// Resume is what the Router wants to know of this Route when the connection goes on
	// in another process; see Proxy.HandOver. The proxy does not look at it.
	Resume uint64
	// Accepted, if not nil, is called once the host has accepted the client's
	// credentials and the client goes on, and before the host has seen that: what
	// the client sends waits until it returns. It is called at most once, never
	// without good credentials as far as package tlswatch can tell, and never for a
	// client that leaves before. An error, or the end of ctx with the connection,
	// cuts the connection. So does TLS in which acceptance cannot be seen.
	Accepted func(ctx context.Context) error
	// Held is what the Router keeps for the connection, and is told once when that is over
	// or was not made. Never nil.
	Held Held
}

// Held is a Router's part in one connection.
type Held interface {
	// Done is called exactly once, unless DoneNow has said that it was enough.
	Done(Outcome)
	// DoneNow is Done where nothing has to be waited for. It never blocks. false means that
	// nothing was done, and that Done is to be called.
	DoneNow(Outcome) bool
}

// DoneFunc is a Held that always takes its time.
type DoneFunc func(Outcome)

// Done implements Held.
func (f DoneFunc) Done(o Outcome) { f(o) }

// DoneNow implements Held.
func (f DoneFunc) DoneNow(Outcome) bool { return false }

// Outcome is what became of a Route.
type Outcome struct {
	// DialError is why the host could not be reached; nil if it was, and also if
	// the client left or the proxy stopped before it was: that is no failing of
	// the host.
	DialError error
	// Relay is what was relayed. If the connection ended earlier, its Closer and
	// Err say by whom and why, and no bytes are counted.
	Relay relay.Result
	// Duration is the time since the connection was accepted.
	Duration time.Duration
}

// RefusedError is a Router's no.
type RefusedError struct {
	// Reason is a short sentence for the operator. The client never sees it.
	Reason string
}

func (e *RefusedError) Error() string { return "refused: " + e.Reason }
