// SPDX-License-Identifier: GPL-3.0-only

package probe

import "fmt"

// The orders of interleaved run-length encoding, [MS-RDPBCGR] 2.2.9.1.1.3.1.2.4.
// The regular, lite and extended forms of one order are one kind here.
type rleOrder int

const (
	rleBackground rleOrder = iota // as the row before
	rleForeground                 // the row before, XOR the foreground colour
	rleMask                       // one or the other, by a bit mask
	rleColor                      // one colour
	rleImage                      // literal pixels
	rleDither                     // two colours in turn
)

// rleHeader is one order without its data.
type rleHeader struct {
	order rleOrder
	run   int   // pixels
	set   bool  // a new foreground colour follows
	mask  uint8 // for rleMask: the only mask, 0 if masks follow
	color uint32
	fixed bool // for rleColor: color is the colour, none follows
}

// decodeRLE decodes a compressed bitmap of 15, 16 or 24 bits per pixel into
// width*height pixels in the order in which they were sent, bottom row first.
// Pixels that the stream leaves out are black. Data beyond the last pixel is an
// error, as is a stream that ends in the middle of an order.
func decodeRLE(data []byte, width, height, depth int) ([]uint32, error) {
	d := rleDecoder{
		in: cursor{b: data}, out: make([]uint32, 0, width*height),
		width: width, depth: depth, white: 1<<depth - 1,
	}
	d.foreground = d.white
	for len(d.in.b) > 0 {
		if err := d.step(); err != nil {
			return nil, fmt.Errorf("run-length encoded bitmap, pixel %d of %d: %w", len(d.out), cap(d.out), err)
		}
	}
	return d.out[:cap(d.out)], nil
}

type rleDecoder struct {
	in           cursor
	out          []uint32 // its capacity is the size of the bitmap
	width, depth int
	white        uint32
	foreground   uint32
	// afterBackground: a background run that follows another one starts with one
	// foreground pixel, or the two would have been one. It does not count from
	// the first row to the second, where the meaning of "background" changes.
	afterBackground bool
	belowFirstRow   bool
}

func (d *rleDecoder) step() error {
	if !d.belowFirstRow && len(d.out) >= d.width {
		d.belowFirstRow, d.afterBackground = true, false
	}
	h, err := readRLEHeader(&d.in, d.white)
	if err != nil {
		return err
	}
	if h.set {
		d.foreground = d.pixel()
	}
	pixels := h.run
	if h.order == rleDither {
		pixels *= 2
	}
	if pixels > cap(d.out)-len(d.out) {
		return fmt.Errorf("a run of %d pixels is longer than the bitmap", pixels)
	}
	insert := h.order == rleBackground && d.afterBackground
	d.afterBackground = h.order == rleBackground
	if insert && pixels > 0 {
		d.out = append(d.out, d.above()^d.foreground)
		pixels--
	}
	d.write(h, pixels)
	return d.in.err()
}

// write appends the pixels of one order.
func (d *rleDecoder) write(h rleHeader, pixels int) {
	var a, b uint32
	switch {
	case h.fixed:
		a = h.color
	case h.order == rleColor:
		a = d.pixel()
	case h.order == rleDither:
		a, b = d.pixel(), d.pixel()
	}
	mask := h.mask
	for i := range pixels {
		switch h.order {
		case rleBackground:
			d.out = append(d.out, d.above())
		case rleForeground:
			d.out = append(d.out, d.above()^d.foreground)
		case rleMask:
			if h.mask == 0 && i%8 == 0 {
				mask = d.in.u8()
			}
			p := d.above()
			if mask>>(i%8)&1 != 0 {
				p ^= d.foreground
			}
			d.out = append(d.out, p)
		case rleColor:
			d.out = append(d.out, a)
		case rleDither:
			d.out = append(d.out, a)
			a, b = b, a
		case rleImage:
			if d.in.short {
				return
			}
			d.out = append(d.out, d.pixel())
		}
	}
}

// above is the pixel in the row before the next one to be written, black in the
// first row.
func (d *rleDecoder) above() uint32 {
	if n := len(d.out); n >= d.width {
		return d.out[n-d.width]
	}
	return 0
}

func (d *rleDecoder) pixel() uint32 {
	p := uint32(d.in.u16())
	if d.depth == 24 {
		p |= uint32(d.in.u8()) << 16
	}
	return p
}

// readRLEHeader reads an order's code and run length. white is a white pixel.
func readRLEHeader(in *cursor, white uint32) (rleHeader, error) {
	code := in.u8()
	switch {
	case code == 0xf9: // the two most common masks, and single pixels
		return rleHeader{order: rleMask, run: 8, mask: 0x03}, nil
	case code == 0xfa:
		return rleHeader{order: rleMask, run: 8, mask: 0x05}, nil
	case code == 0xfd:
		return rleHeader{order: rleColor, run: 1, fixed: true, color: white}, nil
	case code == 0xfe:
		return rleHeader{order: rleColor, run: 1, fixed: true}, nil
	case code >= 0xf0:
		h, ok := rleCode(code & 0x0f)
		if !ok || code == 0xf5 {
			return h, fmt.Errorf("no order has the code %#x", code)
		}
		h.run = int(in.u16())
		return h, in.err()
	case code >= 0xc0:
		// The lite forms, 0xc to 0xe, stand for the extended codes 6 to 8.
		h, _ := rleCode(code>>4 - 6)
		return h.withRun(in, int(code&0x0f), 16)
	}
	h, ok := rleCode(code >> 5)
	if !ok {
		return h, fmt.Errorf("no order has the code %#x", code)
	}
	return h.withRun(in, int(code&0x1f), 32)
}

// withRun takes the run length n of a regular or lite order; 0 means that it
// follows in a byte, from which the length above the short form's range counts.
func (h rleHeader) withRun(in *cursor, n, above int) (rleHeader, error) {
	switch {
	case h.order == rleMask && n == 0:
		h.run = int(in.u8()) + 1
	case h.order == rleMask:
		h.run = n * 8
	case n == 0:
		h.run = int(in.u8()) + above
	default:
		h.run = n
	}
	return h, in.err()
}

// rleCode is the order of a code in the numbering of the regular and extended forms.
func rleCode(code uint8) (rleHeader, bool) {
	switch code {
	case 0:
		return rleHeader{order: rleBackground}, true
	case 1:
		return rleHeader{order: rleForeground}, true
	case 2:
		return rleHeader{order: rleMask}, true
	case 3:
		return rleHeader{order: rleColor}, true
	case 4:
		return rleHeader{order: rleImage}, true
	case 6:
		return rleHeader{order: rleForeground, set: true}, true
	case 7:
		return rleHeader{order: rleMask, set: true}, true
	case 8:
		return rleHeader{order: rleDither}, true
	}
	return rleHeader{}, false
}
