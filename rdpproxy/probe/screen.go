// SPDX-License-Identifier: GPL-3.0-only

package probe

import (
	"errors"
	"fmt"
	"image"
	"math/bits"
)

// Bounds of a desktop and of every bitmap: the sides are those of [MS-RDPBCGR]
// 2.2.1.3.2, the area keeps a hostile host from taking gigabytes of memory.
const (
	maxSide = 8192
	maxArea = 1 << 24
)

// screen is the picture that the host has sent so far.
type screen struct {
	img     *image.RGBA
	painted []uint64 // one bit per pixel
	updates int      // updates with at least one rectangle that was painted
	faults  int      // rectangles that could not be decoded
	fault   error    // the first of them
}

func newScreen(width, height int) *screen {
	return &screen{
		img:     image.NewRGBA(image.Rect(0, 0, width, height)),
		painted: make([]uint64, (width*height+63)/64),
	}
}

// The flags of a TS_BITMAP_DATA, [MS-RDPBCGR] 2.2.9.1.1.3.1.2.2.
const (
	bitmapCompressed = 0x0001
	bitmapNoHeader   = 0x0400
)

// bitmapUpdate paints a TS_UPDATE_BITMAP_DATA without its updateType. A
// rectangle that cannot be decoded is counted and left out; a broken list is an error.
func (s *screen) bitmapUpdate(data []byte) error {
	in := cursor{b: data}
	painted := false
	for range int(in.u16()) {
		left, top, right, bottom := int(in.u16()), int(in.u16()), int(in.u16()), int(in.u16())
		b := bitmap{width: int(in.u16()), height: int(in.u16()), depth: int(in.u16()), flags: in.u16()}
		b.data = in.take(int(in.u16()))
		if err := in.err(); err != nil {
			return fmt.Errorf("bitmap update: %w", err)
		}
		pixels, err := b.decode()
		if err != nil {
			s.faults++
			if s.fault == nil {
				s.fault = err
			}
			continue
		}
		// The destination says how much of the bitmap counts: its width is padded.
		s.paint(image.Rect(left, top, right+1, bottom+1), b, pixels)
		painted = true
	}
	if painted {
		s.updates++
	}
	return nil
}

// paint copies the visible part of b, whose bottom row comes first.
func (s *screen) paint(dest image.Rectangle, b bitmap, pixels []uint32) {
	dest = dest.Intersect(image.Rect(dest.Min.X, dest.Min.Y, dest.Min.X+b.width, dest.Min.Y+b.height))
	visible := dest.Intersect(s.img.Bounds())
	for y := visible.Min.Y; y < visible.Max.Y; y++ {
		row := pixels[(b.height-1-(y-dest.Min.Y))*b.width:]
		for x := visible.Min.X; x < visible.Max.X; x++ {
			r, g, bl := splitColor(row[x-dest.Min.X], b.depth)
			o := s.img.PixOffset(x, y)
			copy(s.img.Pix[o:o+4], []uint8{r, g, bl, 0xff})
			n := y*s.img.Rect.Dx() + x
			s.painted[n/64] |= 1 << (n % 64)
		}
	}
}

// coverage is the painted part of the screen, 0 to 1.
func (s *screen) coverage() float64 {
	n := 0
	for _, w := range s.painted {
		n += bits.OnesCount64(w)
	}
	return float64(n) / float64(s.img.Rect.Dx()*s.img.Rect.Dy())
}

// colors counts the distinct colours on the screen, up to limit.
func (s *screen) colors(limit int) int {
	seen := make(map[[4]uint8]struct{}, limit)
	for o := 0; o < len(s.img.Pix) && len(seen) < limit; o += 4 {
		seen[[4]uint8(s.img.Pix[o:o+4])] = struct{}{}
	}
	return len(seen)
}

// bitmap is one rectangle as it was sent.
type bitmap struct {
	width, height, depth int
	flags                uint16
	data                 []byte
}

var errNoDepth = errors.New("bitmap: not one of 15, 16, 24 and 32 bits per pixel")

// decode returns the width*height pixels, bottom row first.
func (b bitmap) decode() ([]uint32, error) {
	if b.width == 0 || b.height == 0 || b.width > maxSide || b.height > maxSide || b.width*b.height > maxArea {
		return nil, fmt.Errorf("bitmap of %d x %d pixels", b.width, b.height)
	}
	if b.depth != 15 && b.depth != 16 && b.depth != 24 && b.depth != 32 {
		return nil, errNoDepth
	}
	if b.flags&bitmapCompressed == 0 {
		return b.uncompressed()
	}
	data := b.data
	if b.flags&bitmapNoHeader == 0 {
		in := cursor{b: data}
		in.skip(2) // cbCompFirstRowSize, always 0
		size := int(in.u16())
		in.skip(4) // cbScanWidth, cbUncompressedSize
		if data = in.take(size); in.short {
			return nil, fmt.Errorf("bitmap: compressed data header: %w", errShort)
		}
	}
	if b.depth == 32 {
		return decodePlanar(data, b.width, b.height)
	}
	return decodeRLE(data, b.width, b.height, b.depth)
}

// uncompressed rows are padded to a multiple of four bytes.
func (b bitmap) uncompressed() ([]uint32, error) {
	size := (b.depth + 7) / 8
	stride := (b.width*size + 3) &^ 3
	if len(b.data) < stride*(b.height-1)+b.width*size {
		return nil, fmt.Errorf("bitmap of %d x %d pixels in %d bytes", b.width, b.height, len(b.data))
	}
	out := make([]uint32, 0, b.width*b.height)
	for y := range b.height {
		row := b.data[y*stride:]
		for x := range b.width {
			var p uint32
			for i := range size {
				p |= uint32(row[x*size+i]) << (8 * i)
			}
			out = append(out, p)
		}
	}
	return out, nil
}

// splitColor spreads the bits of each channel over the whole range, so that
// white stays white.
func splitColor(p uint32, depth int) (r, g, b uint8) {
	switch depth {
	case 15:
		return spread(p>>10, 5), spread(p>>5, 5), spread(p, 5)
	case 16:
		return spread(p>>11, 5), spread(p>>5, 6), spread(p, 5)
	}
	return uint8(p >> 16), uint8(p >> 8), uint8(p)
}

func spread(v uint32, width int) uint8 {
	top := uint32(1)<<width - 1
	return uint8((v & top) * 255 / top)
}
