package rdpserver

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
)

// The MCS Connect Initial and Response are BER; the GCC Conference Create
// Request and Response inside them are PER. Both are spelt out only as far as
// RDP varies them ([MS-RDPBCGR] 2.2.1.3, 2.2.1.4, 4.1.3, 4.1.4).

// parseConnectInitial finds the GCC user data in an MCS Connect Initial PDU.
func parseConnectInitial(b []byte) (userData []byte, err error) {
	outer := cursor{b: b}
	connect := cursor{b: outer.berElement(0x7f65)}
	if outer.err != nil {
		return nil, fmt.Errorf("MCS Connect Initial: %w", outer.err)
	}
	connect.berElement(0x04) // callingDomainSelector
	connect.berElement(0x04) // calledDomainSelector
	connect.berElement(0x01) // upwardFlag
	connect.berElement(0x30) // targetParameters
	connect.berElement(0x30) // minimumParameters
	connect.berElement(0x30) // maximumParameters
	gcc := connect.berElement(0x04)
	if connect.err != nil {
		return nil, fmt.Errorf("MCS Connect Initial: %w", connect.err)
	}
	return parseConferenceCreateRequest(gcc)
}

// berElement reads one element with the given tag, of one byte or two, and
// returns its contents. Lengths of more than two bytes cannot occur in a packet
// that TPKT can carry.
func (c *cursor) berElement(tag uint16) []byte {
	got := uint16(c.u8())
	if tag > 0xff {
		got = got<<8 | uint16(c.u8())
	}
	if c.err == nil && got != tag {
		c.fail(fmt.Errorf("BER tag %#x where %#x belongs", got, tag))
	}
	n := int(c.u8())
	switch {
	case n == 0x81:
		n = int(c.u8())
	case n == 0x82:
		n = int(c.bigEndianU16())
	case n >= 0x80:
		c.fail(fmt.Errorf("BER length form %#x", n))
	}
	return c.take(n)
}

func appendBERLength(b []byte, n int) []byte {
	switch {
	case n < 0x80:
		return append(b, byte(n))
	case n < 0x100:
		return append(b, 0x81, byte(n))
	}
	return binary.BigEndian.AppendUint16(append(b, 0x82), uint16(n))
}

var (
	// t124Key is the object identifier {0 0 20 124 0 1}, which opens both the
	// request and the response.
	t124Key = []byte{0, 5, 0, 0x14, 0x7c, 0, 1}
	// createRequest is conferenceCreateRequest with the conference name "1", one
	// set of user data, and the key of a client, "Duca".
	createRequest = []byte{0, 8, 0, 0x10, 0, 1, 0xc0, 0, 'D', 'u', 'c', 'a'}
	// createResponse is conferenceCreateResponse with node 0x79f3, tag 1, result
	// success, one set of user data, and the key of a server, "McDn".
	createResponse = []byte{0x14, 0x76, 0x0a, 1, 1, 0, 1, 0xc0, 0, 'M', 'c', 'D', 'n'}
	// domainParameters are the target parameters of Windows: 34 channels, 3 users,
	// no tokens, 1 priority, throughput 0, height 1, PDUs of 65528 bytes, version 2.
	domainParameters = []byte{
		0x30, 0x1a, 2, 1, 0x22, 2, 1, 3, 2, 1, 0, 2, 1, 1, 2, 1, 0, 2, 1, 1, 2, 3, 0, 0xff, 0xf8, 2, 1, 2,
	}
)

var errNotGCC = errors.New("not a GCC Conference Create Request as RDP clients send it")

func parseConferenceCreateRequest(b []byte) (userData []byte, err error) {
	c := cursor{b: b}
	if !bytes.Equal(c.take(len(t124Key)), t124Key) {
		return nil, errNotGCC
	}
	c.perLength() // of what follows; the next length says the same
	if !bytes.Equal(c.take(len(createRequest)), createRequest) {
		return nil, errNotGCC
	}
	userData = c.take(c.perLength())
	if c.err != nil {
		return nil, fmt.Errorf("GCC Conference Create Request: %w", c.err)
	}
	return userData, nil
}

// connectResponsePacket is the MCS Connect Response with userData inside.
func connectResponsePacket(userData []byte) []byte {
	gcc := bytes.Clone(t124Key)
	gcc = append(gcc, 0x2a) // Windows writes 42 here whatever follows, and clients do not read it
	gcc = append(gcc, createResponse...)
	gcc = appendPERLength(gcc, len(userData))
	gcc = append(gcc, userData...)

	body := []byte{0x0a, 1, 0} // result: rt-successful
	body = append(body, 2, 1, 0)
	body = append(body, domainParameters...)
	body = append(body, 0x04)
	body = appendBERLength(body, len(gcc))
	body = append(body, gcc...)

	pdu := appendBERLength([]byte{0x7f, 0x66}, len(body))
	return dataPacket(append(pdu, body...))
}
