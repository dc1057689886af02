package testlab

import "testing"

// No port that a host uses, or looks at to find a display, may be one that the kernel
// gives to an outgoing connection, or another host's.
func TestLeasesArePrivate(t *testing.T) {
	const outgoing = 32768
	owner := map[int]int{}
	own := func(n, port int) {
		t.Helper()
		if port >= outgoing {
			t.Errorf("lease %d: port %d may be an outgoing connection's", n, port)
		}
		if o, taken := owner[port]; taken {
			t.Errorf("port %d is that of lease %d and of lease %d", port, o, n)
		}
		owner[port] = n
	}
	for n := range leases {
		l := lease{n: n}
		own(n, firstGuardPort+n)
		own(n, l.sesmanPort())
		for d := l.displayBase(); d < l.displayBase()+displaysPerLease; d++ {
			own(n, 5900+d) // VNC
			for _, before := range []int{59, 60, 62} {
				own(n, (before*10_000+d)%65536)
			}
		}
	}
}
