// SPDX-License-Identifier: GPL-3.0-only

package probe

import (
	"encoding/binary"
	"fmt"
)

// Flags of a TS_SECURITY_HEADER, [MS-RDPBCGR] 2.2.8.1.1.2.1.
const (
	secExchange    = 0x0001
	secEncrypt     = 0x0008
	secInfo        = 0x0040
	secLicence     = 0x0080
	secRedirection = 0x0400
	secSalted      = 0x0800
)

// channel sends and receives on the I/O channel, with the security header and
// the encryption that the negotiated security asks for.
type channel struct {
	*mcs
	security *standardSecurity // nil under TLS
}

// sendFlagged sends data behind a security header, which some messages carry
// under TLS too.
func (c *channel) sendFlagged(flags uint16, data []byte) error {
	if c.security != nil && flags&(secExchange|secLicence) == 0 { // these two go in clear
		flags |= secEncrypt
	}
	b := binary.LittleEndian.AppendUint16(nil, flags)
	b = append(b, 0, 0)
	if flags&secEncrypt != 0 {
		return c.mcs.send(c.security.seal(b, data))
	}
	return c.mcs.send(append(b, data...))
}

// sendShare sends a message with a Share Control Header, 2.2.8.1.1.1.1.
func (c *channel) sendShare(kind uint16, body []byte) error {
	b := binary.LittleEndian.AppendUint16(nil, uint16(len(body)+6))
	b = binary.LittleEndian.AppendUint16(b, kind|shareVersion)
	b = binary.LittleEndian.AppendUint16(b, c.user)
	b = append(b, body...)
	if c.security != nil {
		return c.sendFlagged(0, b)
	}
	return c.mcs.send(b)
}

// open removes the security header of what came on a channel. Under TLS there
// is none, and flags is 0.
func (c *channel) open(b []byte) (flags uint16, data []byte, err error) {
	if c.security == nil {
		return 0, b, nil
	}
	in := cursor{b: b}
	flags = in.u16()
	in.skip(2)
	if err := in.err(); err != nil {
		return 0, nil, fmt.Errorf("security header: %w", err)
	}
	if flags&secEncrypt == 0 {
		return flags, in.b, nil
	}
	data, err = c.security.open(in.b, flags&secSalted != 0)
	return flags, data, err
}

// The kinds of share control and share data PDUs, 2.2.8.1.1.1.1 and .2.
const (
	shareDemandActive  = 0x1
	shareConfirmActive = 0x3
	shareData          = 0x7
	shareRedirection   = 0xa

	shareVersion = 0x10 // in the same field, for all that the client sends

	dataUpdate      = 0x02
	dataControl     = 0x14
	dataSynchronize = 0x1f
	dataSessionInfo = 0x26
	dataFontList    = 0x27
	dataFontMap     = 0x28
	dataErrorInfo   = 0x2f
)

// sharePDU is one message of the I/O channel.
type sharePDU struct {
	kind uint16 // the lower four bits of pduType
	// data2 is the pduType2 of a data PDU, compressed whether its body is.
	data2      uint8
	compressed bool
	body       []byte
}

// splitShare takes the messages of one MCS packet apart: hosts put several into one.
func splitShare(b []byte) ([]sharePDU, error) {
	var all []sharePDU
	for len(b) > 0 {
		in := cursor{b: b}
		total := int(in.u16())
		if total == 0x8000 { // a flow PDU of T.128, eight bytes without a header
			in.skip(6)
			if in.short {
				return all, fmt.Errorf("flow PDU: %w", errShort)
			}
			b = in.b
			continue
		}
		if total < 6 || total > len(b) {
			return all, fmt.Errorf("share control header: %d of %d bytes", total, len(b))
		}
		in.b, b = b[2:total], b[total:]
		p := sharePDU{kind: in.u16() & 0x0f}
		in.skip(2) // PDUSource
		if p.kind == shareData {
			in.skip(4 + 1 + 1 + 2) // shareID, pad, streamID, uncompressedLength
			p.data2 = in.u8()
			p.compressed = in.u8()&0x20 != 0
			in.skip(2) // compressedLength
			if err := in.err(); err != nil {
				return all, fmt.Errorf("share data header: %w", err)
			}
		}
		p.body = in.b
		all = append(all, p)
	}
	return all, nil
}

// demandActive is what the probe needs of a Demand Active PDU, 2.2.1.13.1.1.
type demandActive struct {
	shareID       uint32
	width, height int // of the desktop; 0 if the host did not say
}

func parseDemandActive(b []byte) (demandActive, error) {
	in := cursor{b: b}
	d := demandActive{shareID: in.u32()}
	source := int(in.u16())
	in.skip(2) // lengthCombinedCapabilities
	in.skip(source)
	sets := int(in.u16())
	in.skip(2)
	for range sets {
		kind, length := in.u16(), int(in.u16())
		set := cursor{b: in.take(length - 4)}
		if in.short {
			break
		}
		if kind == capBitmap {
			set.skip(8) // preferredBitsPerPixel, receive1BitPerPixel, …4…, …8…
			d.width, d.height = int(set.u16()), int(set.u16())
		}
	}
	if err := in.err(); err != nil {
		return d, fmt.Errorf("demand active: %w", err)
	}
	if d.width > maxSide || d.height > maxSide || d.width*d.height > maxArea {
		return d, fmt.Errorf("demand active: a desktop of %d x %d", d.width, d.height)
	}
	return d, nil
}
