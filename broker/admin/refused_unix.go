//go:build !windows

package admin

import "syscall"

// ErrRefused is what a dial says where a Unix socket is left but nobody listens.
const ErrRefused = syscall.ECONNREFUSED
