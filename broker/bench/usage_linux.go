package bench

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// tick is the unit of the times in /proc/PID/stat (USER_HZ), which is the same on
// every platform that Go runs on.
const tick = time.Second / 100

// cpuOf is what a process has used; 0 for process 0.
func cpuOf(pid int) time.Duration {
	if pid == 0 {
		return 0
	}
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	// The name, in parentheses, may contain anything: fields 14 and 15 are counted
	// from behind it.
	f := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:])
	if len(f) < 13 {
		return 0
	}
	user, _ := strconv.ParseInt(string(f[11]), 10, 64)
	system, _ := strconv.ParseInt(string(f[12]), 10, 64)
	return time.Duration(user+system) * tick
}

// userMemory is how many bytes a process has to itself, with its part of what it
// shares (PSS); 0 for process 0.
func userMemory(pid int) int64 {
	if pid == 0 {
		return 0
	}
	return kilobytes(fmt.Sprintf("/proc/%d/smaps_rollup", pid), "Pss:")
}

// kernelMemory is how many bytes the kernel uses for its objects and for the
// buffers of TCP, of the whole system.
func kernelMemory() int64 {
	n := kilobytes("/proc/meminfo", "Slab:")
	b, err := os.ReadFile("/proc/net/sockstat")
	if err != nil {
		return n
	}
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) < 2 || f[0] != "TCP:" {
			continue
		}
		for i := 1; i+1 < len(f); i += 2 {
			if f[i] == "mem" {
				pages, _ := strconv.ParseInt(f[i+1], 10, 64)
				n += pages * int64(os.Getpagesize())
			}
		}
	}
	return n
}

// kilobytes reads a line such as "Pss:   123 kB".
func kilobytes(file, key string) int64 {
	b, err := os.ReadFile(file)
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) >= 2 && f[0] == key {
			n, _ := strconv.ParseInt(f[1], 10, 64)
			return n << 10
		}
	}
	return 0
}

// switches is how often the threads of a process have gone to sleep and been woken.
func switches(pid int) (n int64) {
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		return 0
	}
	for _, t := range tasks {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/status", pid, t.Name()))
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(b)) {
			if f := strings.Fields(line); len(f) == 2 && f[0] == "voluntary_ctxt_switches:" {
				k, _ := strconv.ParseInt(f[1], 10, 64)
				n += k
			}
		}
	}
	return n
}
