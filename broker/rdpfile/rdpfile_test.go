package rdpfile

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/binary"
	"encoding/pem"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/smallstep/pkcs7"
)

var (
	now = time.Now() // openssl looks at its own clock
	ok  = Options{Address: "rdp.contoso.example:3390", User: `CONTOSO\jürgen`, LoadBalanceInfo: "Cookie: msts=AAAA"}
)

// text is what b, a file, says, in lines.
func text(t *testing.T, b []byte) []string {
	t.Helper()
	if len(b)%2 != 0 || !bytes.HasPrefix(b, []byte{0xff, 0xfe}) {
		t.Fatalf("%d bytes that begin with %x", len(b), b[:min(2, len(b))])
	}
	s := Text(b)
	if !strings.HasSuffix(s, "\r\n") {
		t.Fatalf("the file ends with %q", s[len(s)-9:])
	}
	return strings.Split(strings.TrimSuffix(s, "\r\n"), "\r\n")
}

func TestFile(t *testing.T) {
	f, err := New(ok)
	if err != nil {
		t.Fatal(err)
	}
	const golden = "testdata/unsigned.txt"
	got := strings.Join(text(t, f.Bytes()), "\n") + "\n"
	if os.Getenv("UPDATE") != "" {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if f, err = New(Options{Address: "rdp"}); err != nil || strings.Contains(strings.Join(text(t, f.Bytes()), "\n"), "username") {
		t.Errorf("without a user: %v", err)
	}
}

func TestText(t *testing.T) {
	for in, want := range map[string]string{
		"\xff\xfea\x00\xfc\x00": "aü", "\xfe\xff\x00a\x00\xfc": "aü", "aü": "aü", "\ufeffaü": "aü", "": "",
		"a\xff": "a\ufffd", "\xff\xfea\x00b": "a\ufffd", "\xff\xfe\x00\xd8": "\ufffd",
	} {
		if got := Text([]byte(in)); got != want {
			t.Errorf("%q is %q, want %q", in, got, want)
		}
	}
}

func TestAddresses(t *testing.T) {
	for in, want := range map[string]string{
		"rdp.contoso.example":      "rdp.contoso.example",
		"rdp.contoso.example:3389": "rdp.contoso.example",
		"rdp.contoso.example:3390": "rdp.contoso.example:3390",
		"10.0.0.1":                 "10.0.0.1",
		"[2001:db8::1]:3390":       "[2001:db8::1]:3390",
		"2001:db8::1":              "[2001:db8::1]",
		"[2001:db8::1]":            "[2001:db8::1]",
		"":                         "",
		":3389":                    "",
		"rdp:":                     "rdp",
		"rdp:0":                    "",
		"rdp:99999":                "",
		"rdp:port":                 "",
		"two words":                "",
		"rdp://x":                  "",
		"a\r\nb":                   "",
		"a:b:c":                    "",
	} {
		got, err := fullAddress(in)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q became %q, %v; want %q", in, got, err, want)
		}
	}
}

// TestNoLineIsSmuggledIn: what is written comes from a command line.
func TestNoLineIsSmuggledIn(t *testing.T) {
	for _, o := range []Options{
		{Address: "rdp", User: "a\r\nalternate shell:s:cmd"}, {Address: "rdp", LoadBalanceInfo: "x\n"}, {Address: "r\x00dp"}, {Address: "rdp", User: "\xff"},
	} {
		if _, err := New(o); err == nil {
			t.Errorf("%q was written", o)
		}
	}
}

// publisher is a certificate and its key, for the time around now.
func publisher(t *testing.T, key any, parent *x509.Certificate, parentKey any, serial int64) *x509.Certificate {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "Publisher " + big.NewInt(serial).String()},
		NotBefore: now.AddDate(0, -1, 0), NotAfter: now.AddDate(30, 0, 0),
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		IsCA: parent == nil, BasicConstraintsValid: true,
	}
	if parent == nil {
		parent, parentKey = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.(crypto.Signer).Public(), parentKey)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func rsaKey(t *testing.T) *rsa.PrivateKey {
	t.Helper()
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// signedParts are the message and the PKCS #7 signature of a file, from the file alone.
func signedParts(t *testing.T, lines []string) (message, der []byte) {
	t.Helper()
	value := func(name string) string {
		for _, l := range lines {
			if v, ok := strings.CutPrefix(strings.ToLower(l), strings.ToLower(name)+":"); ok {
				return l[len(l)-len(v)+2:]
			}
		}
		t.Fatalf("there is no %s", name)
		return ""
	}
	var covered []string
	scope := value("signscope")
	for _, name := range strings.Split(scope, ",") {
		for _, l := range lines {
			if strings.HasPrefix(strings.ToLower(l), strings.ToLower(name)+":") {
				covered = append(covered, l)
			}
		}
	}
	b, err := base64.StdEncoding.DecodeString(value("signature"))
	if err != nil || len(b) < 12 || !bytes.Equal(b[:8], []byte{1, 0, 1, 0, 1, 0, 0, 0}) || int(binary.LittleEndian.Uint32(b[8:])) != len(b)-12 {
		t.Fatalf("the signature begins with %x, %v", b[:min(12, len(b))], err)
	}
	return appendUTF16(nil, strings.Join(covered, "\r\n")+"\r\nsignscope:s:"+scope+"\r\n\x00"), b[12:]
}

// TestSignature: two programs that know nothing of this one, the PKCS #7 library's
// parser and OpenSSL, find it good, and not if a line is changed.
func TestSignature(t *testing.T) {
	rootKey, leafKey := rsaKey(t), rsaKey(t)
	root := publisher(t, rootKey, nil, nil, 1)
	leaf := publisher(t, leafKey, root, rootKey, 2)
	f, err := New(ok)
	if err != nil {
		t.Fatal(err)
	}
	unsigned := text(t, f.Bytes())
	for range 2 { // signing again replaces the signature
		if err := f.Sign([]*x509.Certificate{leaf, root}, leafKey, now); err != nil {
			t.Fatal(err)
		}
	}
	lines := text(t, f.Bytes())
	if len(lines) != len(unsigned)+2 || strings.Join(lines[:len(unsigned)], "\n") != strings.Join(unsigned, "\n") {
		t.Errorf("signed, the file is\n%s", strings.Join(lines, "\n"))
	}
	message, der := signedParts(t, lines)
	for _, must := range []string{"loadbalanceinfo:s:Cookie", "full address:s:rdp", "alternate full address:s:rdp"} {
		if !bytes.Contains(message, appendUTF16(nil, must)) {
			t.Errorf("%s is not signed", must)
		}
	}
	p7, err := pkcs7.Parse(der)
	if err != nil {
		t.Fatal(err)
	}
	if len(p7.Content) != 0 || len(p7.Signers) != 1 || len(p7.Signers[0].AuthenticatedAttributes) != 0 || len(p7.Certificates) != 2 {
		t.Errorf("it has %d bytes of content, %d signers, %d certificates", len(p7.Content), len(p7.Signers), len(p7.Certificates))
	}
	p7.Content = message
	if err := p7.Verify(); err != nil {
		t.Error(err)
	}

	dir := t.TempDir()
	openssl := func(content []byte) error {
		for name, b := range map[string][]byte{"m": content, "s": der, "ca": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: root.Raw})} {
			if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		out, err := exec.Command("openssl", "cms", "-verify", "-binary", "-inform", "DER", "-in", filepath.Join(dir, "s"),
			"-content", filepath.Join(dir, "m"), "-CAfile", filepath.Join(dir, "ca"), "-purpose", "any", "-out", os.DevNull).CombinedOutput()
		t.Logf("openssl: %s", bytes.TrimSpace(out))
		return err
	}
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Skip("openssl is not there to ask")
	}
	if err := openssl(message); err != nil {
		t.Error(err)
	}
	changed := bytes.Clone(message)
	changed[20] ^= 1
	if err := openssl(changed); err == nil {
		t.Error("openssl finds the signature of another text good")
	}
}

func TestSignRefuses(t *testing.T) {
	key, other := rsaKey(t), rsaKey(t)
	cert := publisher(t, key, nil, nil, 1)
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ecCert := publisher(t, ec, nil, nil, 2)
	for _, c := range []struct {
		name  string
		chain []*x509.Certificate
		key   any
		now   time.Time
		want  string
	}{
		{"no certificate", nil, key, now, "no certificate"},
		{"another key", []*x509.Certificate{cert}, other, now, "not that of the certificate for CN=Publisher 1"},
		{"a key of another kind", []*x509.Certificate{ecCert}, ec, now, "RSA"},
		{"too late", []*x509.Certificate{cert}, key, now.AddDate(31, 0, 0), "the certificate for CN=Publisher 1 is good from "},
	} {
		f, err := New(ok)
		if err != nil {
			t.Fatal(err)
		}
		if err := f.Sign(c.chain, c.key, c.now); err == nil || !strings.Contains(err.Error(), c.want) || f.signed != nil {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}
