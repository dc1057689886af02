package testlab

import (
	"fmt"
	"net"
	"os"
)

// Where the numbers of a lease begin. All ports stay below the kernel's range for
// outgoing connections, which begins at 32768, so that nobody takes one by accident:
// guards 13100+, sesman 13350+, VNC 6900 to 8500.
//
// To see whether a display is free, xrdp 0.9 also binds the ports that its number gives
// when it is written behind 59, 60 and 62, of which the lower 16 bits count. Those of a
// display with three digits are in that range, and a host with all of its three displays
// "running" takes nobody in. Those of 1000 to 2591 are 1176+, 11176+ and 31176 to 32767.
const (
	leases           = 130
	displaysPerLease = 12 // xrdp uses one more than it has slots
	firstDisplay     = 1000
	firstGuardPort   = 13100
	firstSesmanPort  = 13350
)

// lease is one xrdp host's share of what all hosts on the machine draw from.
// It is held as long as the guard's port is bound, so the kernel ends it with
// the process, and no other test program can hold the same one.
type lease struct {
	n     int
	guard net.Listener
}

// takeLease takes a free lease. The search begins at a place of this process's
// own, so that a lease is not used again at once.
func takeLease() (*lease, error) {
	for i := range leases {
		n := (os.Getpid()*7 + i) % leases
		guard, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", firstGuardPort+n))
		if err == nil {
			return &lease{n: n, guard: guard}, nil
		}
	}
	return nil, fmt.Errorf("all %d leases for xrdp hosts are taken", leases)
}

func (l *lease) ip() string       { return fmt.Sprintf("127.77.%d.1", l.n) }
func (l *lease) sesmanPort() int  { return firstSesmanPort + l.n }
func (l *lease) displayBase() int { return firstDisplay + displaysPerLease*l.n }
func (l *lease) release()         { l.guard.Close() }
