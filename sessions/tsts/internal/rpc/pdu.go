package rpc

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/oiweiwei/go-msrpc/dcerpc"
	"github.com/oiweiwei/go-msrpc/midl/uuid"
)

// Packet types, [C706] 12.6.4 and [MS-RPCE] 2.2.2.
const (
	typeRequest  = 0
	typeResponse = 2
	typeFault    = 3
	typeBind     = 11
	typeBindAck  = 12
	typeBindNak  = 13
	typeAuth3    = 16
)

// Packet flags, [MS-RPCE] 2.2.2.3.
const (
	flagFirst      = 0x01
	flagLast       = 0x02
	flagHeaderSign = 0x04 // PFC_SUPPORT_HEADER_SIGN in binds
)

const (
	headerSize   = 16 // the common header
	callSize     = 24 // with the fields of a request or a response
	trailerSize  = 8  // sec_trailer before the auth value
	levelPrivacy = 6  // RPC_C_AUTHN_LEVEL_PKT_PRIVACY
	authContext  = 1  // our only security context on a connection
	// maxFragment is what we offer to send and to take in one packet: what
	// Windows offers over TCP.
	maxFragment = 5840
	// minFragment is MustRecvFragSize, [C706] 12.6.3.1: less may not be negotiated.
	minFragment = 1432
)

var le = binary.LittleEndian

// header is the common header, always little-endian: other representations are refused.
type header struct {
	kind, flags      byte
	fragLen, authLen int
	callID           uint32
}

// appendHeader writes h; the lengths are filled in by finish.
func appendHeader(b []byte, h header) []byte {
	b = append(b, 5, 0, h.kind, h.flags, 0x10, 0, 0, 0) // version 5.0; little-endian, ASCII, IEEE
	b = le.AppendUint16(b, uint16(h.fragLen))
	b = le.AppendUint16(b, uint16(h.authLen))
	return le.AppendUint32(b, h.callID)
}

// setLengths writes the packet's length and that of its auth value.
func setLengths(pkt []byte, authLen int) {
	le.PutUint16(pkt[8:], uint16(len(pkt)))
	le.PutUint16(pkt[10:], uint16(authLen))
}

func parseHeader(b []byte) (header, error) {
	if len(b) < headerSize {
		return header{}, errShort
	}
	h := header{kind: b[2], flags: b[3], fragLen: int(le.Uint16(b[8:])), authLen: int(le.Uint16(b[10:])), callID: le.Uint32(b[12:])}
	switch {
	case b[0] != 5 || b[1] > 1:
		return h, fmt.Errorf("not DCE/RPC version 5: % x", b[:4])
	case b[4] != 0x10 || b[5] != 0:
		return h, fmt.Errorf("data representation % x", b[4:8])
	case h.fragLen < headerSize:
		return h, fmt.Errorf("a packet of %d bytes", h.fragLen)
	case h.authLen != 0 && h.fragLen < headerSize+trailerSize+h.authLen:
		return h, fmt.Errorf("an auth value of %d bytes in a packet of %d", h.authLen, h.fragLen)
	}
	return h, nil
}

var errShort = errors.New("the packet is cut short")

// bindPacket asks for the interfaces, each as the presentation context of its
// index, in NDR 2.0.
func bindPacket(callID uint32, interfaces []*dcerpc.SyntaxID, token []byte, authType byte) []byte {
	b := appendHeader(nil, header{kind: typeBind, flags: flagFirst | flagLast | flagHeaderSign, callID: callID})
	b = le.AppendUint16(b, maxFragment)
	b = le.AppendUint16(b, maxFragment)
	b = le.AppendUint32(b, 0) // a new association group
	b = append(b, byte(len(interfaces)), 0, 0, 0)
	for i, s := range interfaces {
		b = le.AppendUint16(b, uint16(i))
		b = append(b, 1, 0)
		b = appendSyntax(b, s)
		b = appendSyntax(b, dcerpc.TransferNDRSyntaxV2_0)
	}
	return appendAuth(b, authType, token)
}

// auth3Packet carries the third leg; nobody answers it.
func auth3Packet(callID uint32, token []byte, authType byte) []byte {
	b := appendHeader(nil, header{kind: typeAuth3, flags: flagFirst | flagLast, callID: callID})
	b = append(b, 0, 0, 0, 0) // pad, ignored
	return appendAuth(b, authType, token)
}

// appendAuth ends a packet with its sec_trailer and the token, and sets the lengths.
func appendAuth(b []byte, authType byte, token []byte) []byte {
	pad := (4 - len(b)%4) % 4
	b = append(b, make([]byte, pad)...)
	b = appendTrailer(b, authType, pad)
	b = append(b, token...)
	setLengths(b, len(token))
	return b
}

func appendTrailer(b []byte, authType byte, pad int) []byte {
	b = append(b, authType, levelPrivacy, byte(pad), 0)
	return le.AppendUint32(b, authContext)
}

func appendSyntax(b []byte, s *dcerpc.SyntaxID) []byte {
	b = appendUUID(b, s.IfUUID)
	b = le.AppendUint16(b, s.IfVersionMajor)
	return le.AppendUint16(b, s.IfVersionMinor)
}

func appendUUID(b []byte, u *uuid.UUID) []byte {
	b = le.AppendUint32(b, u.TimeLow)
	b = le.AppendUint16(b, u.TimeMid)
	b = le.AppendUint16(b, u.TimeHiAndVersion)
	b = append(b, u.ClockSeqHiAndReserved, u.ClockSeqLow)
	return append(b, u.Node[:]...)
}

// bindAck is what a server says to a bind.
type bindAck struct {
	maxSend    int      // what the server takes in one packet
	results    []uint16 // one for each interface; 0 is accepted
	headerSign bool
	token      []byte
}

// parseBindAck reads a bind_ack, [C706] 12.6.4.4, whose header has been checked.
func parseBindAck(pkt []byte, h header) (*bindAck, error) {
	end := len(pkt)
	ack := &bindAck{headerSign: h.flags&flagHeaderSign != 0}
	if h.authLen != 0 {
		end -= h.authLen + trailerSize
		ack.token = pkt[end+trailerSize:]
		if err := checkTrailer(pkt[end:], -1); err != nil {
			return nil, err
		}
	}
	if end < headerSize+10 {
		return nil, errShort
	}
	ack.maxSend = int(le.Uint16(pkt[headerSize+2:])) // max_recv_frag of the server
	at := headerSize + 10 + int(le.Uint16(pkt[headerSize+8:]))
	at += (4 - at%4) % 4
	if end < at+4 {
		return nil, errShort
	}
	n := int(pkt[at])
	at += 4
	if end < at+24*n {
		return nil, errShort
	}
	for range n {
		ack.results = append(ack.results, le.Uint16(pkt[at:]))
		at += 24 // result, reason, transfer syntax
	}
	return ack, nil
}

// checkTrailer compares a sec_trailer with what we asked for. authType -1 takes any.
func checkTrailer(b []byte, authType int) error {
	if len(b) < trailerSize {
		return errShort
	}
	if b[1] != levelPrivacy || (authType >= 0 && int(b[0]) != authType) || le.Uint32(b[4:]) != authContext {
		return fmt.Errorf("security trailer % x is not of our context", b[:trailerSize])
	}
	return nil
}

// nakReason is the reason in a bind_nak, [C706] 12.6.4.5.
func nakReason(pkt []byte) uint16 {
	if len(pkt) < headerSize+2 {
		return 0
	}
	return le.Uint16(pkt[headerSize:])
}

// faultStatus is the status of a fault, [C706] 12.6.4.7.
func faultStatus(pkt []byte) (uint32, error) {
	if len(pkt) < callSize+4 {
		return 0, errShort
	}
	return le.Uint32(pkt[callSize:]), nil
}
