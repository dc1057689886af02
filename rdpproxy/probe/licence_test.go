// SPDX-License-Identifier: GPL-3.0-only

package probe

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"math/big"
	"os"
	"slices"
	"strings"
	"testing"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The numbers of one exchange with a Windows licence server, from IronRDP's
// tests (crates/ironrdp-pdu/src/rdp/server_license).
const (
	vectorClientRandom = "4b5b7b43638a08fed17abaf5918577fe3936f6d778ec6acc894a90412cac5a49"
	vectorServerRandom = "5c81f011ebcfd10eb41fb3ba93a2d73909aa99e910d4d795ddad916905266b6a"
	vectorPreMaster    = "1428dafbb9ea38ab5ea2f904f7899c983d504577bf17811c3787c24813e8c9204ddff327bdb6987e64dafe1d312f62ca"
	vectorEncrypted    = "b095f7cb813445856583b2cf5bdffe406fd81414180b2b6daad0380aaf74e951552bdbfd3bd3fb2f3492ddc8af48f391618a5bbd8187ecb8cc0b0bc90d1ce7170000000000000000"
	vectorMaster       = "fedc519adb3ac961040724945d0c43a770e3f30050d7a8723eab7e1be464e5c574aeed1072962a4c65094f6012a912a1"
	vectorMACKey       = "f70375b95fdad0beb42af5c13d98857a"
	vectorLicenceKey   = "fa44e878d82b3f1d4d00a0a655ce8ab7"
)

// certificateChain is a server certificate of Windows: an X509 chain whose last
// link is one of the odd ones that licence servers make.
func certificateChain(t testing.TB) []byte {
	t.Helper()
	b := binary.LittleEndian.AppendUint32(nil, 0x80000002)
	b = binary.LittleEndian.AppendUint32(b, 2)
	for _, name := range []string{"chain0.der", "chain1.der"} {
		der, err := os.ReadFile("testdata/licence/" + name)
		if err != nil {
			t.Fatal(err)
		}
		b = binary.LittleEndian.AppendUint32(b, uint32(len(der)))
		b = append(b, der...)
	}
	return append(b, make([]byte, 16)...)
}

func TestLicenceKeys(t *testing.T) {
	clientRandom, serverRandom := unhex(t, vectorClientRandom), unhex(t, vectorServerRandom)
	if got := saltedSecret(unhex(t, vectorPreMaster), 'A', clientRandom, serverRandom); hex.EncodeToString(got) != vectorMaster {
		t.Errorf("master secret %x", got)
	}
	l := &licenceClient{clientRandom: clientRandom, preMaster: unhex(t, vectorPreMaster)}
	l.deriveKeys(serverRandom)
	if hex.EncodeToString(l.macKey) != vectorMACKey || hex.EncodeToString(l.key) != vectorLicenceKey {
		t.Errorf("keys %x, %x", l.macKey, l.key)
	}
	key, err := parseServerCertificate(certificateChain(t))
	if err != nil {
		t.Fatal(err)
	}
	if got := hex.EncodeToString(key.encrypt(unhex(t, vectorPreMaster))); got != vectorEncrypted {
		t.Errorf("encrypted secret %s", got)
	}
}

// The signature of a platform challenge, from the same tests.
func TestMACData(t *testing.T) {
	key := unhex(t, "015b9e5f06977158c3b88b8c6e772137")
	got := macData(key, []byte("T\x00E\x00S\x00T\x00\x00\x00"), nil)
	if hex.EncodeToString(got) != "514a272c7418ec8895ddac103e3f0a72" {
		t.Errorf("%x", got)
	}
}

// proprietary is a PROPRIETARYSERVERCERTIFICATE with this key.
func proprietary(key *rsa.PublicKey) []byte {
	le := binary.LittleEndian
	modulus := append(reversed(key.N.Bytes()), make([]byte, 8)...)
	var blob []byte
	for _, v := range []uint32{0x31415352, uint32(len(modulus)), uint32(key.N.BitLen()), 0, uint32(key.E)} {
		blob = le.AppendUint32(blob, v)
	}
	blob = append(blob, modulus...)
	var b []byte
	for _, v := range []uint32{1, 1, 1} {
		b = le.AppendUint32(b, v)
	}
	b = appendBlob(b, 6, blob)
	return appendBlob(b, 8, make([]byte, 72))
}

// licenceServer is the other side of licenceClient.
type licenceServer struct {
	key          *rsa.PrivateKey
	serverRandom []byte
	client       licenceClient // what it has derived of the client's keys
}

func (s *licenceServer) request(certificate []byte) []byte {
	b := slices.Clone(s.serverRandom)
	b = binary.LittleEndian.AppendUint32(b, 0x60000)
	for _, text := range []string{"M\x00\x00\x00", "A\x000\x002\x00\x00\x00"} {
		b = binary.LittleEndian.AppendUint32(b, uint32(len(text)))
		b = append(b, text...)
	}
	b = appendBlob(b, 0x000d, []byte{1, 0, 0, 0})
	b = appendBlob(b, 0x0003, certificate)
	b = binary.LittleEndian.AppendUint32(b, 0) // no scopes
	return licenceMessage(licenceRequest, b)
}

// challenge takes a Client New License Request and returns a Server Platform Challenge.
func (s *licenceServer) challenge(t *testing.T, request []byte, user string) []byte {
	t.Helper()
	in := cursor{b: request}
	if kind := in.u8(); kind != licenceNewRequest {
		t.Fatalf("message %#x", kind)
	}
	in.skip(1)
	if size := int(in.u16()); size != len(request) {
		t.Errorf("the message says it has %d bytes of %d", size, len(request))
	}
	if in.u32() != 1 || in.u32() != platformID {
		t.Error("key exchange algorithm or platform")
	}
	s.client.clientRandom = in.take(32)
	encrypted := readBlob(&in)
	if got := string(readBlob(&in)); got != user+"\x00" {
		t.Errorf("user %q", got)
	}
	if got := string(readBlob(&in)); got != "rdpprobe\x00" || in.short || len(in.b) != 0 {
		t.Errorf("machine %q, %d bytes left, short %t", got, len(in.b), in.short)
	}
	size := len(s.key.N.Bytes())
	if len(encrypted) != size+8 || !bytes.Equal(encrypted[size:], make([]byte, 8)) {
		t.Errorf("%d encrypted bytes for a key of %d", len(encrypted), size)
	}
	secret := new(big.Int).Exp(new(big.Int).SetBytes(reversed(encrypted[:size])), s.key.D, s.key.N)
	s.client.preMaster = reversed(secret.FillBytes(make([]byte, 48)))
	s.client.deriveKeys(s.serverRandom)

	text := []byte("TEST")
	b := appendBlob([]byte{0, 0, 0, 0}, 0x0009, rc4Once(s.client.key, text))
	return licenceMessage(licencePlatformChallenge, append(b, macData(s.client.macKey, text, nil)...))
}

func TestLicensing(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	certificate := proprietary(&key.PublicKey)
	fromExchange, err := parseServerCertificate(certificate)
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		inRequest    []byte
		fromExchange *rsaKey
	}{
		"certificate in the request":    {certificate, nil},
		"certificate of the encryption": {nil, fromExchange},
	} {
		t.Run(name, func(t *testing.T) {
			server := licenceServer{key: key, serverRandom: bytes.Repeat([]byte{7}, 32)}
			client, err := newLicenceClient(Options{User: "alice", ClientName: "rdpprobe"}, tt.fromExchange)
			if err != nil {
				t.Fatal(err)
			}
			request, done, err := client.handle(server.request(tt.inRequest))
			if err != nil || done {
				t.Fatal(done, err)
			}
			response, done, err := client.handle(server.challenge(t, request, "alice"))
			if err != nil || done {
				t.Fatal(done, err)
			}

			in := cursor{b: response}
			if kind := in.u8(); kind != licenceChallengeResponse {
				t.Errorf("message %#x", kind)
			}
			in.skip(3)
			data, hardware := rc4Once(server.client.key, readBlob(&in)), rc4Once(server.client.key, readBlob(&in))
			if want := "\x00\x01\x00\x01\x03\x00\x04\x00TEST"; string(data) != want {
				t.Errorf("response data %q, want %q", data, want)
			}
			if !bytes.Equal(hardware, hardwareID("rdpprobe")) || len(hardware) != 20 {
				t.Errorf("hardware ID %x", hardware)
			}
			if mac := in.take(16); !bytes.Equal(mac, macData(server.client.macKey, slices.Concat(data, hardware), nil)) {
				t.Errorf("signature %x", mac)
			}

			if _, done, err := client.handle(licenceMessage(licenceNew, []byte("a licence"))); !done || err != nil {
				t.Errorf("new licence: %t, %v", done, err)
			}
		})
	}
}

func TestLicensingEnds(t *testing.T) {
	alert := func(code, transition byte) []byte {
		return licenceMessage(licenceErrorAlert, []byte{code, 0, 0, 0, transition, 0, 0, 0, 4, 0, 0, 0})
	}
	key, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	server := licenceServer{key: key, serverRandom: make([]byte, 32)}
	for _, tt := range []struct {
		name    string
		message []byte
		done    bool
		wrong   string
	}{
		{"valid client", alert(7, 2), true, ""},
		{"upgrade", licenceMessage(licenceUpgrade, nil), true, ""},
		{"no licence server", alert(6, 1), false, "ERR_NO_LICENSE_SERVER (0x6)"},
		{"valid, but abort", alert(7, 1), false, "STATUS_VALID_CLIENT"},
		{"unknown alert", alert(0x77, 1), false, "0x77"},
		{"alert cut short", licenceMessage(licenceErrorAlert, []byte{7}), false, "too early"},
		{"unknown message", licenceMessage(0x55, nil), false, "0x55"},
		{"nothing", nil, false, "type 0x0"},
		{"request cut short", server.request(nil)[:40], false, "too early"},
		{"request without a key", server.request(nil), false, "no certificate"},
		{"request with a broken key", server.request([]byte{1, 0, 0, 0}), false, "certificate"},
		{"challenge before the request", licenceMessage(licencePlatformChallenge, make([]byte, 24)), false, "without"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			client, err := newLicenceClient(Options{User: "alice", ClientName: "c"}, nil)
			if err != nil {
				t.Fatal(err)
			}
			answer, done, err := client.handle(tt.message)
			if answer != nil || done != tt.done {
				t.Errorf("answer %x, done %t", answer, done)
			}
			if tt.wrong == "" != (err == nil) || err != nil && !strings.Contains(err.Error(), tt.wrong) {
				t.Errorf("error %v, want %q", err, tt.wrong)
			}
		})
	}

	client, err := newLicenceClient(Options{User: "alice", ClientName: "rdpprobe"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	request, _, err := client.handle(server.request(proprietary(&key.PublicKey)))
	if err != nil {
		t.Fatal(err)
	}
	forged := server.challenge(t, request, "alice")
	forged[len(forged)-1] ^= 1
	if _, _, err := client.handle(forged); err == nil || !strings.Contains(err.Error(), "signature") {
		t.Errorf("a forged challenge: %v", err)
	}
}

func TestIsLicence(t *testing.T) {
	// Frame 32 of testdata/mstsc-windows.tsv, and a Set Error Info PDU of Windows.
	if !isLicence(unhex(t, "80000000ff031000070000000200000004000000")) {
		t.Error("STATUS_VALID_CLIENT is not taken for a licence message")
	}
	if isLicence(unhex(t, "160017000000ea030100000116002f00000008040000")) {
		t.Error("a share PDU is taken for a licence message")
	}
	if isLicence(nil) || isLicence([]byte{0x80, 0, 0, 0}) {
		t.Error("nothing is taken for a licence message")
	}
}

func TestServerCertificateRefused(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	good := proprietary(&key.PublicKey)
	edit := func(at int, b ...byte) []byte {
		c := slices.Clone(good)
		copy(c[at:], b)
		return c
	}
	for name, b := range map[string][]byte{
		"empty":                nil,
		"version":              edit(0, 9),
		"magic":                edit(16, 0),
		"exponent":             edit(32, 1, 0, 0, 0),
		"modulus of 0":         edit(36, make([]byte, 128)...),
		"cut short":            good[:100],
		"an empty chain":       {2, 0, 0, 0, 0, 0, 0, 0},
		"an endless chain":     {2, 0, 0, 0, 0xff, 0xff, 0xff, 0xff},
		"a chain of nothing":   {2, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0},
		"no certificate":       {2, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 0x30, 0},
		"a link that is short": {2, 0, 0, 0, 1, 0, 0, 0, 9, 0, 0, 0, 0x30, 0},
	} {
		if k, err := parseServerCertificate(b); err == nil {
			t.Errorf("%s: taken, %v", name, k)
		}
	}
}

func FuzzLicence(f *testing.F) {
	key, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		f.Fatal(err)
	}
	server := licenceServer{key: key, serverRandom: make([]byte, 32)}
	f.Add(server.request(proprietary(&key.PublicKey)))
	f.Add(server.request(certificateChain(f)))
	f.Add(licenceMessage(licenceErrorAlert, []byte{7, 0, 0, 0, 2, 0, 0, 0}))
	f.Fuzz(func(t *testing.T, b []byte) {
		client, err := newLicenceClient(Options{User: "u", ClientName: "c"}, nil)
		if err != nil {
			t.Fatal(err)
		}
		answer, done, err := client.handle(b)
		if err != nil && (done || answer != nil || errors.Unwrap(err) == nil) {
			t.Errorf("%x, %t, %v", answer, done, err)
		}
	})
}
