//go:build unix

package daemon_test

import "syscall"

// descriptors raises the limit of open files to want, as far as it may, and
// returns what it is then.
func descriptors(want uint64) (limit uint64, err error) {
	var now syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &now); err != nil {
		return 0, err
	}
	for _, try := range []syscall.Rlimit{{Cur: want, Max: max(want, now.Max)}, {Cur: min(want, now.Max), Max: now.Max}} {
		if now.Cur >= want || syscall.Setrlimit(syscall.RLIMIT_NOFILE, &try) == nil {
			break
		}
	}
	err = syscall.Getrlimit(syscall.RLIMIT_NOFILE, &now)
	return now.Cur, err
}
