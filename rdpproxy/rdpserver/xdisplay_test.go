package rdpserver

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"image"
	"image/png"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// peer finds a program of the system that a test needs. Only a machine that
// promises to have them all (CI=true) must have it.
func peer(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	return path
}

// display is an X server without a screen.
type display struct {
	*testing.T
	number string
}

func newDisplay(t *testing.T) *display {
	t.Helper()
	peer(t, "import") // before anything is started
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	// Without -noreset it starts anew whenever its last client has gone, and refuses the next
	// one that comes at that moment.
	server := exec.Command(peer(t, "Xvfb"), "-displayfd", "3", "-screen", "0", "1024x768x24", "-nolisten", "tcp", "-noreset")
	server.ExtraFiles = []*os.File{w}
	err = server.Start()
	w.Close()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = server.Process.Kill()
		_ = server.Wait()
	})
	_ = r.SetReadDeadline(time.Now().Add(patience))
	line, err := bufio.NewReader(r).ReadString('\n')
	if err != nil {
		t.Fatalf("Xvfb did not start: %v", err)
	}
	return &display{t, strings.TrimSpace(line)}
}

// shot is what the display shows now.
func (d *display) shot() image.Image {
	d.Helper()
	out, err := exec.Command("import", "-silent", "-window", "root", "-display", ":"+d.number, "png:-").Output()
	if err != nil {
		d.Fatalf("screenshot: %v", err)
	}
	img, err := png.Decode(bytes.NewReader(out))
	if err != nil {
		d.Fatal(err)
	}
	return img
}

// awaitPicture waits until the upper left corner of the display shows want, in
// every pixel.
func (d *display) awaitPicture(want *image.RGBA) {
	d.Helper()
	var difference string
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		if difference = firstDifference(d.shot(), want); difference == "" {
			return
		}
	}
	d.Fatalf("the picture is not there: %s", difference)
}

func firstDifference(got image.Image, want *image.RGBA) string {
	for y := range want.Bounds().Dy() {
		for x := range want.Bounds().Dx() {
			r, g, b, _ := got.At(x, y).RGBA()
			if w := want.RGBAAt(x, y); uint8(r>>8) != w.R || uint8(g>>8) != w.G || uint8(b>>8) != w.B {
				return fmt.Sprintf("at %d,%d is %02x%02x%02x, not %02x%02x%02x", x, y, r>>8, g>>8, b>>8, w.R, w.G, w.B)
			}
		}
	}
	return ""
}

// Kinds of input events of the X protocol.
const (
	xKeyPress   = 2
	xKeyRelease = 3
	xMotion     = 6
)

// xEvent is something that happens at the display: a key by its X keycode, or a
// motion of the pointer to x, y.
type xEvent struct {
	kind, keycode uint8
	x, y          uint16
}

// play makes events happen, by the XTEST extension.
func (d *display) play(events ...xEvent) {
	d.Helper()
	conn, err := net.Dial("unix", "/tmp/.X11-unix/X"+d.number)
	if err != nil {
		d.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	send := func(request []byte) {
		d.Helper()
		if _, err := conn.Write(request); err != nil {
			d.Fatal(err)
		}
	}
	receive := func(n int) []byte {
		d.Helper()
		b := make([]byte, n)
		if _, err := io.ReadFull(conn, b); err != nil {
			d.Fatal(err)
		}
		return b
	}
	// reply skips events, which anybody may cause at any time.
	reply := func() []byte {
		d.Helper()
		const failure, success = 0, 1
		for {
			switch b := receive(32); b[0] {
			case success:
				return b
			case failure:
				d.Fatalf("X server refused: % x", b)
			}
		}
	}
	le := binary.LittleEndian
	// A little-endian client of protocol 11.0 without authentication.
	send([]byte{'l', 0, 11, 0, 0, 0, 0, 0, 0, 0, 0, 0})
	greeting := receive(8)
	receive(4 * int(le.Uint16(greeting[6:])))
	if greeting[0] != 1 {
		d.Fatalf("X server says % x", greeting)
	}
	const queryExtension, getInputFocus, fakeInput = 98, 43, 2
	send(append([]byte{queryExtension, 0, 4, 0, 5, 0, 0, 0}, "XTEST\x00\x00\x00"...))
	xtest := reply()[9]
	for _, e := range events {
		request := make([]byte, 36)
		request[0], request[1], request[2] = xtest, fakeInput, byte(len(request)/4)
		request[4], request[5] = e.kind, e.keycode
		le.PutUint16(request[24:], e.x)
		le.PutUint16(request[26:], e.y)
		send(request)
	}
	send([]byte{getInputFocus, 0, 1, 0})
	reply() // comes when all before is done
}
