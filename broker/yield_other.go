//go:build !linux

package broker

import "runtime"

// yield lets somebody else have the processor.
func yield() { runtime.Gosched() }
