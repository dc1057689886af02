package rdpserver

import (
	"bytes"
	"context"
	"errors"
	"image"
	"net"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"
)

// These tests show the server to real clients.

// realClient is a client program that is running.
type realClient struct {
	name   string
	cmd    *exec.Cmd
	output bytes.Buffer // complete when ended
	ended  chan struct{}
}

// clients start a client that wants 800×600 and logs on as alice with password x.
var clients = map[string]func(t *testing.T, d *display, addr string) *realClient{
	"xfreerdp": func(t *testing.T, d *display, addr string) *realClient {
		return startClient(t, d, "", "xfreerdp", "/v:"+addr, "/u:alice", "/p:x", "/cert:ignore", "/size:800x600")
	},
	"xfreerdp 16 bpp": func(t *testing.T, d *display, addr string) *realClient {
		return startClient(t, d, "", "xfreerdp", "/v:"+addr, "/u:alice", "/p:x", "/cert:ignore", "/size:800x600", "/bpp:16")
	},
	"rdesktop": func(t *testing.T, d *display, addr string) *realClient {
		return startClient(t, d, "yes\n" /* trust the certificate */, "rdesktop", "-u", "alice", "-p", "x", "-g", "800x600", addr)
	},
}

func startClient(t *testing.T, d *display, input, program string, args ...string) *realClient {
	t.Helper()
	c := &realClient{name: program, cmd: exec.Command(peer(t, program), args...), ended: make(chan struct{})}
	c.cmd.Env = append(c.cmd.Environ(), "DISPLAY=:"+d.number, "HOME="+t.TempDir())
	c.cmd.Stdin = strings.NewReader(input)
	c.cmd.Stdout, c.cmd.Stderr = &c.output, &c.output
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(c.ended)
		_ = c.cmd.Wait()
	}()
	t.Cleanup(func() {
		_ = c.cmd.Process.Kill()
		<-c.ended
		if t.Failed() {
			t.Logf("%s said:\n%s", c.name, c.output.String())
		}
	})
	return c
}

// wait is how the client ended by itself.
func (c *realClient) wait(t *testing.T) (exitCode int, output string) {
	t.Helper()
	select {
	case <-c.ended:
	case <-time.After(patience):
		t.Fatalf("%s is still running", c.name)
	}
	return c.cmd.ProcessState.ExitCode(), c.output.String()
}

// realServer serves every connection with handle, up to the end of the test.
func realServer(t *testing.T, handle func(*Conn) error) (addr string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	cfg := Config{
		TLS: testTLS(t),
		CheckPassword: func(user, _ string, password []byte) bool {
			return user == "alice" && string(password) == "x"
		},
	}
	ctx, cancel := context.WithCancel(context.Background())
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				conn, err := Handshake(ctx, nc, cfg)
				if err != nil {
					t.Logf("not served: %v", err) // clients probe, and try again
					return
				}
				defer conn.Close()
				if err := handle(conn); err != nil {
					t.Error(err)
				}
			})
		}
	})
	t.Cleanup(func() {
		cancel()
		ln.Close()
		serving.Wait()
	})
	return ln.Addr().String()
}

// show activates the client, draws picture, and runs until it leaves.
func show(t *testing.T, conn *Conn, picture image.Image, onInput func(Event)) error {
	if err := conn.Activate(t.Context()); err != nil {
		return err
	}
	if err := conn.Draw(picture, image.Point{}); err != nil {
		return err
	}
	if err := conn.Run(t.Context(), onInput); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// TestRealClientsShowThePicture, pixel by pixel; and when the user presses L,
// the server logs them off.
func TestRealClientsShowThePicture(t *testing.T) {
	for name, start := range clients {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDisplay(t)
			picture, depth := testPicture(800, 600), 24
			if strings.Contains(name, "16") {
				picture, depth = plainPicture(800, 600), 16
			}
			infos := make(chan ClientInfo, 10)
			moved := make(chan Mouse, 1000)
			addr := realServer(t, func(conn *Conn) error {
				infos <- conn.Info()
				return show(t, conn, picture, func(e Event) {
					switch e := e.(type) {
					case Mouse:
						moved <- e
					case Key:
						if e == (Key{Scancode: 0x26, Down: true}) {
							if err := conn.ErrorInfo(ErrorLoggedOffByUser); err != nil {
								t.Error(err)
							}
						}
					}
				})
			})
			client := start(t, d, addr)
			d.awaitPicture(picture)
			info := <-infos
			if info.User != "alice" || !info.PasswordOK || info.Width != 800 || info.Height != 600 || info.ColorDepth != depth || info.ClientName == "" {
				t.Errorf("%+v", info)
			}

			d.play(xEvent{kind: xMotion, x: 123, y: 234})
			for got := (Mouse{}); got != (Mouse{Flags: PointerMove, X: 123, Y: 234}); {
				select {
				case got = <-moved:
				case <-time.After(patience):
					t.Fatalf("the pointer did not arrive, it was last seen: %+v", got)
				}
			}
			const keycodeL = 0x26 + 8 // X counts from 8
			d.play(xEvent{kind: xKeyPress, keycode: keycodeL}, xEvent{kind: xKeyRelease, keycode: keycodeL})
			// Both end with the first codes of error info.
			if code, _ := client.wait(t); code != int(ErrorLoggedOffByUser) {
				t.Errorf("exit code %d", code)
			}
		})
	}
}

// plainPicture has only colours that survive 16 bits per pixel.
func plainPicture(width, height int) *image.RGBA {
	img := testPicture(width, height)
	for i := 0; i < len(img.Pix); i += 4 {
		for j := range 3 {
			img.Pix[i+j] = uint8(int8(img.Pix[i+j]) >> 7) // 0 or 255
		}
	}
	return img
}

func TestRealClientsAreTold(t *testing.T) {
	for _, test := range []struct {
		client string
		says   string
	}{
		{"xfreerdp", "ERRINFO_CB_DESTINATION_POOL_NOT_FREE"},
		{"rdesktop", ""}, // has no text for that one
	} {
		t.Run(test.client, func(t *testing.T) {
			t.Parallel()
			d := newDisplay(t)
			addr := realServer(t, func(conn *Conn) error {
				if err := conn.Status(StatusFindingDestination); err != nil {
					return err
				}
				return conn.ErrorInfo(ErrorPoolNotFree)
			})
			code, output := clients[test.client](t, d, addr).wait(t)
			if code <= 0 || !strings.Contains(output, test.says) {
				t.Errorf("exit code %d, said:\n%s", code, output)
			}
		})
	}
}

// TestRealClientIsRedirected comes back with the token, and is who it was told
// to be; in either state.
func TestRealClientIsRedirected(t *testing.T) {
	for _, active := range []bool{false, true} {
		t.Run(map[bool]string{false: "before activation", true: "active"}[active], func(t *testing.T) {
			t.Parallel()
			d := newDisplay(t)
			picture := testPicture(800, 600)
			second := make(chan ClientInfo, 10)
			addr := realServer(t, func(conn *Conn) error {
				if conn.Info().Request.Token != nil {
					second <- conn.Info()
					return show(t, conn, picture, func(Event) {})
				}
				if active {
					if err := conn.Activate(t.Context()); err != nil {
						return err
					}
				}
				return conn.Redirect(Redirection{
					Token: []byte("Cookie: msts=0123456789abcdef"),
					User:  "newuser", Domain: "NEWDOM", SessionID: 77,
				})
			})
			clients["xfreerdp"](t, d, addr)
			d.awaitPicture(picture)
			info := <-second
			if string(info.Request.Token) != "Cookie: msts=0123456789abcdef" || info.Request.HasCookie ||
				info.User != "newuser" || info.Domain != "NEWDOM" || info.RedirectedSessionID != 77 || !info.SupportsRedirect {
				t.Errorf("%+v, request %q", info, info.Request.Raw)
			}
		})
	}
}

// TestRdesktopIsNotRedirected: it would crash. It gets a reason instead.
func TestRdesktopIsNotRedirected(t *testing.T) {
	d := newDisplay(t)
	addr := realServer(t, func(conn *Conn) error {
		if err := conn.Redirect(Redirection{Token: []byte("Cookie: msts=x")}); !errors.Is(err, ErrRedirectUnsupported) {
			t.Errorf("Redirect said %v", err)
		}
		return conn.ErrorInfo(ErrorDenied)
	})
	code, output := clients["rdesktop"](t, d, addr).wait(t)
	if code <= 0 {
		t.Errorf("exit code %d (-1: crashed), said:\n%s", code, output)
	}
}

// TestRealClientWithoutTLS is refused, and told so.
func TestRealClientWithoutTLS(t *testing.T) {
	d := newDisplay(t)
	addr := realServer(t, func(*Conn) error { return errors.New("served without TLS") })
	client := startClient(t, d, "", "xfreerdp", "/v:"+addr, "/u:alice", "/p:x", "/sec:rdp")
	if code, output := client.wait(t); code <= 0 {
		t.Errorf("exit code %d, said:\n%s", code, output)
	}
}
