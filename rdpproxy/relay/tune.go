package relay

import (
	"fmt"
	"net"
	"time"
)

// KeepAlive says how a vanished peer is noticed. Zero fields mean the default.
//
// A client whose machine lost its network sends no FIN. Until that is noticed,
// the host shows the session as active, and keeps its slot from everybody else.
type KeepAlive struct {
	// Idle is how long nothing may come from the peer before it is probed.
	// 0: 10 s. Negative: no keep-alive at all.
	Idle time.Duration
	// Interval is the time between probes. 0: 5 s.
	Interval time.Duration
	// Count is how many probes may go unanswered. 0: 3.
	Count int
}

// WithDefaults is k with its zero fields filled in.
func (k KeepAlive) WithDefaults() KeepAlive {
	if k.Idle == 0 {
		k.Idle = 10 * time.Second
	}
	if k.Interval == 0 {
		k.Interval = 5 * time.Second
	}
	if k.Count == 0 {
		k.Count = 3
	}
	return k
}

// Patience is how long a vanished peer goes unnoticed: 25 s by default.
func (k KeepAlive) Patience() time.Duration {
	k = k.WithDefaults()
	return k.Idle + time.Duration(k.Count)*k.Interval
}

// Tune sets up a connection for a relay: small packets go out at once
// (TCP_NODELAY: RDP is key strokes), and a vanished peer is noticed as k says.
// Probes are sent only while nothing is under way; for a peer that vanished while
// data were, the same patience is set for unacknowledged data where the system
// has that (TCP_USER_TIMEOUT on Linux). It also ends a peer that is alive but
// has not read a byte for so long.
//
// Anything but a *net.TCPConn is left as it is.
func Tune(c net.Conn, k KeepAlive) error {
	tcp, ok := c.(*net.TCPConn)
	if !ok {
		return nil
	}
	if err := tcp.SetNoDelay(true); err != nil {
		return fmt.Errorf("tuning %s: no delay: %w", c.RemoteAddr(), err)
	}
	if k.Idle < 0 {
		if err := tcp.SetKeepAlive(false); err != nil {
			return fmt.Errorf("tuning %s: keep-alive: %w", c.RemoteAddr(), err)
		}
		return nil
	}
	k = k.WithDefaults()
	if err := tcp.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: k.Idle, Interval: k.Interval, Count: k.Count}); err != nil {
		return fmt.Errorf("tuning %s: keep-alive: %w", c.RemoteAddr(), err)
	}
	if err := setUserTimeout(tcp, k.Patience()); err != nil {
		return fmt.Errorf("tuning %s: user timeout: %w", c.RemoteAddr(), err)
	}
	return nil
}
