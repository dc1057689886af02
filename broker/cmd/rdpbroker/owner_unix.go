//go:build !windows

package main

import (
	"os"
	"syscall"
)

// keepOwner gives to the owner that from has, where that may be done: the broker
// must be able to read it.
func keepOwner(from, to string) {
	if info, err := os.Stat(from); err == nil {
		if st, ok := info.Sys().(*syscall.Stat_t); ok {
			_ = os.Chown(to, int(st.Uid), int(st.Gid))
		}
	}
}
