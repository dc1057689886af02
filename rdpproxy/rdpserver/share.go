package rdpserver

import (
	"encoding/binary"
	"errors"
	"fmt"
)

const (
	// shareID names the one share of a connection; this is what Windows uses.
	shareID = 0x000103ea
	// shareControlLen and shareDataLen are the lengths of the two share headers.
	shareControlLen = 6
	shareDataLen    = 12
)

// pduType of the Share Control Header, its low four bits ([MS-RDPBCGR] 2.2.8.1.1.1.1).
const (
	pduDemandActive  = 1
	pduConfirmActive = 3
	pduData          = 7
	pduRedirection   = 10

	pduVersion = 0x10 // in the bits above; all but the redirection carry it
)

// dataType is pduType2 of the Share Data Header, [MS-RDPBCGR] 2.2.8.1.1.1.2.
type dataType uint8

const (
	dataUpdate          dataType = 0x02
	dataControl         dataType = 0x14
	dataInput           dataType = 0x1c
	dataSynchronize     dataType = 0x1f
	dataShutdownRequest dataType = 0x24
	dataShutdownDenied  dataType = 0x25
	dataFontList        dataType = 0x27
	dataSaveSessionInfo dataType = 0x26
	dataFontMap         dataType = 0x28
	dataErrorInfo       dataType = 0x2f
	dataStatusInfo      dataType = 0x36
	dataMonitorLayout   dataType = 0x37
)

// streamID of the Share Data Header. Windows marks the PDUs of the connection
// sequence medium, and error info low.
const (
	streamLow    = 1
	streamMedium = 2
)

// sharePDU is one PDU of the client on the I/O channel.
type sharePDU struct {
	kind     uint8    // pduConfirmActive, pduData, …
	dataKind dataType // of a pduData
	body     []byte   // behind the headers
}

// flowPDU in place of a length marks the obsolete flow control PDUs, [T.128] 8.5.
const flowPDU = 0x8000

func parseSharePDU(b []byte) (sharePDU, error) {
	c := cursor{b: b}
	total := int(c.u16())
	if total == flowPDU {
		return sharePDU{}, nil
	}
	pdu := sharePDU{kind: uint8(c.u16() & 0x0f)}
	c.skip(2) // pduSource
	c.b = c.take(total - shareControlLen)
	if pdu.kind == pduData {
		const compressed = 0x20
		c.skip(4 + 1 + 1 + 2) // shareId, pad, streamId, uncompressedLength
		pdu.dataKind = dataType(c.u8())
		if c.u8()&compressed != 0 {
			return sharePDU{}, errors.New("share data PDU: compressed, which was not agreed upon")
		}
		c.skip(2) // compressedLength
	}
	if c.err != nil {
		return sharePDU{}, fmt.Errorf("share PDU: %w", c.err)
	}
	pdu.body = c.b
	return pdu, nil
}

// shareControl puts a Share Control Header before body.
func shareControl(pduType, source uint16, body []byte) []byte {
	le := binary.LittleEndian
	b := make([]byte, 0, shareControlLen+len(body))
	b = le.AppendUint16(b, uint16(shareControlLen+len(body)))
	b = le.AppendUint16(b, pduType)
	b = le.AppendUint16(b, source)
	return append(b, body...)
}

// shareData puts both share headers before body. Windows writes the length of
// the whole PDU as its uncompressed length.
func shareData(kind dataType, stream uint8, source uint16, body []byte) []byte {
	le := binary.LittleEndian
	b := make([]byte, 0, shareDataLen+len(body))
	b = le.AppendUint32(b, shareID)
	b = append(b, 0, stream)
	b = le.AppendUint16(b, uint16(shareControlLen+shareDataLen+len(body)))
	b = append(b, byte(kind), 0, 0, 0) // not compressed
	return shareControl(pduVersion|pduData, source, append(b, body...))
}

// Bodies of the finalization PDUs, [MS-RDPBCGR] 2.2.1.14 to 2.2.1.22.

// controlAction is the action of a Control PDU.
type controlAction uint16

const (
	controlRequest   controlAction = 1
	controlGranted   controlAction = 2
	controlCooperate controlAction = 4
)

func synchronizePacket() []byte {
	body := binary.LittleEndian.AppendUint16(nil, 1) // SYNCMSGTYPE_SYNC
	body = binary.LittleEndian.AppendUint16(body, 0) // targetUser: Windows leaves it empty
	return dataIndication(shareData(dataSynchronize, streamMedium, serverChannel, body))
}

func controlPacket(action controlAction, grant uint16, control uint32) []byte {
	body := binary.LittleEndian.AppendUint16(nil, uint16(action))
	body = binary.LittleEndian.AppendUint16(body, grant)
	body = binary.LittleEndian.AppendUint32(body, control)
	return dataIndication(shareData(dataControl, streamMedium, serverChannel, body))
}

func fontMapPacket() []byte {
	const firstAndLast, entrySize = 3, 4
	body := make([]byte, 4, 8) // no entries
	body = binary.LittleEndian.AppendUint16(body, firstAndLast)
	body = binary.LittleEndian.AppendUint16(body, entrySize)
	return dataIndication(shareData(dataFontMap, streamMedium, serverChannel, body))
}

// monitorLayoutPacket tells of one monitor, the whole desktop, [MS-RDPBCGR] 2.2.12.1.
func monitorLayoutPacket(width, height int) []byte {
	const count, primary = 1, 1
	var body []byte
	for _, v := range []int{count, 0, 0, width - 1, height - 1, primary} {
		body = binary.LittleEndian.AppendUint32(body, uint32(v))
	}
	return dataIndication(shareData(dataMonitorLayout, streamMedium, 0, body))
}
