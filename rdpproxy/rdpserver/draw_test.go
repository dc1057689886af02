package rdpserver

import (
	"image"
	"image/color"
	"image/draw"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/image/font"
	"golang.org/x/image/font/basicfont"
	"golang.org/x/image/math/fixed"
)

// testPicture is different in every pixel of a row and a column, has text on it,
// and a frame that shows what is cut off.
func testPicture(width, height int) *image.RGBA {
	img := image.NewRGBA(image.Rect(0, 0, width, height))
	for y := range height {
		for x := range width {
			img.SetRGBA(x, y, color.RGBA{uint8(x), uint8(y), uint8(x/256*64 + y/256*16), 255})
		}
	}
	frame := image.NewUniform(color.RGBA{255, 255, 255, 255})
	for _, edge := range []image.Rectangle{
		image.Rect(0, 0, width, 1), image.Rect(0, height-1, width, height),
		image.Rect(0, 0, 1, height), image.Rect(width-1, 0, width, height),
	} {
		draw.Draw(img, edge, frame, image.Point{}, draw.Src)
	}
	text := font.Drawer{Dst: img, Src: image.Black, Face: basicfont.Face7x13, Dot: fixed.P(20, 40)}
	text.DrawString("The quick brown fox, drawn by rdpserver")
	return img
}

// screen collects the bitmap updates that a client gets.
type screen struct {
	testing.TB
	*image.RGBA
	depth int
}

// apply decodes one packet with a bitmap update, strictly.
func (s *screen) apply(packet []byte) {
	s.Helper()
	if len(packet) > headerLen+8+maxUserData {
		s.Fatalf("a packet of %d bytes", len(packet))
	}
	c := cursor{b: packet[headerLen+6:]}
	if n := c.perLength(); n != len(c.b) {
		s.Fatalf("MCS length %d for %d bytes", n, len(c.b))
	}
	p, err := parseSharePDU(c.b)
	if err != nil || p.kind != pduData || p.dataKind != dataUpdate {
		s.Fatalf("%+v, %v", p, err)
	}
	c = cursor{b: p.body}
	if kind, count := c.u16(), c.u16(); kind != 1 || count != 1 {
		s.Fatalf("update %d with %d rectangles", kind, count)
	}
	left, top, right, bottom := int(c.u16()), int(c.u16()), int(c.u16()), int(c.u16())
	width, height, depth, flags, size := int(c.u16()), int(c.u16()), int(c.u16()), c.u16(), int(c.u16())
	tile := image.Rect(left, top, right+1, bottom+1)
	if depth != s.depth || flags != 0 || width%4 != 0 || width < tile.Dx() || height != tile.Dy() || !tile.In(s.Bounds()) {
		s.Fatalf("%v of %d×%d at depth %d, flags %#x", tile, width, height, depth, flags)
	}
	if size != width*height*depth/8 || size != len(c.b) {
		s.Fatalf("%d bytes for %d×%d at depth %d, %d are there", size, width, height, depth, len(c.b))
	}
	for y := bottom; y >= top; y-- {
		for x := left; x < left+width; x++ {
			var pixel color.RGBA
			switch depth {
			case 16:
				v := c.u16()
				pixel = color.RGBA{uint8(v >> 11 << 3), uint8(v >> 5 & 0x3f << 2), uint8(v & 0x1f << 3), 255}
			case 24:
				b, g, r := c.u8(), c.u8(), c.u8()
				pixel = color.RGBA{r, g, b, 255}
			case 32:
				b, g, r := c.u8(), c.u8(), c.u8()
				c.skip(1)
				pixel = color.RGBA{r, g, b, 255}
			}
			if x <= right {
				s.SetRGBA(x, y, pixel)
			}
		}
	}
}

func TestDraw(t *testing.T) {
	client, conn := activeMstsc(t, Config{})
	desktop := image.Rect(0, 0, 300, 202)
	conn.client.Width, conn.client.Height = desktop.Dx(), desktop.Dy()
	for _, test := range []struct {
		name string
		img  image.Image
		at   image.Point
	}{
		{"whole desktop", testPicture(300, 202), image.Pt(0, 0)},
		{"odd size at an odd place", testPicture(203, 101), image.Pt(13, 7)},
		{"one pixel", testPicture(1, 1), image.Pt(299, 201)},
		{"beyond the lower right", testPicture(100, 100), image.Pt(201, 153)},
		{"beyond the upper left", testPicture(200, 200), image.Pt(-100, -50)},
		{"a part of a picture", testPicture(300, 300).SubImage(image.Rect(50, 60, 171, 122)), image.Pt(40, 30)},
		{"outside", testPicture(10, 10), image.Pt(5000, 0)},
	} {
		for _, depth := range []int{16, 24, 32} {
			conn.client.ColorDepth = depth
			got := &screen{t, image.NewRGBA(desktop), depth}
			want := image.NewRGBA(got.Bounds())
			b := test.img.Bounds()
			draw.Draw(want, b.Sub(b.Min).Add(test.at), test.img, b.Min, draw.Src)
			if depth == 16 {
				for i := range want.Pix {
					keep := []uint8{0xf8, 0xfc, 0xf8, 0xff}
					want.Pix[i] &= keep[i%4]
				}
			}
			done := make(chan error, 1)
			go func() {
				defer close(done)
				if err := conn.Draw(test.img, test.at); err != nil {
					done <- err
					return
				}
				done <- conn.Status(StatusStartingVM) // marks the end
			}()
			for packet := client.receive(); packet[len(packet)-8] != byte(dataStatusInfo) || len(packet) != 36; packet = client.receive() {
				got.apply(packet)
			}
			if err := <-done; err != nil {
				t.Fatal(err)
			}
			if string(got.Pix) != string(want.Pix) {
				t.Errorf("%s at depth %d is not what was drawn", test.name, depth)
			}
		}
	}
}

// TestDrawToClientThatDoesNotRead: it cannot hold the drawer for ever.
func TestDrawToClientThatDoesNotRead(t *testing.T) {
	_, conn := activeMstsc(t, Config{PacketTimeout: 100 * time.Millisecond})
	picture := testPicture(1024, 768)
	for range 100 { // 230 MB: more than any socket buffer
		if err := conn.Draw(picture, image.Point{}); err != nil {
			if !strings.Contains(err.Error(), "drawing at") {
				t.Error(err)
			}
			return
		}
	}
	t.Error("everything was drawn, to nobody")
}

// TestEverybodyAtOnce is for the race detector, and for deadlocks.
func TestEverybodyAtOnce(t *testing.T) {
	client, conn := activeMstsc(t, Config{LeaveTimeout: patience})
	picture := testPicture(200, 200)
	var all sync.WaitGroup
	all.Go(func() {
		if err := conn.Run(t.Context(), func(Event) { _ = conn.Draw(picture, image.Point{}) }); err != nil {
			t.Error(err)
		}
	})
	for range 3 {
		all.Go(func() {
			for conn.Draw(picture, image.Point{}) == nil {
			}
		})
		all.Go(func() {
			if err := conn.Status(StatusStartingVM); err != nil {
				t.Error(err)
			}
		})
	}
	for range 3 {
		client.send([]byte{0x04, 4, 0, 0x26})
		client.receive()
	}
	for range 2 {
		all.Go(func() {
			if err := conn.ErrorInfo(ErrorReboot); err != nil {
				t.Error(err)
			}
			if err := conn.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	// The client leaves when it is told to, and only then.
	for packet := client.receive(); string(packet) != string(disconnectPacket()); {
		packet = client.receive()
	}
	client.Close()
	all.Wait()
}

func TestDepth(t *testing.T) {
	for _, test := range []struct {
		name string
		data clientData
		want int
	}{
		{"mstsc", clientData{highColorDepth: 24, supportedDepths: 15, earlyCapabilities: earlyWant32Bits}, 24},
		{"16 wanted", clientData{highColorDepth: 16, supportedDepths: 15}, 16},
		{"32 and 16 only", clientData{highColorDepth: 24, supportedDepths: 8 | 2, earlyCapabilities: earlyWant32Bits}, 32},
		{"old, 24", clientData{postBeta2Depth: 0xca04}, 24},
		{"old, 8", clientData{colorDepth: 0xca01}, 16},
	} {
		if got := test.data.depth(); got != test.want {
			t.Errorf("%s: %d", test.name, got)
		}
	}
}
