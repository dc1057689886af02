package rdpserver

import (
	"encoding/binary"
	"errors"
	"fmt"
	"image"
	"image/draw"
)

// ErrNotActive is the answer to Draw before Activate has succeeded, and after
// ErrorInfo or Redirect.
var ErrNotActive = errors.New("the client is not active")

const (
	// tileWidth is a multiple of four, so that no row needs padding at any depth
	// (and old clients want it so).
	tileWidth = 64
	// bitmapHeaderLen is an update header (4) and one TS_BITMAP_DATA (18).
	bitmapHeaderLen = 4 + 18
	// maxTileBytes is what is left for pixels of what one packet carries.
	maxTileBytes = maxUserData - shareControlLen - shareDataLen - bitmapHeaderLen
)

// Draw shows img with its upper left corner at the point at of the desktop. What
// lies outside of the desktop is cut off, transparent pixels come out black. It
// returns when everything has been handed to the network. Draw may be called
// from any goroutine; two pictures do not mix, but ErrorInfo, Redirect and Close
// cut a picture short.
func (c *Conn) Draw(img image.Image, at image.Point) error {
	target := img.Bounds().Sub(img.Bounds().Min).Add(at)
	target = target.Intersect(image.Rect(0, 0, c.client.Width, c.client.Height))
	shift := img.Bounds().Min.Sub(at) // from the desktop to img
	tileHeight := min(64, maxTileBytes/(tileWidth*c.client.ColorDepth/8))
	pixels := image.NewRGBA(image.Rect(0, 0, tileWidth, tileHeight))

	c.drawing.Lock()
	defer c.drawing.Unlock()
	if !c.active.Load() || c.leaving.Load() {
		return ErrNotActive
	}
	for y := target.Min.Y; y < target.Max.Y; y += tileHeight {
		for x := target.Min.X; x < target.Max.X; x += tileWidth {
			tile := image.Rect(x, y, x+tileWidth, y+tileHeight).Intersect(target)
			draw.Draw(pixels, tile.Sub(tile.Min), img, tile.Min.Add(shift), draw.Src)
			if err := c.writeWhileActive(bitmapPacket(pixels, tile, c.client.ColorDepth)); err != nil {
				return fmt.Errorf("drawing at %v: %w", tile.Min, err)
			}
		}
	}
	return nil
}

func (c *Conn) writeWhileActive(packet []byte) error {
	c.writing.Lock()
	defer c.writing.Unlock()
	if c.leaving.Load() {
		return ErrNotActive
	}
	return c.writeLocked(packet)
}

// bitmapPacket is a slow-path Bitmap Update of one uncompressed rectangle,
// [MS-RDPBCGR] 2.2.9.1.1.3.1.2: the upper left part of pixels goes to tile.
func bitmapPacket(pixels *image.RGBA, tile image.Rectangle, depth int) []byte {
	const updateBitmap, oneRectangle, uncompressed = 1, 1, 0
	width := (tile.Dx() + 3) &^ 3 // what is beyond the tile is cut off by the client
	size := width * tile.Dy() * depth / 8
	body := make([]byte, 0, bitmapHeaderLen+size)
	body = append(body, words(
		updateBitmap, oneRectangle,
		tile.Min.X, tile.Min.Y, tile.Max.X-1, tile.Max.Y-1,
		width, tile.Dy(), depth, uncompressed, size,
	)...)
	for y := tile.Dy() - 1; y >= 0; y-- { // bottom-up
		row := pixels.Pix[y*pixels.Stride:]
		body = appendPixels(body, row[:4*width], depth)
	}
	return dataIndication(shareData(dataUpdate, streamLow, serverChannel, body))
}

// appendPixels converts one row of RGBA to what goes over the wire at depth.
func appendPixels(dst, rgba []byte, depth int) []byte {
	for ; len(rgba) >= 4; rgba = rgba[4:] {
		r, g, b := rgba[0], rgba[1], rgba[2]
		switch depth {
		case 32:
			dst = append(dst, b, g, r, 0xff)
		case 24:
			dst = append(dst, b, g, r)
		default: // 16: five, six and five bits
			dst = binary.LittleEndian.AppendUint16(dst, uint16(r>>3)<<11|uint16(g>>2)<<5|uint16(b>>3))
		}
	}
	return dst
}
