// SPDX-License-Identifier: GPL-3.0-only

package probe

import (
	"math/rand/v2"
	"slices"
	"testing"
)

func TestDecodeRLE(t *testing.T) {
	const w16 = 0xffff
	tests := []struct {
		name          string
		data          []byte
		width, height int
		depth         int
		want          []uint32
	}{
		{"background in the first row is black", []byte{0x04}, 4, 1, 16, []uint32{0, 0, 0, 0}},
		{"foreground is white at first", []byte{0x24}, 4, 1, 16, []uint32{w16, w16, w16, w16}},
		{"foreground white has 15 bits", []byte{0x22}, 2, 1, 15, []uint32{0x7fff, 0x7fff}},
		{"colour run", []byte{0x63, 0x34, 0x12}, 3, 1, 16, []uint32{0x1234, 0x1234, 0x1234}},
		{"colour run of 24 bits", []byte{0x62, 1, 2, 3}, 2, 1, 24, []uint32{0x030201, 0x030201}},
		{"image", []byte{0x82, 1, 0, 2, 0}, 2, 1, 16, []uint32{1, 2}},
		{"dither counts pairs", []byte{0xe2, 1, 0, 2, 0}, 4, 1, 16, []uint32{1, 2, 1, 2}},
		{"set foreground", []byte{0xc2, 0x0f, 0x00, 0x22}, 2, 2, 16, []uint32{0x0f, 0x0f, 0, 0}},
		{"background and foreground by mask", []byte{0x41, 0b00000101}, 8, 1, 16, []uint32{w16, 0, w16, 0, 0, 0, 0, 0}},
		{"masks of single orders", []byte{0xf9, 0xfa}, 8, 2, 16, []uint32{
			w16, w16, 0, 0, 0, 0, 0, 0,
			0, w16, w16, 0, 0, 0, 0, 0}},
		{"white and black", []byte{0xfd, 0xfe}, 2, 1, 24, []uint32{0xffffff, 0}},
		{"the row above", []byte{0x82, 1, 0, 2, 0, 0x02, 0x22}, 2, 3, 16, []uint32{1, 2, 1, 2, 1 ^ w16, 2 ^ w16}},
		{"two background runs in the first row", []byte{0x02, 0x02}, 4, 1, 16, []uint32{0, 0, w16, 0}},
		{"two background runs from the first row to the second", []byte{0x02, 0x02}, 2, 2, 16, []uint32{0, 0, 0, 0}},
		{"two background runs below", []byte{0x82, 1, 0, 2, 0, 0x02, 0x02}, 2, 3, 16, []uint32{1, 2, 1, 2, 1 ^ w16, 2}},
		{"long regular run", []byte{0x60, 0x01, 7, 0}, 33, 1, 16, slices.Repeat([]uint32{7}, 33)},
		{"long lite run", []byte{0xc0, 0x00, 7, 0}, 16, 1, 16, slices.Repeat([]uint32{7}, 16)},
		{"long mask", []byte{0x40, 0x01, 0xff}, 2, 1, 16, []uint32{w16, w16}},
		{"longest run", []byte{0xf3, 0x03, 0x00, 9, 0}, 3, 1, 16, []uint32{9, 9, 9}},
		{"what is left out is black", []byte{0x61, 5, 0}, 2, 1, 16, []uint32{5, 0}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := decodeRLE(tt.data, tt.width, tt.height, tt.depth)
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("got %#x, want %#x", got, tt.want)
			}
		})
	}
}

func TestDecodeRLERefuses(t *testing.T) {
	for name, data := range map[string][]byte{
		"a run beyond the end":         {0x05},
		"a dither beyond the end":      {0xe3, 1, 0, 2, 0},
		"more orders than pixels":      {0x04, 0x61, 1, 0},
		"an unknown extended code":     {0xf5, 1, 0},
		"an unknown regular code":      {0xa1},
		"a colour cut short":           {0x64, 1},
		"an image cut short":           {0x84, 1, 0, 2},
		"a mask cut short":             {0x40, 0x03},
		"a run length cut short":       {0xf0, 1},
		"a long run without length":    {0x60},
		"a set foreground cut short":   {0xc1, 1},
		"an unassigned one-byte order": {0xff, 0, 0},
	} {
		if got, err := decodeRLE(data, 4, 1, 16); err == nil {
			t.Errorf("%s: decoded to %#x", name, got)
		}
	}
}

// TestRLERoundTrip encodes pictures with orders chosen at random among those
// that fit, and decodes them again.
func TestRLERoundTrip(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, depth := range []int{15, 16, 24} {
		for range 200 {
			width, height := 1+r.IntN(40), 1+r.IntN(20)
			palette := []uint32{0, 1<<depth - 1, r.Uint32N(1 << depth), r.Uint32N(1 << depth)}
			pixels := make([]uint32, width*height)
			for i := range pixels {
				switch {
				case i > 0 && r.IntN(3) > 0:
					pixels[i] = pixels[i-1]
				case i >= width && r.IntN(3) > 0:
					pixels[i] = pixels[i-width]
				default:
					pixels[i] = palette[r.IntN(len(palette))]
				}
			}
			data := encodeRLE(r, pixels, width, depth)
			got, err := decodeRLE(data, width, height, depth)
			if err != nil {
				t.Fatalf("%d x %d, %d bits: %v\n% x", width, height, depth, err, data)
			}
			if !slices.Equal(got, pixels) {
				t.Fatalf("%d x %d, %d bits: got\n%x, want\n%x\nfrom % x", width, height, depth, got, pixels, data)
			}
		}
	}
}

// encodeRLE writes orders in their longest form, so that it shares no thought
// with the decoder but the meaning of the orders.
func encodeRLE(r *rand.Rand, pixels []uint32, width, depth int) []byte {
	var out []byte
	foreground := uint32(1<<depth - 1)
	color := func(c uint32) {
		out = append(out, byte(c), byte(c>>8))
		if depth == 24 {
			out = append(out, byte(c>>16))
		}
	}
	order := func(code byte, run int) { out = append(out, code, byte(run), byte(run>>8)) }
	above := func(i int) uint32 {
		if i < width {
			return 0
		}
		return pixels[i-width]
	}
	// run counts the pixels from i that are as f says, within the row.
	run := func(i int, f func(int) uint32) int {
		n := 0
		for i+n < len(pixels) && (n == 0 || (i+n)%width != 0) && pixels[i+n] == f(i+n) {
			n++
		}
		return n
	}
	lastWasBackground := false
	for i := 0; i < len(pixels); {
		if i == width {
			lastWasBackground = false
		}
		background := run(i, above)
		ahead := run(i, func(j int) uint32 { return above(j) ^ foreground })
		same := run(i, func(int) uint32 { return pixels[i] })
		wasBackground := lastWasBackground
		lastWasBackground = false
		switch choice := r.IntN(4); {
		case choice == 0 && background > 0 && !wasBackground:
			order(0xf0, background)
			lastWasBackground = true
			i += background
		case choice == 1 && ahead > 0:
			order(0xf1, ahead)
			i += ahead
		case choice == 2:
			foreground = pixels[i] ^ above(i)
			order(0xf6, 1)
			color(foreground)
			i++
		case choice == 3 && i+1 < len(pixels):
			order(0xf8, 1)
			color(pixels[i])
			color(pixels[i+1])
			i += 2
		case same > 2:
			order(0xf3, same)
			color(pixels[i])
			i += same
		default:
			order(0xf4, 1)
			color(pixels[i])
			i++
		}
	}
	return out
}

func FuzzDecodeRLE(f *testing.F) {
	f.Add([]byte{0x82, 1, 0, 2, 0, 0x02, 0x22}, uint8(2), uint8(3), uint8(16))
	f.Add([]byte{0xf9, 0xfa, 0xfd, 0xfe, 0xe2, 1, 0, 2, 0}, uint8(8), uint8(3), uint8(24))
	f.Add([]byte{0xf3, 0x03, 0x00, 9, 0}, uint8(3), uint8(1), uint8(15))
	f.Fuzz(func(t *testing.T, data []byte, width, height, depth uint8) {
		if width == 0 || height == 0 {
			return
		}
		d := []int{15, 16, 24}[depth%3]
		got, err := decodeRLE(data, int(width), int(height), d)
		if err == nil && len(got) != int(width)*int(height) {
			t.Errorf("%d pixels of %d x %d", len(got), width, height)
		}
		for _, p := range got {
			if p>>max(16, d) != 0 {
				t.Fatalf("a pixel %#x of %d bits", p, d)
			}
		}
	})
}
