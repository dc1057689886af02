package winrm

import (
	"context"
	"crypto"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"net/http"
	"strings"

	_ "crypto/sha256" // hashes of channel bindings
	_ "crypto/sha512"

	"github.com/bodgit/ntlmssp"
)

// logon authenticates a new connection. With NTLM it sends no message before
// the host has accepted the account: both steps have an empty body. It never
// falls back to anything else. An *AuthError says that the account or the way
// to prove it was refused.
func (c *client) logon(ctx context.Context, cn *conn, password string) error {
	if c.target.basic {
		return nil // goes with each message; it is over TLS
	}
	ntlm, err := ntlmssp.NewClient(ntlmssp.SetDomain(c.target.domain), ntlmssp.SetUserInfo(c.target.user, password))
	if err != nil {
		return fmt.Errorf("NTLM: %w", err)
	}
	hello, err := ntlm.Authenticate(nil, nil)
	if err != nil {
		return fmt.Errorf("NTLM: %w", err)
	}
	r, err := c.negotiate(ctx, cn, hello)
	if err != nil {
		return err
	}
	if r.status != http.StatusUnauthorized {
		return statusError(r)
	}
	challenge, err := challengeOf(r.header)
	if err != nil {
		return c.refused(err.Error())
	}
	sealed := c.target.tls == nil
	if sealed && !canSeal(challenge) {
		return c.refused("the host does not seal messages, and plain HTTP is used only with sealed ones")
	}
	answer, err := answerChallenge(ntlm, challenge, channelBindings(cn))
	if err != nil {
		return fmt.Errorf("NTLM challenge: %w", err)
	}
	if !cn.current {
		return errors.New("the host ended the connection between the steps of the logon")
	}
	r, err = c.negotiate(ctx, cn, answer)
	switch {
	case err != nil:
		return err
	case r.status == http.StatusUnauthorized:
		return c.refused("the host refused the user name or the password")
	case r.status != http.StatusOK:
		return statusError(r)
	case !cn.current:
		return errors.New("the host ended the connection after the logon")
	}
	if sealed {
		cn.seal = &sealer{session: ntlm.SecuritySession()}
	}
	return nil
}

// negotiate sends one step of the handshake, RFC 4559 with bare NTLM tokens.
func (c *client) negotiate(ctx context.Context, cn *conn, token []byte) (*reply, error) {
	req, err := cn.request(c.target.url, "", "")
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Negotiate "+base64.StdEncoding.EncodeToString(token))
	r, err := cn.exchange(ctx, req)
	if err != nil {
		return nil, fmt.Errorf("log on: %w", err)
	}
	return r, nil
}

// challengeOf is the token in a 401's WWW-Authenticate. The error says what the
// host offers instead.
func challengeOf(h http.Header) ([]byte, error) {
	var schemes []string
	for _, v := range h.Values("WWW-Authenticate") {
		scheme, token, _ := strings.Cut(v, " ")
		schemes = append(schemes, scheme)
		if !strings.EqualFold(scheme, "Negotiate") || token == "" {
			continue
		}
		b, err := base64.StdEncoding.DecodeString(strings.TrimSpace(token))
		if err != nil {
			return nil, errors.New("the host's NTLM challenge is garbled")
		}
		return b, nil
	}
	return nil, fmt.Errorf("the host does not do NTLM, it offers %q", excerpt(strings.Join(schemes, ", ")))
}

// answerChallenge computes the AUTHENTICATE_MESSAGE, always NTLMv2. The library
// indexes into some fields of the challenge without a look at their length; a
// hostile endpoint must not end the program with that.
func answerChallenge(ntlm *ntlmssp.Client, challenge []byte, cb *ntlmssp.ChannelBindings) (answer []byte, err error) {
	defer func() {
		if r := recover(); r != nil {
			answer, err = nil, fmt.Errorf("malformed: %v", r)
		}
	}()
	return ntlm.Authenticate(challenge, cb)
}

// canSeal reports whether the challenge agrees to sealing with 128-bit keys.
// The flags could have been stripped on the way; without them the library would
// hand messages back as they are.
func canSeal(challenge []byte) bool {
	const ( // [MS-NLMP] 2.2.2.5
		seal             = 0x00000020
		extendedSecurity = 0x00080000
		key128           = 0x20000000
		keyExchange      = 0x40000000
		need             = seal | extendedSecurity | key128 | keyExchange
	)
	return len(challenge) >= 24 && binary.LittleEndian.Uint32(challenge[20:])&need == need
}

// channelBindings ties the logon to the TLS connection (tls-server-end-point,
// RFC 5929), so that somebody in the middle with a certificate of their own
// cannot pass it on. Nil without TLS or for signatures without a hash.
func channelBindings(cn *conn) *ntlmssp.ChannelBindings {
	state := cn.tlsState()
	if state == nil || len(state.PeerCertificates) == 0 {
		return nil
	}
	cert := state.PeerCertificates[0]
	hash := bindingHash(cert.SignatureAlgorithm)
	if hash == 0 {
		return nil
	}
	h := hash.New()
	h.Write(cert.Raw)
	return &ntlmssp.ChannelBindings{ApplicationData: append([]byte(ntlmssp.TLSServerEndPoint+":"), h.Sum(nil)...)}
}

// bindingHash is the hash function of a certificate's signature, with SHA-256
// in place of MD5 and SHA-1; 0 if the signature has none of its own.
func bindingHash(a x509.SignatureAlgorithm) crypto.Hash {
	switch a {
	case x509.SHA384WithRSA, x509.SHA384WithRSAPSS, x509.ECDSAWithSHA384:
		return crypto.SHA384
	case x509.SHA512WithRSA, x509.SHA512WithRSAPSS, x509.ECDSAWithSHA512:
		return crypto.SHA512
	case x509.PureEd25519, x509.UnknownSignatureAlgorithm:
		return 0
	}
	return crypto.SHA256
}

func (c *client) refused(reason string) error {
	return &AuthError{Endpoint: c.target.url, Reason: reason}
}
