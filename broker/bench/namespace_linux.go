package bench

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"

	"golang.org/x/sys/unix"
)

// insideVariable says that this process runs in the network namespace made for it.
const insideVariable = "RDPBENCH_INSIDE"

// Inside runs this program again, with the same arguments, in a network namespace
// of its own, where nothing else is on the loopback and its settings can be
// changed. done is true if that was done, and err then is how it ended. Without the
// right to (root), or inside already, there is nothing to do.
func Inside() (done bool, err error) {
	if os.Geteuid() != 0 || os.Getenv(insideVariable) != "" {
		return false, nil
	}
	self, err := os.Executable()
	if err != nil {
		return false, err
	}
	cmd := exec.Command(self, os.Args[1:]...)
	cmd.Env = append(os.Environ(), insideVariable+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	err = cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return false, nil // it may not; then on the loopback that is there
	}
	return true, err
}

// spareDescriptors is what a contestant needs beside those of its connections.
const spareDescriptors = 1000

// prepare raises what a load tool runs into, descriptors and ports, and returns how
// many connections a proxy may hold: it needs two descriptors for each.
func prepare() (connections int, err error) {
	limit := syscall.Rlimit{Cur: 1 << 17, Max: 1 << 17}
	if syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit) != nil { // not even root may, in some containers
		if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
			return 0, err
		}
		limit.Cur = limit.Max
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
			return 0, err
		}
	}
	connections = (int(limit.Cur) - spareDescriptors) / 2
	if os.Getenv(insideVariable) == "" {
		return connections, nil
	}
	for file, text := range map[string]string{
		"/proc/sys/net/ipv4/ip_local_port_range": "1024 65535",
		"/proc/sys/net/core/somaxconn":           "65535",
		"/proc/sys/net/ipv4/tcp_max_syn_backlog": "65535",
	} {
		// What may not be changed here is as it is.
		_ = os.WriteFile(file, []byte(text), 0o644)
	}
	// Ports that somebody listens at are not handed out.
	_ = os.WriteFile("/proc/sys/net/ipv4/ip_local_reserved_ports", []byte(reservedPorts), 0o644)
	return connections, loopbackUp()
}

func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	req, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFFLAGS, req); err != nil {
		return fmt.Errorf("loopback: %w", err)
	}
	req.SetUint16(req.Uint16() | unix.IFF_UP)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, req); err != nil {
		return fmt.Errorf("loopback: %w", err)
	}
	return nil
}
