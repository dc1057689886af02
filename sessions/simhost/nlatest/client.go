// Package nlatest is for tests: the client's side of an RDP connection up to the
// point at which MCS begins. It shows a password by CredSSP with NTLM, as far as a
// host lets it, and is made of another NTLM than the simulated hosts.
package nlatest

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
	"net"
	"unicode/utf16"

	"github.com/bodgit/ntlmssp"

	"github.com/rdpbroker/rdpbroker/rdpproxy/x224"
)

// Client is who connects.
type Client struct {
	// Cookie is what the connection request says, "" for nothing; Token stands in
	// its place if there is one.
	Cookie string
	Token  []byte
	// Domain, User and Password are shown by CredSSP.
	Domain, User, Password string
	// Protocols are offered; 0: SSL, HYBRID and HYBRID_EX.
	Protocols x224.Protocol
	// Version of CredSSP; 0: 6.
	Version int
	// MaxTLS is the newest version of TLS; 0: what there is.
	MaxTLS uint16
}

// Conn is a connection to a host.
type Conn struct {
	*tls.Conn
	// Selected is the protocol that the host has chosen.
	Selected x224.Protocol

	client Client
}

// ErrRefused: the host did not take the password.
var ErrRefused = errors.New("the host refuses the password")

// Request sends the connection request on c and reads the answer. c stays the
// caller's to close.
func (k Client) Request(c net.Conn) (*x224.Confirm, error) {
	protocols := k.Protocols
	if protocols == 0 {
		protocols = x224.ProtocolSSL | x224.ProtocolHybrid | x224.ProtocolHybridEx
	}
	r := x224.Request{Cookie: k.Cookie, HasCookie: k.Cookie != "", Token: k.Token, Negotiation: &x224.Negotiation{Protocols: protocols}}
	if _, err := c.Write(r.Append(nil)); err != nil {
		return nil, err
	}
	b, err := x224.ReadTPKT(c, x224.MaxPacket)
	if err != nil {
		return nil, fmt.Errorf("connection confirm: %w", err)
	}
	return x224.ParseConfirm(b)
}

// Logon goes on c as far as MCS, which is the caller's to begin: whoever has been
// accepted has nothing more to wait for. ErrRefused is among the causes of an error
// if the host did not take the password.
func (k Client) Logon(c net.Conn) (*Conn, error) {
	confirm, err := k.Request(c)
	if err != nil {
		return nil, err
	}
	selected, ok := confirm.Selected()
	if !ok {
		return nil, fmt.Errorf("the host refuses the connection: %+v", confirm)
	}
	s := &Conn{Selected: selected, client: k}
	s.Conn = tls.Client(c, &tls.Config{InsecureSkipVerify: true, MaxVersion: k.MaxTLS}) // it is a test's own host
	if err := s.Handshake(); err != nil {
		return nil, err
	}
	if selected == x224.ProtocolSSL {
		return s, nil
	}
	if err := s.credSSP(); err != nil {
		return nil, err
	}
	if selected == x224.ProtocolHybridEx {
		result := make([]byte, 4)
		if _, err := io.ReadFull(s, result); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrRefused, err)
		}
		if result[0] != 0 {
			return nil, fmt.Errorf("%w: result %d", ErrRefused, result[0])
		}
	}
	return s, nil
}

// tsRequest is a TSRequest, [MS-CSSP] 2.2.1.
type tsRequest struct {
	Version     int          `asn1:"explicit,tag:0"`
	NegoTokens  []tsNegoData `asn1:"optional,omitempty,explicit,tag:1"`
	AuthInfo    []byte       `asn1:"optional,omitempty,explicit,tag:2"`
	PubKeyAuth  []byte       `asn1:"optional,omitempty,explicit,tag:3"`
	ErrorCode   int          `asn1:"optional,explicit,tag:4"`
	ClientNonce []byte       `asn1:"optional,omitempty,explicit,tag:5"`
}

type tsNegoData struct {
	Data []byte `asn1:"explicit,tag:0"`
}

func (s *Conn) credSSP() error {
	version := s.client.Version
	if version == 0 {
		version = 6
	}
	ntlm, err := ntlmssp.NewClient(ntlmssp.SetDomain(s.client.Domain), ntlmssp.SetUserInfo(s.client.User, s.client.Password))
	if err != nil {
		return err
	}
	hello, err := ntlm.Authenticate(nil, nil)
	if err != nil {
		return err
	}
	challenge, err := s.ask(tsRequest{Version: version, NegoTokens: []tsNegoData{{hello}}})
	if err != nil || len(challenge.NegoTokens) == 0 {
		return fmt.Errorf("no challenge: %w", err)
	}
	answer, err := ntlm.Authenticate(challenge.NegoTokens[0].Data, nil)
	if err != nil {
		return err
	}
	key, err := publicKey(s.ConnectionState().PeerCertificates[0])
	if err != nil {
		return err
	}
	session := ntlm.SecuritySession()
	second := tsRequest{Version: version, NegoTokens: []tsNegoData{{answer}}}
	mine, theirs := key, append([]byte{key[0] + 1}, key[1:]...)
	if version >= 5 {
		second.ClientNonce = make([]byte, 32)
		_, _ = rand.Read(second.ClientNonce) // never fails
		mine, theirs = binding("Client-To-Server", second.ClientNonce, key), binding("Server-To-Client", second.ClientNonce, key)
	}
	if second.PubKeyAuth, err = wrap(session, mine); err != nil {
		return err
	}
	proof, err := s.ask(second)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrRefused, err)
	}
	if proof.ErrorCode != 0 {
		return fmt.Errorf("%w: status %#x", ErrRefused, uint32(proof.ErrorCode))
	}
	if len(proof.PubKeyAuth) < 16 {
		return errors.New("the host does not show that it has seen the same TLS key")
	}
	if got, err := session.Unwrap(proof.PubKeyAuth[16:], proof.PubKeyAuth[:16]); err != nil || string(got) != string(theirs) {
		return fmt.Errorf("the host has seen another TLS key: %w", err)
	}
	return s.delegate(session, version)
}

// delegate sends what the session is to log on with.
func (s *Conn) delegate(session *ntlmssp.SecuritySession, version int) error {
	password, err := asn1.Marshal(struct {
		Domain   []byte `asn1:"explicit,tag:0"`
		User     []byte `asn1:"explicit,tag:1"`
		Password []byte `asn1:"explicit,tag:2"`
	}{utf16le(s.client.Domain), utf16le(s.client.User), utf16le(s.client.Password)})
	if err != nil {
		return err
	}
	credentials, err := asn1.Marshal(struct {
		Type        int    `asn1:"explicit,tag:0"`
		Credentials []byte `asn1:"explicit,tag:1"`
	}{1, password})
	if err != nil {
		return err
	}
	last := tsRequest{Version: version}
	if last.AuthInfo, err = wrap(session, credentials); err != nil {
		return err
	}
	return s.send(last)
}

func (s *Conn) send(r tsRequest) error {
	b, err := asn1.Marshal(r)
	if err == nil {
		_, err = s.Write(b)
	}
	return err
}

func (s *Conn) ask(r tsRequest) (answer tsRequest, err error) {
	if err := s.send(r); err != nil {
		return answer, err
	}
	b := make([]byte, 4096) // hosts send each in one record
	n, err := s.Read(b)
	if err != nil {
		return answer, err
	}
	_, err = asn1.Unmarshal(b[:n], &answer)
	return answer, err
}

// wrap is plain sealed, behind its signature.
func wrap(session *ntlmssp.SecuritySession, plain []byte) ([]byte, error) {
	sealed, signature, err := session.Wrap(plain)
	return append(signature, sealed...), err
}

func binding(direction string, nonce, key []byte) []byte {
	sum := sha256.Sum256(append(append([]byte("CredSSP "+direction+" Binding Hash\x00"), nonce...), key...))
	return sum[:]
}

func publicKey(cert *x509.Certificate) ([]byte, error) {
	var info struct {
		Algorithm asn1.RawValue
		Key       asn1.BitString
	}
	_, err := asn1.Unmarshal(cert.RawSubjectPublicKeyInfo, &info)
	return info.Key.Bytes, err
}

func utf16le(s string) []byte {
	var b []byte
	for _, u := range utf16.Encode([]rune(s)) {
		b = append(b, byte(u), byte(u>>8))
	}
	return b
}
