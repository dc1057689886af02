// SPDX-License-Identifier: GPL-3.0-only

package probe

// The capability sets that the probe sends, [MS-RDPBCGR] 2.2.1.13.2.1.1.
const (
	capGeneral        = 0x01
	capBitmap         = 0x02
	capOrder          = 0x03
	capBitmapCache    = 0x04
	capPointer        = 0x08
	capShare          = 0x09
	capSound          = 0x0c
	capInput          = 0x0d
	capFont           = 0x0e
	capBrush          = 0x0f
	capGlyphCache     = 0x10
	capOffscreenCache = 0x11
	capVirtualChannel = 0x14
	capMultiFragment  = 0x1a
)

// hostUser is the MCS user of every host.
const hostUser = 0x03ea

// confirmActive answers a Demand Active PDU, 2.2.1.13.2.1. It claims no drawing
// orders, codecs or caches, so that all that the host can send is bitmaps.
func confirmActive(o Options, d demandActive) []byte {
	sets := []struct {
		kind uint16
		body []byte
	}{
		{capGeneral, generalCapability()},
		{capBitmap, bitmapCapability(o, d)},
		{capOrder, orderCapability()},
		{capBitmapCache, make([]byte, 36)},
		{capPointer, []byte{1, 0, 20, 0}}, // in colour, with a cache of 20
		{capInput, inputCapability()},
		{capBrush, make([]byte, 4)},
		{capGlyphCache, make([]byte, 48)},
		{capOffscreenCache, make([]byte, 8)},
		{capVirtualChannel, make([]byte, 8)},
		{capSound, make([]byte, 4)},
		{capShare, make([]byte, 4)},
		{capFont, []byte{1, 0, 0, 0}},
		{capMultiFragment, multiFragmentCapability()},
	}
	var all fields
	for _, s := range sets {
		all.bytes(block(s.kind, s.body))
	}
	source := []byte("rdpprobe\x00")
	var f fields
	f.u32(d.shareID)
	f.u16(hostUser, uint16(len(source)), uint16(len(all)+4))
	f.bytes(source)
	f.u16(uint16(len(sets)), 0)
	f.bytes(all)
	return f
}

// generalCapability is a TS_GENERAL_CAPABILITYSET, 2.2.7.1.1.
func generalCapability() []byte {
	const (
		windows, windowsNT = 1, 3
		version            = 0x0200
		fastPathOutput     = 0x0001
		longCredentials    = 0x0004
		noBitmapHeader     = 0x0400
	)
	var f fields
	f.u16(windows, windowsNT, version, 0, 0, fastPathOutput|longCredentials|noBitmapHeader, 0, 0, 0, 0)
	return f
}

// bitmapCapability is a TS_BITMAP_CAPABILITYSET, 2.2.7.1.2.
func bitmapCapability(o Options, d demandActive) []byte {
	const resize, compression, skipAlpha, multipleRectangles = 1, 1, 0x08, 1
	var f fields
	f.u16(uint16(o.Depth), 1, 1, 1, uint16(d.width), uint16(d.height), 0, resize, compression)
	f.u8(0, skipAlpha)
	f.u16(multipleRectangles, 0)
	return f
}

// orderCapability is a TS_ORDER_CAPABILITYSET without a single order, 2.2.7.1.3.
func orderCapability() []byte {
	const negotiate, zeroBounds = 0x0002, 0x0008
	var f fields
	f.zeros(16 + 4)
	f.u16(1, 20, 0, 1, 0, negotiate|zeroBounds) // granularity of saves, level, fonts, flags
	f.zeros(32)                                 // orderSupport
	f.zeros(2 + 2 + 4 + 4 + 2 + 2 + 2 + 2)
	return f
}

// inputCapability is a TS_INPUT_CAPABILITYSET, 2.2.7.1.6.
func inputCapability() []byte {
	const scanCodes, extendedMouse, unicode, usKeyboard, enhanced101, functionKeys = 0x01, 0x04, 0x10, 0x409, 4, 12
	var f fields
	f.u16(scanCodes|extendedMouse|unicode, 0)
	f.u32(usKeyboard, enhanced101, 0, functionKeys)
	f.zeros(64) // imeFileName
	return f
}

func multiFragmentCapability() []byte {
	var f fields
	f.u32(maxUpdate)
	return f
}

// finalization are the client's messages after Confirm Active, 1.3.1.1: the
// host's answer to them ends with a Font Map.
func finalization(d demandActive) [][]byte {
	const cooperate, requestControl = 4, 1
	data := func(kind uint8, values ...uint16) []byte {
		var f fields
		f.u32(d.shareID)
		f.u8(0, 1) // low priority
		f.u16(uint16(2*len(values) + 4))
		f.u8(kind, 0) // not compressed
		f.u16(0)
		f.u16(values...)
		return f
	}
	return [][]byte{
		data(dataSynchronize, 1, hostUser),
		data(dataControl, cooperate, 0, 0, 0),
		data(dataControl, requestControl, 0, 0, 0),
		data(dataFontList, 0, 0, 3, 50), // no fonts: first and last list, 50 bytes an entry
	}
}
