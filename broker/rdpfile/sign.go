package rdpfile

import (
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/smallstep/pkcs7"
)

// signable are the settings of ours that a signature covers, as rdpsign.exe names
// them in signscope:s: and in its order. It leaves out the user's name and what
// does no harm, so that these may change without breaking the signature. Microsoft
// has published nothing about it; this is what others found out by looking at its
// files.
var signable = []struct{ name, scope string }{
	{"full address:s:", "Full Address"},
	{"alternate full address:s:", "Alternate Full Address"},
	{"use redirection server name:i:", "Use Redirection Server Name"},
	{"negotiate security layer:i:", "Negotiate Security Layer"},
	{"enablecredsspsupport:i:", "EnableCredSspSupport"},
	{"autoreconnection enabled:i:", "AutoReconnection Enabled"},
	{"promptcredentialonce:i:", "PromptCredentialOnce"},
	{"prompt for credentials:i:", "Prompt For Credentials"},
	{"authentication level:i:", "Authentication Level"},
	{"audiomode:i:", "AudioMode"},
	{"redirectprinters:i:", "RedirectPrinters"},
	{"redirectcomports:i:", "RedirectCOMPorts"},
	{"redirectsmartcards:i:", "RedirectSmartCards"},
	{"redirectposdevices:i:", "RedirectPOSDevices"},
	{"redirectclipboard:i:", "RedirectClipboard"},
	{"drivestoredirect:s:", "DrivesToRedirect"},
	{"loadbalanceinfo:s:", "LoadBalanceInfo"},
}

// Sign adds a signature, in place of one that is there: a detached PKCS #7
// signature (SHA-256, RSA, no signed attributes) over the settings that it covers.
// chain is the signer's certificate and those between it and a root; users'
// computers must trust the root, and the certificate be one for code signing or
// server authentication. now is for its time.
func (f *File) Sign(chain []*x509.Certificate, key any, now time.Time) error {
	if len(chain) == 0 {
		return errors.New("there is no certificate to sign with")
	}
	signer, ok := key.(*rsa.PrivateKey)
	if !ok {
		return fmt.Errorf(".rdp files are signed with an RSA key, and this is a %T", key)
	}
	switch cert := chain[0]; {
	case !signer.PublicKey.Equal(cert.PublicKey):
		return fmt.Errorf("the key is not that of the certificate for %s, the first one in its file", cert.Subject)
	case now.Before(cert.NotBefore) || now.After(cert.NotAfter):
		return fmt.Errorf("the certificate for %s is good from %s to %s only", cert.Subject,
			cert.NotBefore.UTC().Format(time.DateOnly), cert.NotAfter.UTC().Format(time.DateOnly))
	}
	message, scope := f.message()
	sd, err := pkcs7.NewSignedData(message)
	if err != nil {
		return fmt.Errorf("signing: %w", err)
	}
	sd.SetDigestAlgorithm(pkcs7.OIDDigestAlgorithmSHA256)
	sd.SetEncryptionAlgorithm(pkcs7.OIDEncryptionAlgorithmRSA)
	if err := sd.SignWithoutAttr(chain[0], signer, pkcs7.SignerInfoConfig{}); err != nil {
		return fmt.Errorf("signing: %w", err)
	}
	for _, c := range chain[1:] {
		sd.AddCertificate(c)
	}
	sd.Detach()
	der, err := sd.Finish()
	if err != nil {
		return fmt.Errorf("signing: %w", err)
	}
	f.signed = []string{scope, "signature:s:" + base64.StdEncoding.EncodeToString(append(signatureHeader(len(der)), der...))}
	return nil
}

// message is what is signed: the covered lines, the line that lists them, and a NUL.
func (f *File) message() (text []byte, scope string) {
	var lines, names []string
	for _, s := range signable {
		if i := slices.IndexFunc(f.settings, func(x setting) bool { return x.name == s.name }); i >= 0 {
			lines, names = append(lines, f.settings[i].line()), append(names, s.scope)
		}
	}
	scope = "signscope:s:" + strings.Join(names, ",")
	return appendUTF16(nil, strings.Join(append(lines, scope), "\r\n")+"\r\n\x00"), scope
}

// signatureHeader stands before the PKCS #7 message of n bytes: two numbers whose
// meaning is not known, and its length.
func signatureHeader(n int) []byte {
	b := binary.LittleEndian.AppendUint32(nil, 0x00010001)
	b = binary.LittleEndian.AppendUint32(b, 1)
	return binary.LittleEndian.AppendUint32(b, uint32(n))
}
