package x224

import (
	"bytes"
	"encoding/binary"
)

const (
	codeRequest = 0xE0 // CR, with a credit of 0
	codeConfirm = 0xD0

	typeRequest     = 1
	typeResponse    = 2
	typeFailure     = 3
	typeCorrelation = 6

	negotiationLen = 8
	correlationLen = 36 // type, flags, length, id[16], reserved[16]
)

const (
	cookiePrefix = "Cookie: mstshash="
	tokenPrefix  = "Cookie: msts="
)

var crlf = []byte("\r\n")

// Request is an X.224 Connection Request, [MS-RDPBCGR] 2.2.1.1.
type Request struct {
	// Raw is the packet, whole and unchanged: what is forwarded. Only parsing
	// sets it; Append does not look at it.
	Raw []byte
	// Cookie is the IDENTIFIER of "Cookie: mstshash=": any bytes but CR LF,
	// chosen by the client, cut to 9 bytes by mstsc. "" if there is none or it is empty.
	Cookie string
	// HasCookie tells an empty cookie from none.
	HasCookie bool
	// Token is the text of the routing token without CR LF: the whole line, for
	// example "Cookie: msts=…" or "tsv://…", but without the X.224 header that
	// some load balancers wrap around it. Nil if there is none.
	Token []byte
	// Negotiation is the rdpNegReq, nil for clients of RDP 4 and 5.
	Negotiation *Negotiation
	// CorrelationID is from rdpCorrelationInfo, nil if there is none.
	CorrelationID *[16]byte
	// LengthMismatch says that the X.224 length indicator is not the TPKT length
	// less 5. It wraps around in requests with long names; hosts may refuse them.
	LengthMismatch bool
}

// Negotiation is an rdpNegReq, [MS-RDPBCGR] 2.2.1.1.1.
type Negotiation struct {
	Flags     uint8
	Protocols Protocol
}

// ParseRequest parses b, which must be exactly one packet of at most MaxPacket
// bytes. The TPKT length rules; a length indicator that differs is noted and
// otherwise ignored. What stands in the variable part and makes no sense is
// ignored as well: the host decides about that. The error is a *FormatError.
//
// Raw is b itself, not a copy; all other fields are copies.
func ParseRequest(b []byte) (*Request, error) {
	if err := checkHeader(b, codeRequest, KindNotCR); err != nil {
		return nil, err
	}
	if b[10] != 0 {
		return nil, malformed(KindNotCR, "X.224 class and options %#02x", b[10])
	}
	r := &Request{Raw: b, LengthMismatch: int(b[4]) != len(b)-5}
	r.parseVariable(b[minRequest:])
	return r, nil
}

// checkHeader checks that b is one whole TPKT packet with an X.224 TPDU of the
// wanted code and room for its fixed part.
func checkHeader(b []byte, code byte, wrong Kind) error {
	if len(b) == 0 {
		return malformed(KindBadLength, "0 bytes")
	}
	if b[0] != tpktVersion {
		return malformed(foreign(b), "the first bytes are %x", b[:min(len(b), tpktHeader)])
	}
	if len(b) < tpktHeader {
		return malformed(KindBadLength, "%d bytes are no TPKT header", len(b))
	}
	n := int(binary.BigEndian.Uint16(b[2:]))
	switch {
	case n < minTPKT:
		return malformed(KindTooShort, "TPKT length %d, at least %d", n, minTPKT)
	case n > MaxPacket:
		return malformed(KindTooLong, "TPKT length %d, at most %d", n, MaxPacket)
	case n != len(b):
		return malformed(KindBadLength, "TPKT length %d in %d bytes", n, len(b))
	case b[5] != code:
		return malformed(wrong, "X.224 code %#02x", b[5])
	case n < minRequest:
		return malformed(KindTooShort, "TPKT length %d, at least %d", n, minRequest)
	}
	return nil
}

// parseVariable reads what follows the fixed part. The specification wants
// one text, then the negotiation. Seen in the wild are two texts, the
// negotiation in front, and texts without an end, so this takes the parts in
// any order, the first of each.
func (r *Request) parseVariable(v []byte) {
	for len(v) > 0 {
		if isNegotiation(v) {
			if r.Negotiation != nil || len(v) < negotiationLen {
				return
			}
			v = r.parseNegotiation(v)
			continue
		}
		line, rest, terminated := bytes.Cut(v, crlf)
		if !terminated {
			r.parseUnterminated(v)
			return
		}
		r.takeText(line, false)
		v = rest
	}
}

// isNegotiation reports whether v begins like an rdpNegReq: type 1, any flags,
// length 8. No text that is known to be used begins so.
func isNegotiation(v []byte) bool {
	return len(v) >= 4 && v[0] == typeRequest && binary.LittleEndian.Uint16(v[2:]) == negotiationLen
}

// parseNegotiation reads an rdpNegReq and, if its flags announce one, an
// rdpCorrelationInfo, [MS-RDPBCGR] 2.2.1.1.2, and returns what follows them.
func (r *Request) parseNegotiation(v []byte) (rest []byte) {
	r.Negotiation = &Negotiation{Flags: v[1], Protocols: Protocol(binary.LittleEndian.Uint32(v[4:]))}
	v = v[negotiationLen:]
	if r.Negotiation.Flags&FlagCorrelation == 0 || len(v) < correlationLen ||
		v[0] != typeCorrelation || binary.LittleEndian.Uint16(v[2:]) != correlationLen {
		return v
	}
	id := [16]byte(v[4:20])
	r.CorrelationID = &id
	return v[correlationLen:]
}

// parseUnterminated reads a text that has no CR LF. Only texts of a known form
// count, since any garbage lacks a CR LF, and a negotiation behind it is cut off.
func (r *Request) parseUnterminated(v []byte) {
	text := v
	if n := len(v) - negotiationLen; n > 0 && isNegotiation(v[n:]) {
		text = v[:n]
	}
	if r.takeText(text, true) && len(text) < len(v) && r.Negotiation == nil {
		r.parseNegotiation(v[len(text):])
	}
}

// takeText takes a line as the cookie or the token. With known it takes only
// the forms that are known to be used. It reports whether it recognised the line.
func (r *Request) takeText(line []byte, known bool) bool {
	line = unwrap(line)
	if name, ok := cutPrefixFold(line, cookiePrefix); ok {
		if !r.HasCookie {
			r.HasCookie, r.Cookie = true, string(name)
		}
		return true
	}
	if known && !knownToken(line) {
		return false
	}
	// A line that looks like an rdpNegReq would be taken for one if it stood
	// first, so it is no token anywhere.
	if r.Token == nil && len(line) > 0 && !isNegotiation(line) {
		r.Token = bytes.Clone(line)
	}
	return true
}

// unwrap takes the TPKT and X.224 headers off a token that is a whole
// Connection Request of its own, as session-directory load balancers send it.
// Its length is not compared with anything: only the text matters.
func unwrap(line []byte) []byte {
	for len(line) >= minRequest && line[0] == tpktVersion && line[1] == 0 && line[5] == codeRequest {
		line = line[minRequest:]
	}
	return line
}

// Append appends the request as it goes over the wire, made from the fields
// and not from Raw: cookie, token, negotiation, correlation info, whatever is
// there. Parsing the result gives the same fields, as long as it has at most
// MaxPacket bytes, Cookie and Token hold no CR LF, and Token is not empty. The
// length indicator wraps around above 254, as clients do it. The flag that
// announces CorrelationID is set; without Negotiation it cannot be said at all.
func (r *Request) Append(dst []byte) []byte {
	start := len(dst)
	dst = append(dst, tpktVersion, 0, 0, 0, 0, codeRequest, 0, 0, 0, 0, 0)
	if r.HasCookie || r.Cookie != "" {
		dst = append(dst, cookiePrefix...)
		dst = append(dst, r.Cookie...)
		dst = append(dst, crlf...)
	}
	if r.Token != nil {
		dst = append(dst, r.Token...)
		dst = append(dst, crlf...)
	}
	if n := r.Negotiation; n != nil {
		flags := n.Flags
		if r.CorrelationID != nil {
			flags |= FlagCorrelation
		}
		dst = append(dst, typeRequest, flags, negotiationLen, 0)
		dst = binary.LittleEndian.AppendUint32(dst, uint32(n.Protocols))
		if r.CorrelationID != nil {
			dst = append(dst, typeCorrelation, 0, correlationLen, 0)
			dst = append(dst, r.CorrelationID[:]...)
			dst = append(dst, make([]byte, 16)...)
		}
	}
	return setLengths(dst, start)
}

// setLengths writes the TPKT length and the length indicator of the packet
// that begins at start.
func setLengths(b []byte, start int) []byte {
	n := len(b) - start
	binary.BigEndian.PutUint16(b[start+2:], uint16(n))
	b[start+4] = byte(n - 5)
	return b
}
