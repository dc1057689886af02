// SPDX-License-Identifier: GPL-3.0-only

package probe

import (
	"encoding/binary"
	"image/color"
	"testing"
)

// rectangle is a TS_BITMAP_DATA.
func rectangle(left, top, right, bottom, width, height, depth, flags int, data ...byte) []byte {
	var b []byte
	for _, v := range []int{left, top, right, bottom, width, height, depth, flags, len(data)} {
		b = binary.LittleEndian.AppendUint16(b, uint16(v))
	}
	return append(b, data...)
}

func update(rectangles ...[]byte) []byte {
	b := binary.LittleEndian.AppendUint16(nil, uint16(len(rectangles)))
	for _, r := range rectangles {
		b = append(b, r...)
	}
	return b
}

func TestBitmapUpdate(t *testing.T) {
	black, none := color.RGBA{A: 255}, color.RGBA{}
	red, green := color.RGBA{R: 255, A: 255}, color.RGBA{G: 255, A: 255}
	blue, white := color.RGBA{B: 255, A: 255}, color.RGBA{255, 255, 255, 255}
	tests := []struct {
		name string
		rect []byte
		want [2][4]color.RGBA // the upper left corner of the screen
	}{
		{
			"24 bits, bottom row first, rows padded",
			rectangle(0, 0, 1, 1, 2, 2, 24, 0, 255, 0, 0, 0, 255, 0, 0, 0, 0, 0, 255, 255, 255, 255, 0, 0),
			[2][4]color.RGBA{{red, white}, {blue, green}},
		},
		{
			"32 bits without alpha",
			rectangle(1, 0, 2, 0, 2, 1, 32, 0, 0, 0, 255, 0, 255, 0, 0, 0),
			[2][4]color.RGBA{{none, red, blue}},
		},
		{
			"16 bits use their range",
			rectangle(0, 0, 3, 0, 4, 1, 16, 0, 0x00, 0xf8, 0xe0, 0x07, 0x1f, 0x00, 0xff, 0xff),
			[2][4]color.RGBA{{red, green, blue, white}},
		},
		{
			"15 bits",
			rectangle(0, 1, 3, 1, 4, 1, 15, 0, 0x00, 0x7c, 0xe0, 0x03, 0x1f, 0x00, 0x00, 0x00),
			[2][4]color.RGBA{1: {red, green, blue, black}},
		},
		{
			"the bitmap is wider than its destination",
			rectangle(0, 0, 1, 0, 4, 1, 16, 0, 0x00, 0xf8, 0xe0, 0x07, 0x1f, 0x00, 0xff, 0xff),
			[2][4]color.RGBA{{red, green}},
		},
		{
			"the destination is larger than the bitmap",
			rectangle(0, 0, 3, 1, 1, 1, 16, 0, 0x00, 0xf8, 0, 0),
			[2][4]color.RGBA{{red}},
		},
		{
			"compressed, with a header",
			rectangle(0, 0, 3, 0, 4, 1, 16, bitmapCompressed, 0, 0, 3, 0, 8, 0, 8, 0, 0x64, 0x1f, 0x00),
			[2][4]color.RGBA{{blue, blue, blue, blue}},
		},
		{
			"compressed, without",
			rectangle(0, 0, 3, 0, 4, 1, 16, bitmapCompressed|bitmapNoHeader, 0x64, 0x1f, 0x00),
			[2][4]color.RGBA{{blue, blue, blue, blue}},
		},
		{
			"compressed, 32 bits",
			rectangle(0, 0, 1, 0, 2, 1, 32, bitmapCompressed|bitmapNoHeader, planarNoAlpha, 255, 0, 0, 255, 0, 0),
			[2][4]color.RGBA{{red, green}},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newScreen(4, 2)
			if err := s.bitmapUpdate(update(tt.rect)); err != nil {
				t.Fatal(err)
			}
			if s.faults != 0 || s.updates != 1 {
				t.Fatalf("%d faults (%v), %d updates", s.faults, s.fault, s.updates)
			}
			painted := 0
			for y, row := range tt.want {
				for x, want := range row {
					if got := s.img.RGBAAt(x, y); got != want {
						t.Errorf("at %d, %d: got %v, want %v", x, y, got, want)
					}
					if want.A != 0 {
						painted++
					}
				}
			}
			if got := s.coverage(); got != float64(painted)/8 {
				t.Errorf("coverage %v, want %d of 8", got, painted)
			}
		})
	}
}

func TestBitmapUpdateOutsideTheScreen(t *testing.T) {
	s := newScreen(4, 2)
	err := s.bitmapUpdate(update(
		rectangle(3, 1, 4, 2, 2, 2, 16, 0, 1, 1, 1, 1, 2, 2, 2, 2),
		rectangle(0xffff, 0xffff, 0xffff, 0xffff, 1, 1, 16, 0, 1, 1, 0, 0),
		rectangle(3, 1, 0, 0, 2, 1, 16, 0, 1, 1, 1, 1),
	))
	if err != nil || s.faults != 0 {
		t.Fatal(err, s.fault)
	}
	if got := s.coverage(); got != 1.0/8 {
		t.Errorf("coverage %v: want the one pixel that is on the screen", got)
	}
}

func TestBitmapsThatCannotBeRead(t *testing.T) {
	for name, r := range map[string][]byte{
		"no depth":             rectangle(0, 0, 0, 0, 1, 1, 8, 0, 1, 0, 0, 0),
		"no size":              rectangle(0, 0, 0, 0, 0, 1, 16, 0),
		"too large":            rectangle(0, 0, 0, 0, 8000, 8000, 16, bitmapCompressed|bitmapNoHeader, 0x61, 1, 1),
		"too little data":      rectangle(0, 0, 1, 1, 2, 2, 32, 0, 1, 2, 3, 4),
		"a header cut short":   rectangle(0, 0, 1, 1, 2, 2, 16, bitmapCompressed, 0, 0, 3, 0, 8),
		"a header that lies":   rectangle(0, 0, 1, 1, 2, 2, 16, bitmapCompressed, 0, 0, 9, 0, 8, 0, 8, 0, 0x61),
		"broken compression":   rectangle(0, 0, 1, 1, 2, 2, 16, bitmapCompressed|bitmapNoHeader, 0xff),
		"broken planar coding": rectangle(0, 0, 1, 1, 2, 2, 32, bitmapCompressed|bitmapNoHeader, 0xff),
	} {
		s := newScreen(4, 2)
		good := rectangle(0, 0, 0, 0, 1, 1, 16, 0, 1, 1, 0, 0)
		if err := s.bitmapUpdate(update(r, good)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if s.faults != 1 || s.fault == nil || s.updates != 1 {
			t.Errorf("%s: %d faults (%v), %d updates; want 1 and 1", name, s.faults, s.fault, s.updates)
		}
		// Nothing but faults is no update.
		s = newScreen(4, 2)
		if err := s.bitmapUpdate(update(r)); err != nil || s.updates != 0 {
			t.Errorf("%s, alone: %v, %d updates", name, err, s.updates)
		}
	}
	if err := newScreen(4, 2).bitmapUpdate([]byte{2, 0, 1}); err == nil {
		t.Error("a list cut short is taken")
	}
}

func TestFastPathFragments(t *testing.T) {
	u := append([]byte{1, 0}, update(rectangle(0, 0, 0, 0, 1, 1, 16, 0, 1, 1, 0, 0))...)
	part := func(head byte, b []byte) []byte {
		return append(binary.LittleEndian.AppendUint16([]byte{head}, uint16(len(b))), b...)
	}
	var f fastPath
	s := newScreen(4, 2)
	paint := func(b []byte) {
		t.Helper()
		if err := f.paint(s, b); err != nil {
			t.Fatal(err)
		}
	}
	paint(part(0x01, u))
	if s.updates != 1 {
		t.Fatalf("%d updates after a whole one", s.updates)
	}
	paint(append(part(0x03, nil), part(0x21, u[:5])...)) // a synchronize, and a first fragment
	paint(part(0x31, u[5:9]))
	if s.updates != 1 {
		t.Fatalf("%d updates before the last fragment", s.updates)
	}
	paint(part(0x11, u[9:]))
	if s.updates != 2 {
		t.Fatalf("%d updates after the last fragment", s.updates)
	}
	for name, b := range map[string][]byte{
		"compressed": part(0x81, u), "cut short": {0x01, 9, 0, 1}, "no size": {0x01},
	} {
		if err := f.paint(s, b); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	big := make([]byte, 0xffff)
	if err := f.paint(s, part(0x21, big)); err != nil {
		t.Fatal(err)
	}
	var err error
	for i := 0; err == nil && i <= maxUpdate/len(big); i++ {
		err = f.paint(s, part(0x31, big))
	}
	if err == nil {
		t.Error("fragments grow without end")
	}
}

func TestSlowPathUpdate(t *testing.T) {
	s := newScreen(4, 2)
	body := append([]byte{1, 0}, update(rectangle(0, 0, 0, 0, 1, 1, 16, 0, 1, 1, 0, 0))...)
	if err := s.slowPathUpdate(body); err != nil || s.updates != 1 {
		t.Errorf("%v, %d updates", err, s.updates)
	}
	if err := s.slowPathUpdate([]byte{3, 0}); err != nil || s.updates != 1 {
		t.Errorf("a synchronize: %v, %d updates", err, s.updates)
	}
	if err := s.slowPathUpdate([]byte{1}); err == nil {
		t.Error("an update without a type is taken")
	}
}

func FuzzFastPath(f *testing.F) {
	u := append([]byte{1, 0}, update(rectangle(0, 0, 3, 0, 4, 1, 16, bitmapCompressed|bitmapNoHeader, 0x64, 0x1f, 0x00))...)
	f.Add(append(binary.LittleEndian.AppendUint16([]byte{0x01}, uint16(len(u))), u...))
	f.Fuzz(func(t *testing.T, data []byte) {
		var p fastPath
		s := newScreen(16, 16)
		_ = p.paint(s, data)
		if c := s.coverage(); c < 0 || c > 1 {
			t.Errorf("coverage %v", c)
		}
	})
}
