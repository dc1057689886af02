package testlab

import (
	"context"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"
)

// ClientOptions say whom an RDP client connects to, and as whom.
type ClientOptions struct {
	// Addr is host:port.
	Addr string
	// File is an .rdp file in place of Addr and User; only XFreeRDP reads it.
	File string
	// User and Password log on; both may be empty.
	User, Password string
	// Size is the desktop's, "WxH"; "" means 800x600.
	Size string
	// Extra are further arguments of the program.
	Extra []string
	// Env is added to its environment, as NAME=value.
	Env []string
}

func (o ClientOptions) size() string {
	if o.Size == "" {
		return "800x600"
	}
	return o.Size
}

// Client is a running RDP client.
type Client struct {
	proc *process
}

// XFreeRDP starts FreeRDP's client on the display. It trusts any certificate.
// It ends with the test, or by Kill. The environment's TESTLAB_XFREERDP holds
// arguments for all clients.
func XFreeRDP(t testing.TB, d *Display, o ClientOptions) *Client {
	t.Helper()
	const program = "xfreerdp|xfreerdp3"
	Require(t, program, "setpriv")
	path, _ := lookPath(program)
	argv := []string{path}
	if o.File != "" { // it must come first
		argv = append(argv, o.File)
	} else {
		argv = append(argv, "/v:"+o.Addr)
	}
	argv = append(argv, "/cert:ignore", "/size:"+o.size())
	if o.User != "" {
		argv = append(argv, "/u:"+o.User)
	}
	if o.Password != "" {
		argv = append(argv, "/p:"+o.Password)
	}
	argv = append(argv, strings.Fields(os.Getenv("TESTLAB_XFREERDP"))...)
	home := "HOME=" + t.TempDir() // no known hosts, and none left behind
	return &Client{startProcess(t, processOptions{env: append([]string{d.Env(), home}, o.Env...)}, append(argv, o.Extra...)...)}
}

// RDesktop starts rdesktop on the display. It trusts any certificate. It ends
// with the test, or by Kill.
func RDesktop(t testing.TB, d *Display, o ClientOptions) *Client {
	t.Helper()
	Require(t, "rdesktop", "setpriv")
	argv := []string{"rdesktop", "-g", o.size()}
	if o.User != "" {
		argv = append(argv, "-u", o.User)
	}
	if o.Password != "" {
		argv = append(argv, "-p", o.Password)
	}
	argv = append(append(argv, o.Extra...), o.Addr)
	return &Client{startProcess(t, processOptions{
		env:   []string{d.Env(), "HOME=" + t.TempDir()},
		stdin: "yes\n", // "Do you trust this certificate?"
	}, argv...)}
}

// Wait waits until the program has ended by itself, and tells how: nil for exit
// code 0, an *exec.ExitError for another; or ctx ends.
func (c *Client) Wait(ctx context.Context) error { return c.proc.wait(ctx) }

// Running reports whether the program still runs.
func (c *Client) Running() bool {
	select {
	case <-c.proc.done:
		return false
	default:
		return true
	}
}

// Disconnect ends the program as a user closes its window: it asks it to go,
// which closes its connection properly. The session on the host lives on.
func (c *Client) Disconnect() { c.proc.terminate(3 * time.Second) }

// Kill ends the program at once; the kernel closes its connection.
func (c *Client) Kill() { c.proc.kill() }

// Output is what the program has printed so far.
func (c *Client) Output() string { return c.proc.output() }

// reach waits until a TCP connection to addr is accepted.
func reach(ctx context.Context, addr string) error {
	var d net.Dialer
	for {
		conn, err := d.DialContext(ctx, "tcp", addr)
		if err == nil {
			return conn.Close()
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("nobody listens on %s: %w", strings.TrimSpace(addr), err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}
