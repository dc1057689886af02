// SPDX-License-Identifier: GPL-3.0-only

package probe

import (
	"encoding/binary"
	"slices"
	"unicode/utf16"
)

// clipboard is the one virtual channel that the probe asks for, and only to
// hear whether there is somebody at the other end: see LogonDone.
const clipboard = "cliprdr"

// fields builds a message, the counterpart of cursor.
type fields []byte

func (f *fields) u8(v ...uint8)  { *f = append(*f, v...) }
func (f *fields) bytes(b []byte) { *f = append(*f, b...) }
func (f *fields) zeros(n int)    { *f = append(*f, make([]byte, n)...) }

func (f *fields) u16(values ...uint16) {
	for _, v := range values {
		*f = binary.LittleEndian.AppendUint16(*f, v)
	}
}

func (f *fields) u32(values ...uint32) {
	for _, v := range values {
		*f = binary.LittleEndian.AppendUint32(*f, v)
	}
}

// connectInitial is the MCS Connect Initial PDU, [MS-RDPBCGR] 2.2.1.3.
func connectInitial(o Options, selected uint32) []byte {
	blocks := slices.Concat(coreData(o, selected), clusterData(o.redirectedSession), securityData(), networkData())

	// A GCC Conference Create Request, T.124 8.7: the conference "1" and the
	// blocks as user data of the H.221 key "Duca".
	request := fields{0x00, 0x05, 0x00, 0x14, 0x7c, 0x00, 0x01}
	request.bytes(perLong(len(blocks) + 14))
	request.u8(0x00, 0x08, 0x00, 0x10, 0x00, 0x01, 0xc0, 0x00, 'D', 'u', 'c', 'a')
	request.bytes(perLong(len(blocks)))
	request.bytes(blocks)

	const application101 = 0x65
	body := slices.Concat(domainParameters, ber(0x04, request))
	return append([]byte{0x7f}, ber(application101, body)...)
}

// domainParameters are the domain selectors, the upward flag, and the target,
// minimum and maximum parameters, all as every client sends them.
var domainParameters = []byte{
	0x04, 0x01, 0x01, 0x04, 0x01, 0x01, 0x01, 0x01, 0xff,
	0x30, 0x19, 0x02, 0x01, 0x22, 0x02, 0x01, 0x02, 0x02, 0x01, 0x00, 0x02, 0x01, 0x01,
	0x02, 0x01, 0x00, 0x02, 0x01, 0x01, 0x02, 0x02, 0xff, 0xff, 0x02, 0x01, 0x02,
	0x30, 0x19, 0x02, 0x01, 0x01, 0x02, 0x01, 0x01, 0x02, 0x01, 0x01, 0x02, 0x01, 0x01,
	0x02, 0x01, 0x00, 0x02, 0x01, 0x01, 0x02, 0x02, 0x04, 0x20, 0x02, 0x01, 0x02,
	0x30, 0x1c, 0x02, 0x02, 0xff, 0xff, 0x02, 0x02, 0xfc, 0x17, 0x02, 0x02, 0xff, 0xff, 0x02, 0x01, 0x01,
	0x02, 0x01, 0x00, 0x02, 0x01, 0x01, 0x02, 0x02, 0xff, 0xff, 0x02, 0x01, 0x02,
}

// ber is an element whose length takes three bytes.
func ber(tag uint8, content []byte) []byte {
	b := binary.BigEndian.AppendUint16([]byte{tag, 0x82}, uint16(len(content)))
	return append(b, content...)
}

// perLong is a length determinant of two bytes.
func perLong(n int) []byte { return binary.BigEndian.AppendUint16(nil, uint16(n)|0x8000) }

func block(kind uint16, body []byte) []byte {
	var f fields
	f.u16(kind, uint16(len(body)+4))
	return append(f, body...)
}

// coreData is a TS_UD_CS_CORE, 2.2.1.3.2.
func coreData(o Options, selected uint32) []byte {
	const (
		version5       = 0x00080004
		color8bpp      = 0xca01 // what counts is highColorDepth
		secureSequence = 0xaa03
		usKeyboard     = 0x00000409
		enhanced101    = 4 // keyboard type
		functionKeys   = 12
		allDepths      = 0x000f
		wantErrorInfo  = 0x0001
		want32Bits     = 0x0002
	)
	depth, early := uint16(o.Depth), uint16(wantErrorInfo)
	if o.Depth == 32 { // asked for by a flag
		depth, early = 24, wantErrorInfo|want32Bits
	}
	name := make([]byte, 32) // the last character is NUL
	copy(name[:30], toUTF16(o.ClientName))

	var f fields
	f.u32(version5)
	f.u16(uint16(o.Width), uint16(o.Height), color8bpp, secureSequence)
	f.u32(usKeyboard, 2600) // and the client's build
	f.bytes(name)
	f.u32(enhanced101, 0, functionKeys)
	f.zeros(64) // imeFileName
	f.u16(color8bpp, 1)
	f.u32(0) // serialNumber
	f.u16(depth, allDepths, early)
	f.zeros(64 + 2) // clientDigProductId, connectionType, pad
	f.u32(selected)
	return block(0xc001, f)
}

// clusterData is a TS_UD_CS_CLUSTER, 2.2.1.3.5: the probe follows redirections
// of version 4. session is the number that one gave, or nil.
func clusterData(session *uint32) []byte {
	const supported, version4, sessionIDValid = 0x01, 3 << 2, 0x02
	flags, id := uint32(supported|version4), uint32(0)
	if session != nil {
		flags, id = flags|sessionIDValid, *session
	}
	var f fields
	f.u32(flags, id)
	return block(0xc004, f)
}

// securityData is a TS_UD_CS_SEC, 2.2.1.3.3.
func securityData() []byte {
	var f fields
	f.u32(method40Bit|method56Bit|method128Bit, 0)
	return block(0xc002, f)
}

// networkData is a TS_UD_CS_NET, 2.2.1.3.4.
func networkData() []byte {
	const initialized, encrypt, showProtocol = 0x80000000, 0x40000000, 0x00200000
	name := make([]byte, 8)
	copy(name, clipboard)
	var f fields
	f.u32(1)
	f.bytes(name)
	f.u32(initialized | encrypt | showProtocol)
	return block(0xc003, f)
}

// clientInfo is the Client Info PDU without its security header, 2.2.1.11.1.
func clientInfo(o Options) []byte {
	const (
		mouse        = 0x00000001
		noCtrlAltDel = 0x00000002
		autoLogon    = 0x00000008
		unicode      = 0x00000010
		maximize     = 0x00000020
		logonNotify  = 0x00000040 // for Save Session Info PDUs
		windowsKey   = 0x00000100
		logonErrors  = 0x00010000 // for notices of the logon screen
		noAudio      = 0x00080000

		noWallpaper, noFullDrag, noMenuAnimation = 0x01, 0x02, 0x04
	)
	var f fields
	f.u32(0, mouse|noCtrlAltDel|autoLogon|unicode|maximize|logonNotify|windowsKey|logonErrors|noAudio)
	texts := [][]byte{toUTF16(o.Domain), toUTF16(o.User), toUTF16(o.Password), nil, nil} // no shell, no directory
	for _, t := range texts {
		f.u16(uint16(len(t)))
	}
	for _, t := range texts {
		f.bytes(t)
		f.u16(0)
	}
	const ipv4 = 2
	f.u16(ipv4, 2, 0, 2, 0) // an empty address, an empty directory
	f.zeros(172)            // clientTimeZone: the host's
	f.u32(0, noWallpaper|noFullDrag|noMenuAnimation)
	f.u16(0) // no cookie for reconnecting
	return f
}

func toUTF16(s string) []byte {
	var f fields
	f.u16(utf16.Encode([]rune(s))...)
	return f
}
