// SPDX-License-Identifier: GPL-3.0-only

package probe

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// The example of [MS-RDPEGDI] 3.1.9.2.3.
func TestRLEPlane(t *testing.T) {
	in := cursor{b: []byte{
		0x13, 0xff, 0x20, 0xfe, 0xfd,
		0x60, 0x01, 0x7d, 0xf5, 0xc2, 0x9a, 0x38,
		0x60, 0x01, 0x67, 0x8b, 0xa3, 0x78, 0xaf,
	}}
	got := rlePlane(&in, 6, 3)
	want := []byte{
		255, 255, 255, 255, 254, 253,
		254, 192, 132, 96, 75, 25,
		253, 140, 62, 14, 135, 193,
	}
	if in.err() != nil || !slices.Equal(got, want) {
		t.Errorf("got %d, %v; want %d", got, in.err(), want)
	}
}

// The example of [MS-RDPEGDI] 3.1.9.2.2.
func TestRLEPlaneLongRuns(t *testing.T) {
	in := cursor{b: []byte{0x1f, 'A', 0xf2, 0x52}}
	got := rlePlane(&in, 100, 1)
	if in.err() != nil || !slices.Equal(got, slices.Repeat([]byte{'A'}, 100)) {
		t.Errorf("got %q, %v", got, in.err())
	}
}

// TestDecodePlanar decodes pictures of each kind; their .bmp is what must come out.
func TestDecodePlanar(t *testing.T) {
	files, err := filepath.Glob("testdata/rdp6/*.bin")
	if err != nil || len(files) == 0 {
		t.Fatal(err, len(files))
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			width, height, want := readBMP(t, file[:len(file)-len("bin")]+"bmp")
			got, err := decodePlanar(data, width, height)
			if err != nil {
				t.Fatal(err)
			}
			for i := range got {
				if got[i] != want[i] {
					t.Fatalf("pixel %d, %d: got %#06x, want %#06x", i%width, i/width, got[i], want[i])
				}
			}
		})
	}
}

// readBMP reads an uncompressed picture of 24 bits, top row first.
func readBMP(t *testing.T, path string) (width, height int, pixels []uint32) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	le := binary.LittleEndian
	offset := int(le.Uint32(b[10:]))
	width, height = int(le.Uint32(b[18:])), int(le.Uint32(b[22:]))
	stride := (width*3 + 3) &^ 3
	for y := height - 1; y >= 0; y-- {
		for x := range width {
			p := b[offset+y*stride+3*x:]
			pixels = append(pixels, rgb(p[2], p[1], p[0]))
		}
	}
	return width, height, pixels
}

func TestDecodePlanarRefuses(t *testing.T) {
	for name, data := range map[string][]byte{
		"nothing":                        {},
		"a raw plane cut short":          {planarNoAlpha, 1, 2, 3},
		"no second plane":                {planarNoAlpha | planarRLE, 0x40, 1, 2, 3, 4},
		"a run beyond the row":           {planarNoAlpha | planarRLE, 0x1f, 1},
		"an empty segment":               {planarNoAlpha | planarRLE, 0, 0, 0, 0},
		"subsampling without chroma":     {planarNoAlpha | planarSubsampled, 1, 2, 3, 4, 1, 1, 1, 1, 2, 2, 2, 2},
		"raw values that are not there":  {planarNoAlpha | planarRLE, 0x20, 1},
		"an alpha plane where none fits": {0, 1, 2, 3, 4, 1, 1, 1, 1, 2, 2, 2, 2},
	} {
		if got, err := decodePlanar(data, 2, 2); err == nil {
			t.Errorf("%s: decoded to %#x", name, got)
		}
	}
}

func FuzzDecodePlanar(f *testing.F) {
	files, _ := filepath.Glob("testdata/rdp6/*.bin")
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		var width, height int
		if _, err := fmt.Sscanf(filepath.Base(file), "%dx%d", &width, &height); err != nil {
			f.Fatal(err)
		}
		f.Add(data, uint8(width), uint8(height))
	}
	f.Fuzz(func(t *testing.T, data []byte, width, height uint8) {
		got, err := decodePlanar(data, int(width), int(height))
		if err == nil && len(got) != int(width)*int(height) {
			t.Errorf("%d pixels of %d x %d", len(got), width, height)
		}
	})
}
