package simhost

import (
	"bytes"
	"crypto/md5"
	"crypto/rc4"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"sync"
)

// sealedType is the content type of a sealed message, [MS-WSMV] 2.2.9.1.
const (
	sealedType     = `multipart/encrypted;protocol="application/HTTP-SPNEGO-session-encrypted";boundary="Encrypted Boundary"`
	sealedProtocol = "application/HTTP-SPNEGO-session-encrypted"
	sealedBoundary = "--Encrypted Boundary"
	soapType       = "application/soap+xml;charset=UTF-8"
)

// sealer seals and unseals the messages of one connection, [MS-NLMP] 3.4. The
// ciphers run on from message to message, so their order matters.
type sealer struct {
	mu       sync.Mutex
	in, out  *rc4.Cipher
	inSign   []byte
	outSign  []byte
	inCount  uint32
	outCount uint32
}

// newSealer is nil if the client did not negotiate sealing with 128-bit keys.
func newSealer(n *ntlmSession) *sealer {
	const need = ntlmSeal | ntlmKeyExchange | ntlmExtendedSecurity | ntlm128
	if n.flags&need != need {
		return nil
	}
	key := func(magic string) []byte {
		sum := md5.Sum(append(bytes.Clone(n.key), magic+"\x00"...))
		return sum[:]
	}
	in, err := rc4.NewCipher(key("session key to client-to-server sealing key magic constant"))
	if err != nil {
		return nil
	}
	out, err := rc4.NewCipher(key("session key to server-to-client sealing key magic constant"))
	if err != nil {
		return nil
	}
	return &sealer{in: in, out: out,
		inSign:  key("session key to client-to-server signing key magic constant"),
		outSign: key("session key to server-to-client signing key magic constant"),
	}
}

// open reads a sealed message: signature length, signature, sealed data.
func (s *sealer) open(body []byte) ([]byte, error) {
	_, data, ok := bytes.Cut(body, []byte("\tContent-Type: application/octet-stream\r\n"))
	if !ok {
		return nil, errors.New("sealed message: no octet-stream part")
	}
	end := bytes.LastIndex(data, []byte(sealedBoundary+"--"))
	if end < 4+signatureLen || binary.LittleEndian.Uint32(data) != signatureLen {
		return nil, errors.New("sealed message: no signature of 16 bytes")
	}
	return s.unwrap(data[4:end])
}

// signatureLen is the length of a signature, [MS-NLMP] 2.2.2.9.1.
const signatureLen = 16

// unwrap unseals what stands behind its signature.
func (s *sealer) unwrap(b []byte) ([]byte, error) {
	if len(b) < signatureLen {
		return nil, errors.New("sealed message: no signature")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	plain := make([]byte, len(b)-signatureLen)
	s.in.XORKeyStream(plain, b[signatureLen:])
	want := sign(s.in, s.inSign, s.inCount, plain)
	s.inCount++
	if subtle.ConstantTimeCompare(want, b[:signatureLen]) != 1 {
		return nil, errors.New("sealed message: wrong signature")
	}
	return plain, nil
}

// wrap seals plain and puts its signature before it.
func (s *sealer) wrap(plain []byte) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	sealed := make([]byte, len(plain))
	s.out.XORKeyStream(sealed, plain)
	signature := sign(s.out, s.outSign, s.outCount, plain)
	s.outCount++
	return append(signature, sealed...)
}

// close seals a message for the client.
func (s *sealer) close(plain []byte) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s\r\n\tContent-Type: %s\r\n\tOriginalContent: type=%s;Length=%d\r\n%s\r\n\tContent-Type: application/octet-stream\r\n",
		sealedBoundary, sealedProtocol, soapType, len(plain), sealedBoundary)
	b.Write([]byte{signatureLen, 0, 0, 0})
	b.Write(s.wrap(plain))
	b.WriteString(sealedBoundary + "--\r\n")
	return b.Bytes()
}

// sign makes the signature of a message, [MS-NLMP] 3.4.4.2, with key exchange.
func sign(cipher *rc4.Cipher, key []byte, count uint32, plain []byte) []byte {
	number := binary.LittleEndian.AppendUint32(nil, count)
	checksum := hmacMD5(key, number, plain)[:8]
	cipher.XORKeyStream(checksum, checksum)
	b := append([]byte{1, 0, 0, 0}, checksum...)
	return append(b, number...)
}

func isSealed(contentType string) bool {
	return strings.HasPrefix(strings.ToLower(contentType), "multipart/encrypted")
}
