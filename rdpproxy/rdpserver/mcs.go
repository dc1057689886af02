package rdpserver

import (
	"encoding/binary"
	"fmt"
)

// MCS channel numbers ([T.125]; [MS-RDPBCGR] 2.2.1.4.4), given out as Windows
// does: the I/O channel, the static virtual channels in the client's order, the
// message channel if the client asked for one, then the client's user channel.
const (
	mcsUserBase   = 1001 // user IDs travel as the difference to it
	serverChannel = 1002
	ioChannel     = 1003
	firstStatic   = 1004
	maxStatic     = 31 // [MS-RDPBCGR] 2.2.1.3.4
)

// domainKind is the choice of a DomainMCSPDU, [T.125] section 7.
type domainKind uint8

const (
	erectDomainRequest  domainKind = 1
	disconnectUltimatum domainKind = 8
	attachUserRequest   domainKind = 10
	attachUserConfirm   domainKind = 11
	channelJoinRequest  domainKind = 14
	channelJoinConfirm  domainKind = 15
	sendDataRequest     domainKind = 25
	sendDataIndication  domainKind = 26
)

// domainPDU is a DomainMCSPDU of the client, as far as RDP uses them.
type domainPDU struct {
	kind domainKind
	// channel is set for channelJoinRequest and sendDataRequest.
	channel uint16
	// data is the user data of a sendDataRequest.
	data []byte
}

func parseDomainPDU(b []byte) (domainPDU, error) {
	c := cursor{b: b}
	pdu := domainPDU{kind: domainKind(c.u8() >> 2)}
	switch pdu.kind {
	case erectDomainRequest, disconnectUltimatum, attachUserRequest:
		// Sub-heights, intervals and reasons make no difference here.
	case channelJoinRequest:
		c.skip(2) // initiator
		pdu.channel = c.bigEndianU16()
	case sendDataRequest:
		c.skip(2) // initiator
		pdu.channel = c.bigEndianU16()
		c.skip(1) // priority and segmentation
		pdu.data = c.take(c.perLength())
	default:
		if c.err == nil {
			return domainPDU{}, fmt.Errorf("MCS PDU %d is not one that an RDP client sends", pdu.kind)
		}
	}
	if c.err != nil {
		return domainPDU{}, fmt.Errorf("MCS PDU %d: %w", pdu.kind, c.err)
	}
	return pdu, nil
}

// perLength reads an aligned PER length determinant of at most 16383.
func (c *cursor) perLength() int {
	n := int(c.u8())
	if n&0x80 == 0 {
		return n
	}
	if n&0x40 != 0 {
		c.fail(fmt.Errorf("PER length of several fragments (%#02x)", n))
		return 0
	}
	return n&0x3f<<8 | int(c.u8())
}

// appendPERLength writes n, at most 16383, in one byte or two.
func appendPERLength(b []byte, n int) []byte {
	if n < 0x80 {
		return append(b, byte(n))
	}
	return binary.BigEndian.AppendUint16(b, 0x8000|uint16(n))
}

func attachUserConfirmPacket(user uint16) []byte {
	const initiatorPresent, successful = 2, 0
	b := []byte{byte(attachUserConfirm)<<2 | initiatorPresent, successful}
	return dataPacket(binary.BigEndian.AppendUint16(b, user-mcsUserBase))
}

func channelJoinConfirmPacket(user, channel uint16) []byte {
	const channelPresent, successful = 2, 0
	b := []byte{byte(channelJoinConfirm)<<2 | channelPresent, successful}
	b = binary.BigEndian.AppendUint16(b, user-mcsUserBase)
	b = binary.BigEndian.AppendUint16(b, channel) // as requested
	b = binary.BigEndian.AppendUint16(b, channel) // as joined
	return dataPacket(b)
}

// disconnectPacket is what Windows says last: MCS Disconnect Provider Ultimatum
// with reason rn-user-requested ([MS-RDPBCGR] 2.2.2.3).
func disconnectPacket() []byte { return dataPacket([]byte{byte(disconnectUltimatum)<<2 | 1, 0x80}) }

// maxUserData is the most that one Send Data Indication of ours carries.
const maxUserData = 0x3fff

// dataIndication wraps data for the I/O channel, from the server's user channel.
func dataIndication(data []byte) []byte {
	const highPriorityWhole = 0x70 // dataPriority high, segmentation begin and end
	b := make([]byte, 0, 8+len(data))
	b = append(b, byte(sendDataIndication)<<2)
	b = binary.BigEndian.AppendUint16(b, serverChannel-mcsUserBase)
	b = binary.BigEndian.AppendUint16(b, ioChannel)
	b = append(b, highPriorityWhole)
	b = appendPERLength(b, len(data))
	return dataPacket(append(b, data...))
}
