package rdpserver

import (
	"encoding/binary"
	"fmt"
)

// capability is one capability set, [MS-RDPBCGR] 2.2.1.13.1.1.1.
type capability struct {
	kind uint16
	body []byte
}

// Kinds of capability sets, [MS-RDPBCGR] 2.2.1.13.1.1.1.
const (
	capGeneral        = 1
	capBitmap         = 2
	capOrder          = 3
	capPointer        = 8
	capShare          = 9
	capInput          = 13
	capFont           = 14
	capVirtualChannel = 20
	capBitmapCodecs   = 29
)

// serverCapabilities is what this server can do: uncompressed bitmaps of one
// depth, input by slow and fast path, and nothing else.
func serverCapabilities(width, height, depth int) []capability {
	const (
		fastPathOutput     = 0x0001
		longCredentials    = 0x0004
		noCompressionHdr   = 0x0400
		negotiateOrders    = 0x0002
		zeroBoundsDeltas   = 0x0008
		colorIndex         = 0x0020
		inputScancodes     = 0x0001
		inputExtendedMouse = 0x0004
		inputUnicode       = 0x0010
		inputFastPath2     = 0x0020
	)
	return []capability{
		// First, because some clients of Microsoft want it first.
		{capShare, words(serverChannel, 0xb5e2)}, // pad: as Windows leaves it
		{capGeneral, words(
			1, 3, // Windows, Windows NT
			0x0200, 0, // protocol version, pad
			0, // compression types
			fastPathOutput|longCredentials|noCompressionHdr,
			0, 0, 0, // update capability, remote unshare, compression level
			0, // no Refresh Rect PDU, no Suppress Output PDU
		)},
		{capVirtualChannel, dwords(0, 1600)}, // no compression, chunks of the usual size
		{capFont, words(1, 0)},               // font lists
		{capBitmap, words(
			depth, 1, 1, 1, // and 1, 4, 8 bits per pixel, which nobody reads
			width, height,
			0, 0, // pad, no resizing
			1, // compression: must be so
			0, // high colour flags, drawing flags
			1, // several rectangles
			0,
		)},
		{capOrder, concat(
			make([]byte, 16+4),    // terminal descriptor, pad
			words(1, 20, 0, 1, 0), // desktop save granularities, pad, one order level, no fonts
			words(negotiateOrders|zeroBoundsDeltas|colorIndex),
			make([]byte, 32), // not one drawing order
			words(0, 0),      // text flags, extended flags
			dwords(0, 480*480),
			words(0, 0, 0, 0),
		)},
		{capPointer, words(1, 25, 25)}, // colour pointers, cache sizes
		{capInput, concat(
			words(inputScancodes|inputExtendedMouse|inputUnicode|inputFastPath2, 0),
			make([]byte, 4*4), // keyboard, which the client tells
			make([]byte, 64),  // IME file name
		)},
		// Some clients take a server without codecs for one of RDP 5. It is never used.
		{capBitmapCodecs, concat(
			[]byte{1}, // one codec: NSCodec
			[]byte{0xb9, 0x1b, 0x8d, 0xca, 0x0f, 0x00, 0x4f, 0x15, 0x58, 0x9f, 0xae, 0x2d, 0x1a, 0x87, 0xe2, 0xd6},
			[]byte{0, 3, 0, 1, 1, 3}, // ID, three bytes: dynamic fidelity, subsampling, colour loss 3
		)},
	}
}

func words(values ...int) []byte {
	var b []byte
	for _, v := range values {
		b = binary.LittleEndian.AppendUint16(b, uint16(v))
	}
	return b
}

func dwords(values ...int) []byte {
	var b []byte
	for _, v := range values {
		b = binary.LittleEndian.AppendUint32(b, uint32(v))
	}
	return b
}

func concat(parts ...[]byte) []byte {
	var b []byte
	for _, p := range parts {
		b = append(b, p...)
	}
	return b
}

// demandActivePacket is the Demand Active PDU, [MS-RDPBCGR] 2.2.1.13.1.
func demandActivePacket(caps []capability) []byte {
	source := []byte("RDP\x00")
	var sets []byte
	for _, s := range caps {
		sets = append(sets, words(int(s.kind), 4+len(s.body))...)
		sets = append(sets, s.body...)
	}
	body := concat(
		dwords(shareID),
		words(len(source), 4+len(sets)),
		source,
		words(len(caps), 0),
		sets,
		dwords(0), // sessionId, which clients ignore
	)
	return dataIndication(shareControl(pduVersion|pduDemandActive, serverChannel, body))
}

// parseConfirmActive reads the body of a Confirm Active PDU, [MS-RDPBCGR]
// 2.2.1.13.2: the client's capability sets.
func parseConfirmActive(b []byte) ([]capability, error) {
	c := cursor{b: b}
	id := c.u32()
	c.skip(2) // originatorId
	source, combined := int(c.u16()), int(c.u16())
	c.skip(source)
	sets := cursor{b: c.take(combined), err: c.err}
	if sets.err == nil && id != shareID {
		return nil, fmt.Errorf("confirm active: share %#x, demanded was %#x", id, shareID)
	}
	count := sets.u16()
	sets.skip(2) // pad
	caps, err := parseCapabilities(&sets, int(count))
	if err != nil {
		return nil, fmt.Errorf("confirm active: %w", err)
	}
	return caps, nil
}

func parseCapabilities(c *cursor, count int) ([]capability, error) {
	var caps []capability
	for range count {
		kind, length := c.u16(), int(c.u16())
		body := c.take(length - 4)
		if c.err != nil {
			return nil, fmt.Errorf("capability set %d of %d bytes: %w", kind, length, c.err)
		}
		caps = append(caps, capability{kind, body})
	}
	return caps, nil
}
