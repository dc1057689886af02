package reach

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"net"
	"slices"
)

// shakeHands does a TLS handshake and describes it. Certificates are not
// verified: hosts sign their own, and what is wrong with one is a finding.
func shakeHands(ctx context.Context, conn net.Conn, addr string) *TLS {
	host, _, _ := net.SplitHostPort(addr) // valid: the dial took it
	c := tls.Client(conn, &tls.Config{
		ServerName:         host,
		InsecureSkipVerify: true,
		MinVersion:         tls.VersionTLS10, // to find out, not to trust it
		CipherSuites:       everyCipher(),
	})
	if err := c.HandshakeContext(ctx); err != nil {
		return &TLS{Error: err.Error()}
	}
	state := c.ConnectionState()
	t := &TLS{
		Version:  tls.VersionName(state.Version),
		Cipher:   tls.CipherSuiteName(state.CipherSuite),
		Outdated: state.Version < tls.VersionTLS12 || insecure(state.CipherSuite),
	}
	for _, cert := range state.PeerCertificates {
		t.Chain = append(t.Chain, describe(cert))
	}
	return t
}

func everyCipher() []uint16 {
	var ids []uint16
	for _, c := range append(tls.CipherSuites(), tls.InsecureCipherSuites()...) {
		ids = append(ids, c.ID)
	}
	return ids
}

func insecure(suite uint16) bool {
	return slices.ContainsFunc(tls.InsecureCipherSuites(), func(c *tls.CipherSuite) bool { return c.ID == suite })
}

func describe(cert *x509.Certificate) Certificate {
	sum := sha256.Sum256(cert.Raw)
	key, weakKey := describeKey(cert.PublicKey)
	c := Certificate{
		Subject: cert.Subject.String(), Issuer: cert.Issuer.String(), CommonName: cert.Subject.CommonName, DNSNames: cert.DNSNames,
		NotBefore: cert.NotBefore, NotAfter: cert.NotAfter,
		// By name only: crypto/x509 verifies no SHA-1 signature, which old hosts
		// still make on their own certificates.
		SelfSigned: bytes.Equal(cert.RawSubject, cert.RawIssuer),
		SHA256:     hex.EncodeToString(sum[:]),
		Key:        key, Signature: cert.SignatureAlgorithm.String(),
		Weak: weakKey || weakSignature(cert.SignatureAlgorithm),
	}
	for _, ip := range cert.IPAddresses {
		c.Addresses = append(c.Addresses, ip.String())
	}
	return c
}

func describeKey(key any) (text string, weak bool) {
	switch k := key.(type) {
	case *rsa.PublicKey:
		return fmt.Sprintf("RSA %d", k.N.BitLen()), k.N.BitLen() < 2048
	case *ecdsa.PublicKey:
		return "ECDSA " + k.Curve.Params().Name, false
	case ed25519.PublicKey:
		return "Ed25519", false
	}
	return "unknown", false
}

func weakSignature(a x509.SignatureAlgorithm) bool {
	return slices.Contains([]x509.SignatureAlgorithm{
		x509.MD2WithRSA, x509.MD5WithRSA, x509.SHA1WithRSA, x509.DSAWithSHA1, x509.ECDSAWithSHA1,
	}, a)
}

// coverage says which of the names the host's certificate carries.
func coverage(t *TLS, names []string) []Name {
	if len(t.Chain) == 0 {
		return nil
	}
	var all []Name
	for _, n := range names {
		all = append(all, Name{Name: n, Covered: t.Chain[0].Covers(n)})
	}
	return all
}

// Covers says whether a client that came to name takes the certificate for it.
// As for mstsc, and unlike the rule for web servers, the common name counts if
// there is no DNS name: hosts sign themselves certificates with nothing else.
func (c Certificate) Covers(name string) bool {
	match := &x509.Certificate{DNSNames: c.DNSNames}
	for _, a := range c.Addresses {
		match.IPAddresses = append(match.IPAddresses, net.ParseIP(a))
	}
	if len(match.DNSNames) == 0 {
		match.DNSNames = []string{c.CommonName}
	}
	return match.VerifyHostname(name) == nil
}
