package rdpproxy

import (
	"cmp"
	"context"
	"net"
	"net/netip"
	"time"

	"github.com/rdpbroker/rdpbroker/rdpproxy/relay"
)

// Config are the settings of a Proxy. The zero value is usable. In every limit
// and time 0 means the default that its comment names, and a negative value "no
// limit".
type Config struct {
	// Listener names the listener given to Serve, for routers, logs and counters.
	Listener string
	// ProxyProtocol says whether connections to that listener begin with a PROXY header.
	ProxyProtocol ProxyProtocol
	// ProxyTrusted are the networks that may send PROXY headers. Connections from
	// anywhere else are refused while ProxyProtocol is ProxyRequired; so an empty
	// list refuses all.
	ProxyTrusted []netip.Prefix

	// FirstPacketTimeout is the time from accepting a connection to the end of
	// its first packet, a PROXY header and a preconnection blob included. 0: 10 s.
	FirstPacketTimeout time.Duration
	// MaxConnections is the number of connections in any step. 0: 10,000.
	MaxConnections int
	// MaxPerClient is the same for one client address (IPv6: one /64). Mind
	// offices behind one address. 0: 256.
	MaxPerClient int
	// MaxPending is the number of connections whose first packet has not come
	// yet. For one more the oldest of them is closed. 0: 2,048.
	MaxPending int
	// MaxPendingPerClient is the same for one client address (IPv6: one /64). 0: 32.
	MaxPendingPerClient int

	// DialTimeout bounds one attempt to connect to a host, and before that the
	// wait for a place among its DialsPerHost. 0: 5 s.
	DialTimeout time.Duration
	// DialsPerHost is the number of dials in flight per host address; others
	// queue in order. xrdp listens with a backlog of 2, and whoever overflows it
	// waits a second or more for TCP to try again. 0: Route.Dials, or 2 if that is 0.
	DialsPerHost int
	// AnswerWait is how long after connecting a dial still counts as in flight
	// while the host has not answered the request. A system completes connections
	// in the backlog by itself; only the answer tells that the host has taken the
	// connection out of it. Of 60 logons at once to an xrdp, 60 were answered
	// within 0.3 s with this, and 35 to 52 within 11 s without. 0: 1 s.
	// Negative: not at all.
	AnswerWait time.Duration
	// ConfirmTimeout is how long a host may take to answer the request where its
	// answer is awaited (Route.Accepted). 0: 30 s.
	ConfirmTimeout time.Duration
	// Dial connects to hosts, in place of net.Dialer: for a network in memory, or a
	// way around firewalls. It must end when ctx does. Nil means net.Dialer.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)

	// Portable has goroutines serve all connections, as they do wherever there is no
	// epoll. It is for New; Reload does not change it.
	Portable bool
	// DeferAccept has connections come when their first byte is there, or they have been
	// silent for a second (TCP_DEFER_ACCEPT), where loops serve them: nobody is woken for a
	// connection twice. Read as a listener is served.
	DeferAccept bool
	// Loops is how many loops serve connections where there are loops, one for each core
	// at best, 16 at most. Each may hold one of GOMAXPROCS for itself: there should be more of
	// them. 0: all of GOMAXPROCS but one, and 1 at least. Read once, as the first listener is served.
	Loops int

	// KeepAlive says how vanished clients and hosts are noticed.
	KeepAlive relay.KeepAlive
	// Linger is relay.Options.Linger.
	Linger time.Duration

	dials bool // Dial was set
}

// dialsTo is how many dials to the host of rt may be in flight.
func (c *Config) dialsTo(rt Route) int {
	const careful = 2
	return cmp.Or(c.DialsPerHost, rt.Dials, careful)
}

// ProxyProtocol says what stands before the first packet of a connection.
type ProxyProtocol uint8

const (
	// ProxyOff: nothing. A PROXY header is refused like any other wrong byte.
	ProxyOff ProxyProtocol = iota
	// ProxyRequired: a PROXY header, version 1 or 2. The client's address is the
	// one in it, or the connection's own if it names none (LOCAL, UNKNOWN).
	ProxyRequired
)

const noLimit = int(^uint(0) >> 1)

// withDefaults is c with its zero fields filled in and its negative limits
// made large.
func (c Config) withDefaults() *Config {
	for _, d := range []struct {
		field *time.Duration
		zero  time.Duration
		none  time.Duration
	}{
		{&c.FirstPacketTimeout, 10 * time.Second, 0},
		{&c.DialTimeout, 5 * time.Second, 0},
		{&c.AnswerWait, time.Second, 0},
		{&c.ConfirmTimeout, 30 * time.Second, 0},
	} {
		switch {
		case *d.field == 0:
			*d.field = d.zero
		case *d.field < 0:
			*d.field = d.none
		}
	}
	for _, n := range []struct {
		field *int
		zero  int
	}{
		{&c.MaxConnections, 10000}, {&c.MaxPerClient, 256},
		{&c.MaxPending, 2048}, {&c.MaxPendingPerClient, 32}, {&c.DialsPerHost, 0},
	} {
		switch {
		case *n.field == 0:
			*n.field = n.zero
		case *n.field < 0:
			*n.field = noLimit
		}
	}
	c.dials = c.Dial != nil
	if !c.dials {
		c.Dial = (&net.Dialer{KeepAlive: -1}).DialContext // relay.Tune sets keep-alive
	}
	return &c
}
