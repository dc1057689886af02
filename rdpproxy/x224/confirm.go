package x224

import "encoding/binary"

// Confirm is an X.224 Connection Confirm, [MS-RDPBCGR] 2.2.1.2: the host's
// answer to a Request.
type Confirm struct {
	// Negotiated says that the answer carries a choice or a failure. It is false
	// for hosts that answer a request without Negotiation.
	Negotiated bool
	// Failure says that Value is a failure code and that the host will close.
	Failure bool
	// Flags are the host's abilities; 0 in a failure.
	Flags uint8
	// Value is the selected protocol, or one of the failure codes.
	Value uint32
	// SrcRef is the host's reference: 0x1234 from Windows, else mostly 0.
	SrcRef uint16
}

// Selected is the protocol that the host chose. ok is false if it chose none:
// then it speaks standard RDP security, unless Failure says that it refused.
func (c *Confirm) Selected() (p Protocol, ok bool) {
	if !c.Negotiated || c.Failure {
		return ProtocolRDP, false
	}
	return Protocol(c.Value), true
}

// ParseConfirm parses b, which must be exactly one packet. It is stricter than
// ParseRequest, because what is read here is acted upon. The error is a *FormatError.
func ParseConfirm(b []byte) (*Confirm, error) {
	if err := checkHeader(b, codeConfirm, KindNotCC); err != nil {
		return nil, err
	}
	c := &Confirm{SrcRef: binary.BigEndian.Uint16(b[8:])}
	v := b[minRequest:]
	if len(v) == 0 {
		return c, nil
	}
	if len(v) != negotiationLen || binary.LittleEndian.Uint16(v[2:]) != negotiationLen {
		return nil, malformed(KindNotCC, "negotiation data of %d bytes", len(v))
	}
	switch v[0] {
	case typeResponse:
	case typeFailure:
		c.Failure = true
	default:
		return nil, malformed(KindNotCC, "negotiation type %d", v[0])
	}
	c.Negotiated, c.Flags, c.Value = true, v[1], binary.LittleEndian.Uint32(v[4:])
	return c, nil
}

// Append appends the answer as it goes over the wire.
func (c *Confirm) Append(dst []byte) []byte {
	start := len(dst)
	dst = append(dst, tpktVersion, 0, 0, 0, 0, codeConfirm, 0, 0)
	dst = binary.BigEndian.AppendUint16(dst, c.SrcRef)
	dst = append(dst, 0)
	if c.Negotiated {
		kind := byte(typeResponse)
		if c.Failure {
			kind = typeFailure
		}
		dst = append(dst, kind, c.Flags, negotiationLen, 0)
		dst = binary.LittleEndian.AppendUint32(dst, c.Value)
	}
	return setLengths(dst, start)
}
