//go:build !linux

package relay

import (
	"net"
	"time"
)

// setUserTimeout does nothing: these systems give up after their own number of
// retransmissions, about 20 s on Windows.
func setUserTimeout(*net.TCPConn, time.Duration) error { return nil }
