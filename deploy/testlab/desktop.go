package testlab

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Desktop is one session's desktop, in the words that it wrote down itself when
// it started. Two equal Desktops are the same running program.
type Desktop struct {
	// Host and User are whose it is.
	Host, User string
	// Display is the number of its X display.
	Display int
	// PID is its window manager's, in the host's numbering, and Ticks that
	// process's start time in clock ticks since boot.
	PID   int
	Ticks uint64
	// Started is when it started, by the host's clock.
	Started time.Time
}

// Desktops are the desktops of user that run on the host now, by display.
func (h *XRDPHost) Desktops(user string) ([]Desktop, error) {
	files, err := filepath.Glob(filepath.Join(h.Home, user, "desktop.*[0-9]"))
	if err != nil {
		return nil, err
	}
	var running []Desktop
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			return nil, err
		}
		d, err := parseDesktop(string(b))
		if err != nil {
			return nil, fmt.Errorf("%s on %s: %w", f, h.Name, err)
		}
		if h.Runs(d) {
			running = append(running, d)
		}
	}
	return running, nil
}

// WaitDesktop waits until user has exactly one running desktop on the host.
func (h *XRDPHost) WaitDesktop(ctx context.Context, user string) (Desktop, error) {
	for {
		ds, err := h.Desktops(user)
		if err != nil {
			return Desktop{}, err
		}
		if len(ds) == 1 {
			return ds[0], nil
		}
		select {
		case <-ctx.Done():
			return Desktop{}, fmt.Errorf("%d desktops of %s on %s: %w", len(ds), user, h.Name, ctx.Err())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// Runs reports whether d, written by this host, is still running.
func (h *XRDPHost) Runs(d Desktop) bool {
	// The proc of the host's own pid namespace, seen through its first process.
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/root/proc/%d/stat", h.pid, d.PID))
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(b[strings.LastIndexByte(string(b), ')')+1:]), " ")
	fields := strings.Fields(rest) // field 3 of the line is the first here
	return len(fields) > 19 && fields[0] != "Z" && fields[19] == strconv.FormatUint(d.Ticks, 10)
}

func parseDesktop(text string) (d Desktop, err error) {
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		switch key {
		case "host":
			d.Host = value
		case "user":
			d.User = value
		case "display":
			d.Display, err = strconv.Atoi(value)
		case "pid":
			d.PID, err = strconv.Atoi(value)
		case "ticks":
			d.Ticks, err = strconv.ParseUint(value, 10, 64)
		case "started":
			var seconds float64
			seconds, err = strconv.ParseFloat(value, 64)
			d.Started = time.UnixMicro(int64(seconds * 1e6))
		}
		if err != nil {
			return Desktop{}, fmt.Errorf("desktop facts: %s: %w", key, err)
		}
	}
	if d.PID == 0 || d.Ticks == 0 {
		return Desktop{}, fmt.Errorf("desktop facts lack pid or start time: %q", text)
	}
	return d, nil
}

// Background is a command that changes the background of d, a desktop of this host, to
// each of the colours ("#aabbcc"), once and then again and again for that many seconds.
func (h *XRDPHost) Background(ctx context.Context, d Desktop, seconds int, colours ...string) *exec.Cmd {
	// The display and its key are in the environment of the desktop's first process.
	script := `export $(tr '\0' '\n' <"/proc/$0/environ" | grep -E '^(DISPLAY|XAUTHORITY|HOME)=')
end=$(($(date +%s) + $1)); shift
while :; do
	for c in "$@"; do xsetroot -solid "$c" || exit 1; done
	[ "$(date +%s)" -lt "$end" ] || exit 0
done`
	return h.Command(ctx, append([]string{"sh", "-c", script, strconv.Itoa(d.PID), strconv.Itoa(seconds)}, colours...)...)
}
