package simhost

import (
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"strings"

	"golang.org/x/image/font"
	"golang.org/x/image/font/gofont/gobold"
	"golang.org/x/image/font/gofont/gomedium"
	"golang.org/x/image/font/gofont/goregular"
	"golang.org/x/image/font/opentype"
	"golang.org/x/image/math/fixed"
	"golang.org/x/image/vector"
)

// weight is one of the three cuts of the Go typeface.
type weight int

const (
	regular weight = iota
	medium
	bold
)

// typeface is the parsed fonts of one host.
type typeface [3]*opentype.Font

func newTypeface() (*typeface, error) {
	var t typeface
	for w, ttf := range map[weight][]byte{regular: goregular.TTF, medium: gomedium.TTF, bold: gobold.TTF} {
		f, err := opentype.Parse(ttf)
		if err != nil {
			return nil, fmt.Errorf("parse font %d: %w", w, err)
		}
		t[w] = f
	}
	return &t, nil
}

// canvas is a picture that is being drawn. Coordinates and sizes are in points
// of a desktop of ordinary size; scale turns them into pixels. It is for one
// goroutine; the faces can be kept for the next picture.
type canvas struct {
	img   *image.RGBA
	scale float64
	types *typeface
	faces map[faceKey]font.Face
}

type faceKey struct {
	w      weight
	pixels float64
}

func (c *canvas) px(points float64) int { return int(points*c.scale + 0.5) }

func (c *canvas) face(w weight, size float64) font.Face {
	key := faceKey{w, max(8, size*c.scale)}
	if f, ok := c.faces[key]; ok {
		return f
	}
	f, err := opentype.NewFace(c.types[w], &opentype.FaceOptions{Size: key.pixels, DPI: 72, Hinting: font.HintingFull})
	if err != nil {
		panic("simhost: a parsed Go font makes no face: " + err.Error()) // NewFace never fails
	}
	c.faces[key] = f
	return f
}

// width is how wide s is drawn, in points.
func (c *canvas) width(s string, w weight, size float64) float64 {
	return float64(font.MeasureString(c.face(w, size), s).Ceil()) / c.scale
}

// text draws s with its baseline at y and returns where it ended.
func (c *canvas) text(x, y float64, s string, w weight, size float64, col color.Color) float64 {
	d := font.Drawer{
		Dst: c.img, Src: image.NewUniform(col), Face: c.face(w, size),
		Dot: fixed.P(c.px(x), c.px(y)),
	}
	d.DrawString(s)
	return float64(d.Dot.X.Ceil()) / c.scale
}

// fit cuts s with dots so that it is at most limit points wide.
func (c *canvas) fit(s string, w weight, size, limit float64) string {
	if c.width(s, w, size) <= limit {
		return s
	}
	r := []rune(s)
	for len(r) > 0 && c.width(string(r)+"…", w, size) > limit {
		r = r[:len(r)-1]
	}
	return string(r) + "…"
}

// wrap breaks s at blanks into lines of at most limit points.
func (c *canvas) wrap(s string, w weight, size, limit float64) []string {
	var lines []string
	line := ""
	for _, word := range strings.Fields(s) {
		longer := strings.TrimSpace(line + " " + word)
		if line != "" && c.width(longer, w, size) > limit {
			lines = append(lines, line)
			longer = word
		}
		line = longer
	}
	return append(lines, line)
}

// box fills a rectangle with round corners.
func (c *canvas) box(x, y, w, h, radius float64, col color.Color) {
	r := image.Rect(c.px(x), c.px(y), c.px(x+w), c.px(y+h))
	if r.Empty() {
		return
	}
	fx, fy, fr := float32(r.Dx()), float32(r.Dy()), float32(min(radius*c.scale, float64(r.Dx())/2, float64(r.Dy())/2))
	const k = 0.5523 // a cubic curve that is nearly a quarter of a circle
	kr := fr * (1 - k)
	v := vector.NewRasterizer(r.Dx(), r.Dy())
	v.MoveTo(fr, 0)
	v.LineTo(fx-fr, 0)
	v.CubeTo(fx-kr, 0, fx, kr, fx, fr)
	v.LineTo(fx, fy-fr)
	v.CubeTo(fx, fy-kr, fx-kr, fy, fx-fr, fy)
	v.LineTo(fr, fy)
	v.CubeTo(kr, fy, 0, fy-kr, 0, fy-fr)
	v.LineTo(0, fr)
	v.CubeTo(0, kr, kr, 0, fr, 0)
	v.ClosePath()
	v.Draw(c.img, r, image.NewUniform(col), image.Point{})
}

// frame draws the outline of a box.
func (c *canvas) frame(x, y, w, h, radius, thick float64, line, inside color.Color) {
	c.box(x, y, w, h, radius, line)
	c.box(x+thick, y+thick, w-2*thick, h-2*thick, radius-thick, inside)
}

func (c *canvas) dot(x, y, radius float64, col color.Color) {
	c.box(x-radius, y-radius, 2*radius, 2*radius, radius, col)
}

// gradient fills the picture from top to bottom.
func (c *canvas) gradient(top, bottom color.RGBA) {
	b := c.img.Bounds()
	for y := b.Min.Y; y < b.Max.Y; y++ {
		row := image.Rect(b.Min.X, y, b.Max.X, y+1)
		draw.Draw(c.img, row, image.NewUniform(mix(top, bottom, float64(y-b.Min.Y)/float64(b.Dy()))), image.Point{}, draw.Src)
	}
}

// mix is a with the share t of b.
func mix(a, b color.RGBA, t float64) color.RGBA {
	f := func(x, y uint8) uint8 { return uint8(float64(x) + (float64(y)-float64(x))*t + 0.5) }
	return color.RGBA{f(a.R, b.R), f(a.G, b.G), f(a.B, b.B), 0xff}
}

// changes are the parts of the picture in which now differs from before; the
// whole of it if before is nil or of another size.
func changes(before, now *image.RGBA) []image.Rectangle {
	const band = 32
	b := now.Bounds()
	if before == nil || before.Bounds() != b {
		return []image.Rectangle{b}
	}
	var list []image.Rectangle
	for y := b.Min.Y; y < b.Max.Y; y += band {
		r := image.Rectangle{}
		for row := y; row < min(y+band, b.Max.Y); row++ {
			from, to := differs(before.Pix[before.PixOffset(b.Min.X, row):][:4*b.Dx()], now.Pix[now.PixOffset(b.Min.X, row):][:4*b.Dx()])
			if from < to {
				r = r.Union(image.Rect(b.Min.X+from/4, row, b.Min.X+(to+3)/4, row+1))
			}
		}
		if !r.Empty() {
			list = append(list, r)
		}
	}
	return list
}

// differs is the range of bytes outside of which a and b are equal.
func differs(a, b []byte) (from, to int) {
	to = len(a)
	for from < to && a[from] == b[from] {
		from++
	}
	for to > from && a[to-1] == b[to-1] {
		to--
	}
	return from, to
}
