package broker

import "golang.org/x/sys/unix"

// yield lets another thread have the processor, if any wants it. (runtime.Gosched lets
// another goroutine have the thread, which helps nobody whose thread does not run.)
func yield() { _, _, _ = unix.RawSyscall(unix.SYS_SCHED_YIELD, 0, 0, 0) }
