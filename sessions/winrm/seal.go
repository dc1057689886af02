package winrm

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"github.com/bodgit/ntlmssp"
)

const (
	soapType   = "application/soap+xml;charset=UTF-8"
	sealedType = `multipart/encrypted;protocol="application/HTTP-SPNEGO-session-encrypted";boundary="Encrypted Boundary"`
	boundary   = "--Encrypted Boundary"
	octets     = "\tContent-Type: application/octet-stream\r\n"
)

// sealer encrypts and signs the messages of one connection with its NTLM
// session, [MS-WSMV] 2.2.9.1. Its ciphers run on from message to message.
type sealer struct{ session *ntlmssp.SecuritySession }

// close seals a message: signature length, signature, sealed text.
func (s *sealer) close(message string) (string, error) {
	sealed, signature, err := s.session.Wrap([]byte(message))
	if err != nil {
		return "", fmt.Errorf("seal message: %w", err)
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s\r\n\tContent-Type: application/HTTP-SPNEGO-session-encrypted\r\n"+
		"\tOriginalContent: type=%s;Length=%d\r\n%s\r\n%s", boundary, soapType, len(message), boundary, octets)
	b.Write(binary.LittleEndian.AppendUint32(nil, uint32(len(signature))))
	b.Write(signature)
	b.Write(sealed)
	b.WriteString(boundary + "--\r\n")
	return b.String(), nil
}

// open unseals an answer, or says why it is not one that the host sealed.
func (s *sealer) open(contentType string, body []byte) ([]byte, error) {
	if !strings.HasPrefix(strings.ToLower(contentType), "multipart/encrypted") {
		return nil, errNotSealed
	}
	const signatureLen = 16
	_, data, ok := bytes.Cut(body, []byte(octets))
	end := bytes.LastIndex(data, []byte(boundary+"--"))
	if !ok || end < 4+signatureLen || binary.LittleEndian.Uint32(data) != signatureLen {
		return nil, errors.New("malformed sealed answer")
	}
	message, err := s.session.Unwrap(data[4+signatureLen:end], data[4:4+signatureLen])
	if err != nil {
		return nil, fmt.Errorf("unseal answer: %w", err)
	}
	return message, nil
}
