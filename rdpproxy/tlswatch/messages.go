package tlswatch

// Handshake messages, RFC 8446 appendix B.3 and RFC 5246 7.4.
const (
	msgClientHello       = 1
	msgServerHello       = 2
	msgNewSessionTicket  = 4
	msgCertificate       = 11
	msgServerKeyExchange = 12
	msgCertificateAsk    = 13
	msgServerHelloDone   = 14
	msgCertificateStatus = 22
)

// maxHello bounds what is kept of a hello message. With the key shares of several
// post-quantum groups a ClientHello has some 3,000 bytes.
const maxHello = 8 << 10

// message is one handshake message. content is set for hellos only.
type message struct {
	kind    byte
	content []byte
}

// messages finds the handshake messages in the bodies of plain handshake records.
// It keeps what is in a hello, and skips all else.
type messages struct {
	header [4]byte
	have   int
	left   int
	hello  []byte
}

// between reports whether no message has been begun and not ended.
func (m *messages) between() bool { return m.have == 0 }

// next takes bytes of b up to the end of a message, which it returns with ended
// true. ok is false if the message is a hello that is too long to be one.
func (m *messages) next(b []byte) (msg message, rest []byte, ended, ok bool) {
	if m.have < len(m.header) {
		n := copy(m.header[m.have:], b)
		m.have += n
		b = b[n:]
		if m.have < len(m.header) {
			return message{}, b, false, true
		}
		m.left = int(m.header[1])<<16 | int(m.header[2])<<8 | int(m.header[3])
	}
	isHello := m.header[0] == msgClientHello || m.header[0] == msgServerHello
	if isHello && m.left+len(m.hello) > maxHello {
		return message{}, nil, false, false
	}
	n := min(m.left, len(b))
	if isHello {
		m.hello = append(m.hello, b[:n]...)
	}
	m.left -= n
	if m.left > 0 {
		return message{}, b[n:], false, true
	}
	msg = message{kind: m.header[0], content: m.hello}
	m.have, m.hello = 0, nil
	return msg, b[n:], true, true
}
