package rdpserver

import (
	"encoding/binary"
	"errors"
)

// errTruncated: a length inside a packet points beyond its end.
var errTruncated = errors.New("packet ends early")

// cursor reads a packet from front to back. A read beyond the end yields zeros,
// sets err and leaves nothing to read, so that a parser checks err once, after
// its last field. Integers are little endian unless the name says otherwise.
type cursor struct {
	b   []byte
	err error
}

// take is the next n bytes, not copied; nil if there are not as many.
func (c *cursor) take(n int) []byte {
	if c.err != nil || n < 0 || n > len(c.b) {
		c.fail(errTruncated)
		return nil
	}
	head := c.b[:n]
	c.b = c.b[n:]
	return head
}

func (c *cursor) skip(n int) { c.take(n) }

// fail makes err stick, unless an earlier one does.
func (c *cursor) fail(err error) {
	if c.err == nil {
		c.err = err
	}
	c.b = nil
}

func (c *cursor) u8() uint8 {
	if b := c.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (c *cursor) u16() uint16 {
	if b := c.take(2); b != nil {
		return binary.LittleEndian.Uint16(b)
	}
	return 0
}

func (c *cursor) u32() uint32 {
	if b := c.take(4); b != nil {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}

func (c *cursor) bigEndianU16() uint16 {
	if b := c.take(2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}
