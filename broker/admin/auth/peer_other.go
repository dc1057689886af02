//go:build !linux

package auth

import "net"

// peerUID: who is at the other end is not asked here.
func peerUID(*net.UnixConn) (uid uint32, ok bool) { return 0, false }
