// SPDX-License-Identifier: GPL-3.0-only

package probe

import (
	"encoding/binary"
	"errors"
)

var errShort = errors.New("the message ends too early")

// cursor reads fields off the front of a message. After the first field that is
// not there, everything reads as zero and err tells; so a parser can read all
// of a structure and look once.
type cursor struct {
	b     []byte
	short bool
}

func (c *cursor) take(n int) []byte {
	if c.short || n < 0 || n > len(c.b) {
		c.short = true
		return nil
	}
	v := c.b[:n]
	c.b = c.b[n:]
	return v
}

func (c *cursor) skip(n int) { c.take(n) }

func (c *cursor) u8() uint8 {
	if v := c.take(1); v != nil {
		return v[0]
	}
	return 0
}

func (c *cursor) u16() uint16 {
	if v := c.take(2); v != nil {
		return binary.LittleEndian.Uint16(v)
	}
	return 0
}

func (c *cursor) u16be() uint16 {
	if v := c.take(2); v != nil {
		return binary.BigEndian.Uint16(v)
	}
	return 0
}

func (c *cursor) u32() uint32 {
	if v := c.take(4); v != nil {
		return binary.LittleEndian.Uint32(v)
	}
	return 0
}

// perLength reads a length determinant of PER as T.125 uses it: one byte, or
// two with the top bit set.
func (c *cursor) perLength() int {
	n := int(c.u8())
	if n&0x80 != 0 {
		n = n&0x7f<<8 | int(c.u8())
	}
	return n
}

// berLength reads a BER length of at most two bytes, which is all that fits
// into a TPKT packet.
func (c *cursor) berLength() int {
	n := int(c.u8())
	switch n {
	case 0x81:
		return int(c.u8())
	case 0x82:
		return int(c.u16be())
	}
	if n&0x80 != 0 {
		c.short = true
		return 0
	}
	return n
}

// err is errShort if a field was missing.
func (c *cursor) err() error {
	if c.short {
		return errShort
	}
	return nil
}
