package x224

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

const (
	tpktVersion = 3
	tpktHeader  = 4  // version, reserved, length of the whole packet (big endian)
	minTPKT     = 7  // the smallest X.224 TPDU, Data, has 3 bytes
	minRequest  = 11 // a Connection Request or Confirm has 7 before its variable part
)

// ReadTPKT reads one TPKT packet (RFC 1006) of at most max bytes, header
// included, and not a byte more. It returns a *FormatError if the stream holds
// something else, io.EOF if it ended before the first byte, and any other
// error of r wrapped: io.ErrUnexpectedEOF if the stream ended inside the packet.
func ReadTPKT(r io.Reader, max int) ([]byte, error) {
	var header [tpktHeader]byte
	if err := readHead(r, &header); err != nil {
		return nil, err
	}
	return readTPKTBody(r, header, max)
}

// readTPKTBody reads the rest of the packet that begins with header.
func readTPKTBody(r io.Reader, header [tpktHeader]byte, max int) ([]byte, error) {
	if header[0] != tpktVersion {
		return nil, malformed(foreign(header[:]), "the first bytes are %x", header)
	}
	n := int(binary.BigEndian.Uint16(header[2:]))
	if n < minTPKT {
		return nil, malformed(KindTooShort, "TPKT length %d, at least %d", n, minTPKT)
	}
	if n > max {
		return nil, malformed(KindTooLong, "TPKT length %d, at most %d", n, max)
	}
	packet := make([]byte, n)
	copy(packet, header[:])
	if _, err := io.ReadFull(r, packet[tpktHeader:]); err != nil {
		return nil, unexpected(err, "a TPKT packet")
	}
	return packet, nil
}

// readHead fills head. It refuses as soon as the bytes at hand cannot begin an
// RDP connection, because a peer that speaks something else may wait for our
// answer after fewer bytes than we want: a SOCKS greeting has three.
func readHead(r io.Reader, head *[tpktHeader]byte) error {
	for have := 0; have < len(head); {
		n, err := r.Read(head[have:])
		have += n
		if have > 0 && !couldBegin(head[:have]) {
			return malformed(foreign(head[:have]), "the first bytes are %x", head[:have])
		}
		if err != nil && have < len(head) {
			if have == 0 && errors.Is(err, io.EOF) {
				return io.EOF
			}
			return unexpected(err, "the first bytes")
		}
	}
	return nil
}

// unexpected wraps an error of the reader in the middle of something.
func unexpected(err error, what string) error {
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("reading %s: %w", what, err)
}

// couldBegin reports whether an RDP connection can begin with b: with a TPKT
// header, or with a preconnection blob, whose length is little endian.
func couldBegin(b []byte) bool {
	if b[0] == tpktVersion {
		return true
	}
	if b[0] == 0x05 { // an odd blob length, but above all SOCKS5, which says only three bytes
		return false
	}
	// The two upper bytes of a blob's length are 0 and the third digit is small;
	// everything else that is told apart here differs there.
	return (len(b) < 2 || int(b[1]) <= maxBlob>>8) && (len(b) < 3 || b[2] == 0) && (len(b) < 4 || b[3] == 0)
}

// foreign guesses which other protocol begins with b, for the operator's
// counters only. b has at least one byte.
func foreign(b []byte) Kind {
	starts := func(prefix string) bool {
		n := min(len(b), len(prefix))
		return n > 1 && string(b[:n]) == prefix[:n]
	}
	if starts("\x16\x03") { // handshake record, any version
		return KindTLS
	}
	if starts("SSH-") {
		return KindSSH
	}
	if starts("PROXY") || starts("\r\n\r\n") {
		return KindProxyHeader
	}
	for _, method := range [...]string{"GET ", "POST", "HEAD", "OPTIONS", "CONNECT", "PUT ", "DELETE", "TRACE", "PATCH", "PRI "} {
		if starts(method) {
			return KindHTTP
		}
	}
	if b[0] == 0x05 || (b[0] == 0x04 && len(b) > 1 && (b[1] == 1 || b[1] == 2)) { // RFC 1928; SOCKS4 CONNECT, BIND
		return KindSOCKS
	}
	return KindNotTPKT
}
