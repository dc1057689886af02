// SPDX-License-Identifier: GPL-3.0-only

package probe

import (
	"errors"
	"fmt"
)

// The header byte of an RDP6_BITMAP_STREAM, [MS-RDPEGDI] 2.2.2.5.1.
const (
	planarColorLoss  = 0x07
	planarSubsampled = 0x08
	planarRLE        = 0x10
	planarNoAlpha    = 0x20
)

// decodePlanar decodes a compressed bitmap of 32 bits per pixel, [MS-RDPEGDI]
// 3.1.9, into width*height pixels 0x00RRGGBB in the order in which they were
// sent. Alpha is dropped: a desktop is opaque.
func decodePlanar(data []byte, width, height int) ([]uint32, error) {
	in := cursor{b: data}
	head := in.u8()
	loss, subsampled := int(head&planarColorLoss), head&planarSubsampled != 0
	if subsampled && loss == 0 {
		return nil, errors.New("planar bitmap: subsampled, but not in luma and chroma")
	}
	chromaWidth, chromaHeight := width, height
	if subsampled {
		chromaWidth, chromaHeight = (width+1)/2, (height+1)/2
	}
	plane := rawPlane
	if head&planarRLE != 0 {
		plane = rlePlane
	}
	if head&planarNoAlpha == 0 {
		plane(&in, width, height)
	}
	first := plane(&in, width, height)
	second := plane(&in, chromaWidth, chromaHeight)
	third := plane(&in, chromaWidth, chromaHeight)
	if err := in.err(); err != nil {
		return nil, fmt.Errorf("planar bitmap: %w", err)
	}

	out := make([]uint32, width*height)
	for i := range out {
		if loss == 0 {
			out[i] = rgb(first[i], second[i], third[i])
			continue
		}
		j := i
		if subsampled {
			j = i/width/2*chromaWidth + i%width/2
		}
		r, g, b := fromYCoCg(first[i], second[j], third[j], loss)
		if head&planarNoAlpha != 0 {
			// Windows confuses the two when there is no alpha, [MS-RDPEGDI] 3.1.9.1.2.
			r, b = b, r
		}
		out[i] = rgb(r, g, b)
	}
	return out, nil
}

func rgb(r, g, b uint8) uint32 { return uint32(r)<<16 | uint32(g)<<8 | uint32(b) }

// rawPlane reads an uncompressed plane. It returns nil, and in is short, if it
// is not there.
func rawPlane(in *cursor, width, height int) []byte { return in.take(width * height) }

// rlePlane reads a run-length encoded plane, [MS-RDPEGDI] 3.1.9.2.3. After an
// error in is short and the plane is of no use.
func rlePlane(in *cursor, width, height int) []byte {
	out := make([]byte, 0, width*height)
	for row := range height {
		var value uint8 // the last raw value, or delta: what a run repeats
		for left := width; left > 0; {
			control := in.u8()
			run, raw := int(control&0x0f), int(control>>4)
			if run == 1 || run == 2 { // long runs: no raw values, but more length
				run, raw = run*16+raw, 0
			}
			if in.short || control == 0 || raw+run > left {
				in.short = true
				return nil
			}
			left -= raw + run
			for i := range raw + run {
				if i < raw {
					value = in.u8()
					if row > 0 {
						value = planarDelta(value)
					}
				}
				v := value
				if row > 0 {
					v += out[len(out)-width]
				}
				out = append(out, v)
			}
		}
	}
	return out
}

// planarDelta decodes a difference to the row above: the sign is in the lowest bit.
func planarDelta(v uint8) uint8 {
	if v&1 != 0 {
		return 255 - v>>1
	}
	return v >> 1
}

// fromYCoCg inverts the colour transformation of [MS-RDPEGDI] 3.1.9.1.2. The
// chroma values lost their lowest bits to the colour loss level, and the halves
// of the matrix cost one bit less of shift.
func fromYCoCg(y, orange, green uint8, loss int) (r, g, b uint8) {
	co, cg := int(int8(orange<<(loss-1))), int(int8(green<<(loss-1)))
	t := int(y) - cg
	return clamp(t + co), clamp(int(y) + cg), clamp(t - co)
}

func clamp(v int) uint8 { return uint8(max(0, min(255, v))) }
