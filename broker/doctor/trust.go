package doctor

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"time"
)

// renewBefore is how long before its end a certificate begins to be a warning:
// unlike RDP's own, nobody renews WinRM's by itself.
const renewBefore = 30 * 24 * time.Hour

// trust makes a TLS handshake on conn and judges the certificate as the driver
// would. trusted is false if the driver would not talk to the host.
func (d *Doctor) trust(ctx context.Context, m Management, conn net.Conn) (f Finding, trusted bool) {
	name := m.ServerName
	if name == "" {
		name, _, _ = net.SplitHostPort(m.Addr)
	}
	anchor := "the certificate authorities of this machine"
	conf := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: name, Time: d.cfg.Now}
	if m.CAFile != "" {
		anchor = m.CAFile
		pem, err := os.ReadFile(m.CAFile)
		if err != nil {
			return failure(CheckTrust, "ca_file cannot be read: %v", err).advise("see winrm.ca_file in broker.yaml"), false
		}
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM(pem) {
			return failure(CheckTrust, "%s holds no certificate in PEM form", m.CAFile).
				advise("a .cer file from Windows is mostly DER: openssl x509 -inform der -in HOST.cer >> %s", m.CAFile), false
		}
	}
	ctx, cancel := context.WithTimeout(ctx, d.cfg.ConnectTimeout)
	defer cancel()
	t := tls.Client(conn, conf)
	if err := t.HandshakeContext(ctx); err != nil {
		if ctx.Err() != nil {
			return failure(CheckTrust, "TLS with %s: no answer in time", m.Addr).
				advise("something listens there and says nothing: check that it is WinRM's HTTPS listener"), false
		}
		return distrust(err, m, name, anchor), false
	}
	leaf := t.ConnectionState().PeerCertificates[0]
	if d.cfg.Now().Add(renewBefore).After(leaf.NotAfter) {
		return warning(CheckTrust, "the certificate of WinRM is trusted by %s, but ends on %s", anchor, day(leaf.NotAfter)).
			advise("renew it and bind the new one to the HTTPS listener (deploy/windows/prepare-host.ps1): after that day the broker reads this host no more"), true
	}
	return ok(CheckTrust, "the certificate of WinRM is for %s, trusted by %s, valid until %s", name, anchor, day(leaf.NotAfter)), true
}

// distrust says why a handshake failed, and how to mend it.
func distrust(err error, m Management, name, anchor string) Finding {
	var unverified *tls.CertificateVerificationError
	if errors.As(err, &unverified) && len(unverified.UnverifiedCertificates) > 0 {
		return unverifiable(unverified.Err, unverified.UnverifiedCertificates[0], name, anchor)
	}
	var record tls.RecordHeaderError
	if errors.As(err, &record) {
		return failure(CheckTrust, "what answers at %s does not speak TLS", m.Addr).
			advise("that is no HTTPS listener: check the port (5986) in winrm.address")
	}
	return failure(CheckTrust, "TLS with %s: %v", m.Addr, err).
		advise("the broker wants TLS 1.2, which Windows before 2012 has to be taught; see also the host's event log (Schannel)")
}

// unverifiable says what is wrong with a certificate.
func unverifiable(err error, leaf *x509.Certificate, name, anchor string) Finding {
	var (
		authority x509.UnknownAuthorityError
		hostname  x509.HostnameError
		invalid   x509.CertificateInvalidError
	)
	switch {
	case errors.As(err, &hostname):
		return failure(CheckTrust, "the certificate of WinRM is for %s, not for %s", names(leaf), name).
			advise("reach the host by a name that it carries (winrm.address), set winrm.server_name to one, or give the listener another certificate")
	case errors.As(err, &authority):
		return failure(CheckTrust, "the certificate of WinRM is not trusted by %s: %s", anchor, describe(leaf)).
			advise("compare the SHA-256 with the host's own certificate; if it is that one, add it, or the one of the authority that signed it, to winrm.ca_file (PEM)")
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return failure(CheckTrust, "the certificate of WinRM is valid from %s to %s, which is not now", day(leaf.NotBefore), day(leaf.NotAfter)).
			advise("renew it, or set the clocks of the host and of this machine")
	}
	return failure(CheckTrust, "the certificate of WinRM is not accepted: %v (%s)", err, describe(leaf)).
		advise("give the HTTPS listener a certificate for server authentication; deploy/windows/prepare-host.ps1 -SelfSigned makes one")
}

// names are the names that a certificate carries.
func names(c *x509.Certificate) string {
	all := slices.Clone(c.DNSNames)
	for _, ip := range c.IPAddresses {
		all = append(all, ip.String())
	}
	if len(all) == 0 {
		return "no name that counts"
	}
	return strings.Join(all, ", ")
}

// describe is enough of a certificate to find it again.
func describe(c *x509.Certificate) string {
	signed := "signed by " + c.Issuer.String()
	if c.Issuer.String() == c.Subject.String() {
		signed = "signed by itself"
	}
	return fmt.Sprintf("%s, for %s, %s, SHA-256 %x", c.Subject, names(c), signed, sha256.Sum256(c.Raw))
}

func day(t time.Time) string { return t.UTC().Format(time.DateOnly) }
