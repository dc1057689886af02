package rdpproxy

import (
	"context"
	"net/netip"
	"os"
	"time"
)

// Carried is one relayed connection on its way to another process: both ends, and
// what that process has to know of it.
type Carried struct {
	// Client and Host are the sockets. Whoever holds the Carried closes them, unless
	// Adopt takes them.
	Client, Host *os.File
	// ToHost and ToClient were read from one side and are to be written to the other.
	ToHost, ToClient []byte
	// Listener is the name of the listener that accepted the connection.
	Listener string
	// ClientAddr is where it comes from, as a PROXY header told where there was one.
	ClientAddr netip.AddrPort
	// Said is what its first packet said of its sender, fit for logs.
	Said string
	// HostName, Why and Resume are those of its Route.
	HostName, Why string
	Resume        uint64
	Accepted      time.Time
	// MovedToHost and MovedToClient are the bytes that were relayed before.
	MovedToHost, MovedToClient int64
}

// Close closes both ends: the connection ends.
func (c *Carried) Close() {
	_, _ = c.Client.Close(), c.Host.Close()
}

// handOverLook is how often HandOver looks again at connections that cannot be handed
// over yet: a logon that is watched is over in a second or two.
const handOverLook = 50 * time.Millisecond

// HandOver ends the proxy as Shutdown does, but connections that relay are neither
// waited for nor cut: they are returned, to go on in another process, and nothing more
// is said of them here (their Routes' Done is not called). Connections that have no
// host yet are ended at once. Those in which a logon is being watched have until ctx
// ends to come to a result, and so have those that goroutines relay, which cannot be
// handed over; what is left then is cut, and lost is how many that were.
func (p *Proxy) HandOver(ctx context.Context) (carried []Carried, lost int) {
	p.endPending()
	tick := time.NewTicker(handOverLook)
	defer tick.Stop()
	for {
		carried = append(carried, p.leaveAll()...)
		select {
		case <-p.empty:
			p.loops.Load().stop()
			return carried, lost
		default:
		}
		select {
		case <-tick.C:
		case <-p.empty:
		case <-ctx.Done():
			lost = p.cutAll()
			<-p.empty
			p.loops.Load().stop()
			return carried, lost
		}
	}
}

// giver is a server that can give its connection up.
type giver interface {
	// giveUp gives the connection up and sends it, or nil if it cannot be given up now.
	giveUp(result chan<- *Carried)
}

// leaveAll takes every connection that can go from whoever serves it.
func (p *Proxy) leaveAll() []Carried {
	p.mu.Lock()
	asked := 0
	results := make(chan *Carried, len(p.conns))
	for c := range p.conns {
		if by, ok := c.by.(giver); ok && c.relaying {
			by.giveUp(results)
			asked++
		}
	}
	p.mu.Unlock()
	var out []Carried
	for range asked {
		if c := <-results; c != nil {
			out = append(out, *c)
		}
	}
	return out
}
