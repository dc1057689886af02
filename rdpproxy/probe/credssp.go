// SPDX-License-Identifier: GPL-3.0-only

package probe

import (
	"bytes"
	"crypto/hmac"
	"crypto/md5"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/tomatome/grdp/protocol/nla"
)

// credSSPVersion is the newest version of [MS-CSSP] that the probe speaks;
// grdp's own is 2, which a host that has been told to mitigate CVE-2018-0886
// refuses. nonceVersion is the first that binds to TLS with a nonce.
const (
	credSSPVersion = 6
	nonceVersion   = 5
)

// tsRequest is a TSRequest, [MS-CSSP] 2.2.1.
type tsRequest struct {
	Version     int         `asn1:"explicit,tag:0"`
	NegoTokens  []negoToken `asn1:"optional,omitempty,explicit,tag:1"`
	AuthInfo    []byte      `asn1:"optional,omitempty,explicit,tag:2"`
	PubKeyAuth  []byte      `asn1:"optional,omitempty,explicit,tag:3"`
	ErrorCode   int64       `asn1:"optional,explicit,tag:4"`
	ClientNonce []byte      `asn1:"optional,omitempty,explicit,tag:5"`
}

type negoToken struct {
	Token []byte `asn1:"explicit,tag:0"`
}

// refusedError says that the host did not take the credentials.
type refusedError struct {
	status *Code // why, if the host said so
	err    error
}

func (e *refusedError) Error() string { return e.err.Error() }
func (e *refusedError) Unwrap() error { return e.err }

func refused(status *Code, format string, args ...any) error {
	return &refusedError{status: status, err: fmt.Errorf(format, args...)}
}

// credSSP logs on at the host before RDP begins: network level authentication,
// [MS-CSSP] 3.1.5, with NTLM. It verifies that the host, too, knows the
// password and holds the TLS key: nobody can sit in between.
type credSSP struct {
	conn io.ReadWriter // TLS; reads exactly what it needs
	ntlm *nla.NTLMv2
	// certificate is the one that the host showed in the TLS handshake.
	certificate *x509.Certificate

	version int // what both sides speak, after the host's first answer
	keys    *nla.NTLMv2Security
	nonce   [32]byte
	key     []byte // the certificate's SubjectPublicKey
}

// run does all of it. A *refusedError means that the host refused the
// credentials; other errors mean that it did not come so far.
func (c *credSSP) run() error {
	var err error
	if c.key, err = subjectPublicKey(c.certificate); err != nil {
		return err
	}
	if _, err := rand.Read(c.nonce[:]); err != nil {
		return err
	}
	challenge, err := c.negotiate()
	if err != nil {
		return err
	}
	answer, err := c.authenticate(challenge)
	if err != nil {
		return err
	}
	if err := c.verify(answer); err != nil {
		return err
	}
	return c.delegate()
}

// negotiate asks for NTLM and returns the host's challenge.
func (c *credSSP) negotiate() ([]byte, error) {
	first := c.ntlm.GetNegotiateMessage()
	// Without it the host's challenge has no version field either, and grdp
	// looks for everything behind it in the wrong place.
	first.NegotiateFlags |= nla.NTLMSSP_NEGOTIATE_VERSION
	if err := c.send(&tsRequest{Version: credSSPVersion, NegoTokens: []negoToken{{first.Serialize()}}}); err != nil {
		return nil, err
	}
	answer, err := c.receive()
	if err != nil {
		return nil, fmt.Errorf("the host's NTLM challenge: %w", err)
	}
	if status := ntStatus(answer.ErrorCode); status != nil {
		return nil, refused(status, "the host refused NTLM: %s", status)
	}
	if len(answer.NegoTokens) == 0 {
		return nil, errors.New("the host's answer carries no NTLM challenge")
	}
	if c.version = min(answer.Version, credSSPVersion); c.version < 2 {
		return nil, fmt.Errorf("the host speaks CredSSP version %d", answer.Version)
	}
	return answer.NegoTokens[0].Token, nil
}

// authenticate answers the challenge and returns what proves the host's side.
// Whatever ends the connection here is a refusal.
func (c *credSSP) authenticate(challenge []byte) ([]byte, error) {
	var proof []byte
	err := contain("the host's NTLM challenge", func() {
		m, keys := c.ntlm.GetAuthenticateMessage(challenge)
		c.keys, proof = keys, m.Serialize()
	})
	if err != nil {
		return nil, err
	}
	request := &tsRequest{Version: credSSPVersion, NegoTokens: []negoToken{{proof}}}
	if c.version >= nonceVersion {
		request.ClientNonce = c.nonce[:]
		request.PubKeyAuth = c.keys.GssEncrypt(c.binding("Client-To-Server"))
	} else {
		request.PubKeyAuth = c.keys.GssEncrypt(c.key)
	}
	if err := c.send(request); err != nil {
		return nil, err
	}
	answer, err := c.receive()
	if isTimeout(err) {
		return nil, fmt.Errorf("the host's answer to the credentials: %w", err)
	}
	if err != nil {
		return nil, refused(nil, "the host ended the connection when it had the credentials, as hosts do with a wrong user name or password: %w", err)
	}
	if status := ntStatus(answer.ErrorCode); status != nil {
		return nil, refused(status, "the host refused the credentials: %s", status)
	}
	return answer.PubKeyAuth, nil
}

// verify checks that the host has seen the same TLS key as the probe.
func (c *credSSP) verify(sealed []byte) error {
	got, err := unseal(c.keys, sealed)
	if err != nil {
		return fmt.Errorf("the host's proof of its TLS key: %w", err)
	}
	want := c.binding("Server-To-Client")
	if c.version < nonceVersion {
		want = bytes.Clone(c.key)
		want[0]++
	}
	if !hmac.Equal(got, want) {
		return errors.New("the host has seen another TLS key than rdpprobe: something between them decrypts")
	}
	return nil
}

// delegate hands the credentials over, which the session logs on with.
func (c *credSSP) delegate() error {
	domain, user, password := c.ntlm.GetEncodedCredentials()
	credentials := nla.EncodeDERTCredentials(domain, user, password)
	return c.send(&tsRequest{Version: credSSPVersion, AuthInfo: c.keys.GssEncrypt(credentials)})
}

func (c *credSSP) binding(direction string) []byte {
	h := sha256.New()
	h.Write([]byte("CredSSP " + direction + " Binding Hash\x00"))
	h.Write(c.nonce[:])
	h.Write(c.key)
	return h.Sum(nil)
}

// send writes a request at once, because hosts want it in one TLS record.
func (c *credSSP) send(r *tsRequest) error {
	b, err := asn1.Marshal(*r)
	if err != nil {
		return err
	}
	_, err = c.conn.Write(b)
	return err
}

// maxRequest is far above what NTLM needs.
const maxRequest = 1 << 16

// receive reads one request and no byte more.
func (c *credSSP) receive() (*tsRequest, error) {
	head := make([]byte, 2, 6)
	if _, err := io.ReadFull(c.conn, head); err != nil {
		return nil, err
	}
	length := int(head[1])
	if length >= 0x80 {
		n := length & 0x7f
		if n == 0 || n > 4 {
			return nil, fmt.Errorf("a CredSSP message whose length takes %d bytes", n)
		}
		head = head[:2+n]
		if _, err := io.ReadFull(c.conn, head[2:]); err != nil {
			return nil, err
		}
		length = 0
		for _, b := range head[2:] {
			length = length<<8 | int(b)
		}
	}
	if head[0] != 0x30 || length > maxRequest {
		return nil, fmt.Errorf("no CredSSP message (tag %#x, %d bytes)", head[0], length)
	}
	message := append(head, make([]byte, length)...)
	if _, err := io.ReadFull(c.conn, message[len(head):]); err != nil {
		return nil, err
	}
	var r tsRequest
	if _, err := asn1.Unmarshal(message, &r); err != nil {
		return nil, fmt.Errorf("CredSSP message: %w", err)
	}
	return &r, nil
}

// unseal decrypts and verifies what the host has sealed, [MS-NLMP] 3.4.4.2 with
// key exchange. grdp's GssDecrypt compares signatures of different lengths, so
// it never succeeds.
func unseal(keys *nla.NTLMv2Security, sealed []byte) ([]byte, error) {
	in := cursor{b: sealed}
	version, checksum, sequence := in.u32(), bytes.Clone(in.take(8)), in.u32()
	if in.short || version != 1 {
		return nil, errors.New("no NTLM signature")
	}
	data := make([]byte, len(in.b))
	keys.DecryptRC4.XORKeyStream(data, in.b)
	keys.DecryptRC4.XORKeyStream(checksum, checksum)
	mac := hmac.New(md5.New, keys.VerifyKey)
	mac.Write(binary.LittleEndian.AppendUint32(nil, sequence))
	mac.Write(data)
	if !hmac.Equal(mac.Sum(nil)[:8], checksum) {
		return nil, errors.New("a wrong NTLM signature: the host does not know the password either")
	}
	return data, nil
}

// subjectPublicKey is the BIT STRING inside the SubjectPublicKeyInfo.
func subjectPublicKey(cert *x509.Certificate) ([]byte, error) {
	var info struct {
		Algorithm pkix.AlgorithmIdentifier
		Key       asn1.BitString
	}
	if _, err := asn1.Unmarshal(cert.RawSubjectPublicKeyInfo, &info); err != nil {
		return nil, fmt.Errorf("the certificate's public key: %w", err)
	}
	if len(info.Key.Bytes) == 0 {
		return nil, errors.New("the certificate has no public key")
	}
	return info.Key.Bytes, nil
}

// contain runs f and turns a panic into an error. grdp indexes into what the
// host sent without looking; doing says what was attempted.
func contain(doing string, f func()) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%s cannot be read: %v", doing, p)
		}
	}()
	f()
	return nil
}
