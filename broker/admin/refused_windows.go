package admin

import "golang.org/x/sys/windows"

// ErrRefused is what a dial says where a Unix socket is left but nobody listens.
const ErrRefused = windows.WSAECONNREFUSED
