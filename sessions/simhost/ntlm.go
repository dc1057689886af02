package simhost

import (
	"bytes"
	"crypto/hmac"
	"crypto/md5"
	"crypto/rc4"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf16"

	"golang.org/x/crypto/md4" // NTLM is made of it
)

// The server's half of NTLMv2, [MS-NLMP]: one challenge, one answer. It wants
// plain passwords, which a simulated host has.

const ntlmSignature = "NTLMSSP\x00"

// Flags of [MS-NLMP] 2.2.2.5.
const (
	ntlmUnicode          = 0x00000001
	ntlmRequestTarget    = 0x00000004
	ntlmSign             = 0x00000010
	ntlmSeal             = 0x00000020
	ntlmNTLM             = 0x00000200
	ntlmAlwaysSign       = 0x00008000
	ntlmTargetServer     = 0x00020000
	ntlmExtendedSecurity = 0x00080000
	ntlmTargetInfo       = 0x00800000
	ntlmVersion          = 0x02000000
	ntlm128              = 0x20000000
	ntlmKeyExchange      = 0x40000000
	ntlm56               = 0x80000000

	// ntlmAlways is what the challenge says whatever the client asks for, and
	// ntlmOnRequest what it repeats of the client's.
	ntlmAlways    = ntlmUnicode | ntlmRequestTarget | ntlmNTLM | ntlmTargetServer | ntlmExtendedSecurity | ntlmTargetInfo | ntlmVersion
	ntlmOnRequest = ntlmSign | ntlmSeal | ntlmAlwaysSign | ntlm128 | ntlmKeyExchange | ntlm56
)

// Kinds of AV_PAIR, [MS-NLMP] 2.2.2.1.
const (
	avEnd             = 0
	avNetBIOSComputer = 1
	avNetBIOSDomain   = 2
	avDNSComputer     = 3
	avFlags           = 6
	avTimestamp       = 7
	avChannelBindings = 10

	avFlagMIC = 2
)

// ntlmChallenge is a handshake between its second and its third message.
type ntlmChallenge struct {
	negotiate, challenge []byte // both messages as they went over the wire
	nonce                [8]byte
}

// ntlmSession is a handshake that succeeded.
type ntlmSession struct {
	domain, user string
	flags        uint32
	key          []byte // ExportedSessionKey
}

var errNTLMPassword = errors.New("NTLM: unknown user or wrong password")

// newNTLMChallenge answers a NEGOTIATE_MESSAGE, [MS-NLMP] 2.2.1.1.
func newNTLMChallenge(negotiate []byte, machine string, nonce [8]byte, now time.Time) (*ntlmChallenge, error) {
	if kind, err := ntlmKind(negotiate); err != nil || kind != 1 || len(negotiate) < 16 {
		return nil, fmt.Errorf("NTLM: want a negotiate message, got %d bytes of kind %d", len(negotiate), kind)
	}
	flags := ntlmAlways | binary.LittleEndian.Uint32(negotiate[12:])&ntlmOnRequest
	target := utf16le(strings.ToUpper(machine))
	info := slices.Concat(
		avPair(avNetBIOSDomain, target),
		avPair(avNetBIOSComputer, target),
		avPair(avDNSComputer, utf16le(machine)),
		avPair(avTimestamp, binary.LittleEndian.AppendUint64(nil, filetime(now))),
		avPair(avEnd, nil),
	)
	const header = 56
	b := append([]byte(ntlmSignature), 2, 0, 0, 0)
	b = appendField(b, len(target), header)
	b = binary.LittleEndian.AppendUint32(b, flags)
	b = append(b, nonce[:]...)
	b = append(b, make([]byte, 8)...)
	b = appendField(b, len(info), header+len(target))
	b = append(b, 10, 0, 0x63, 0x45, 0, 0, 0, 15) // Windows 10.0.17763, NTLM revision 15
	return &ntlmChallenge{negotiate: negotiate, challenge: slices.Concat(b, target, info), nonce: nonce}, nil
}

// verify checks an AUTHENTICATE_MESSAGE, [MS-NLMP] 2.2.1.3. password returns
// the password of an account; ok is false if there is no such account. bindings
// are the channel bindings that the client must send if it sends any
// (CbtHardeningLevel=Relaxed); nil without TLS.
func (c *ntlmChallenge) verify(auth, bindings []byte, password func(domain, user string) (pw string, ok bool)) (*ntlmSession, error) {
	if kind, err := ntlmKind(auth); err != nil || kind != 3 || len(auth) < 64 {
		return nil, fmt.Errorf("NTLM: want an authenticate message, got %d bytes of kind %d", len(auth), kind)
	}
	fields := make(map[int][]byte)
	for _, at := range []int{20, 28, 36, 52} {
		f, err := readField(auth, at)
		if err != nil {
			return nil, err
		}
		fields[at] = f
	}
	answer, domain, user := fields[20], utf16String(fields[28]), utf16String(fields[36])
	if len(answer) < 16+28 {
		return nil, fmt.Errorf("NTLM: an answer of %d bytes is not NTLMv2", len(answer))
	}
	pw, ok := password(domain, user)
	if !ok {
		return nil, errNTLMPassword
	}
	proof, blob := answer[:16], answer[16:]
	ownerKey := ntowfV2(pw, user, domain)
	if subtle.ConstantTimeCompare(hmacMD5(ownerKey, c.nonce[:], blob), proof) != 1 {
		return nil, errNTLMPassword
	}

	s := &ntlmSession{domain: domain, user: user, flags: binary.LittleEndian.Uint32(auth[60:])}
	s.key = hmacMD5(ownerKey, proof)
	if s.flags&ntlmKeyExchange != 0 {
		cipher, err := rc4.NewCipher(s.key)
		if err != nil || len(fields[52]) != 16 {
			return nil, fmt.Errorf("NTLM: a session key of %d bytes", len(fields[52]))
		}
		s.key = make([]byte, 16)
		cipher.XORKeyStream(s.key, fields[52])
	}
	pairs := blob[28:]
	if sent := avValue(pairs, avChannelBindings); bindings != nil && len(bytes.Trim(sent, "\x00")) > 0 && !bytes.Equal(sent, bindings) {
		return nil, errors.New("NTLM: the client speaks TLS with somebody else")
	}
	if flags := avValue(pairs, avFlags); len(flags) == 4 && binary.LittleEndian.Uint32(flags)&avFlagMIC != 0 {
		if err := c.verifyMIC(auth, s.key); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// verifyMIC checks that nobody changed the three messages, [MS-NLMP] 3.2.5.1.2.
func (c *ntlmChallenge) verifyMIC(auth, key []byte) error {
	const at = 72
	if len(auth) < at+16 {
		return errors.New("NTLM: the message integrity code is missing")
	}
	zeroed := slices.Clone(auth)
	clear(zeroed[at : at+16])
	if subtle.ConstantTimeCompare(hmacMD5(key, c.negotiate, c.challenge, zeroed), auth[at:at+16]) != 1 {
		return errors.New("NTLM: the message integrity code is wrong")
	}
	return nil
}

// ntowfV2 is NTOWFv2, [MS-NLMP] 3.3.2.
func ntowfV2(password, user, domain string) []byte {
	h := md4.New()
	h.Write(utf16le(password))
	return hmacMD5(h.Sum(nil), utf16le(strings.ToUpper(user)+domain))
}

func ntlmKind(b []byte) (uint32, error) {
	if len(b) < 12 || string(b[:8]) != ntlmSignature {
		return 0, errors.New("NTLM: no NTLM message")
	}
	return binary.LittleEndian.Uint32(b[8:]), nil
}

func appendField(b []byte, length, offset int) []byte {
	b = binary.LittleEndian.AppendUint16(b, uint16(length))
	b = binary.LittleEndian.AppendUint16(b, uint16(length))
	return binary.LittleEndian.AppendUint32(b, uint32(offset))
}

func readField(b []byte, at int) ([]byte, error) {
	length, offset := uint64(binary.LittleEndian.Uint16(b[at:])), uint64(binary.LittleEndian.Uint32(b[at+4:]))
	if offset+length > uint64(len(b)) {
		return nil, fmt.Errorf("NTLM: a field of %d bytes at %d in a message of %d", length, offset, len(b))
	}
	return b[offset : offset+length], nil
}

func avPair(id uint16, value []byte) []byte {
	b := binary.LittleEndian.AppendUint16(nil, id)
	b = binary.LittleEndian.AppendUint16(b, uint16(len(value)))
	return append(b, value...)
}

// avValue is the value of pair id in a list of AV_PAIRs; nil if it has none.
func avValue(list []byte, id uint16) []byte {
	for len(list) >= 4 {
		kind, n := binary.LittleEndian.Uint16(list), int(binary.LittleEndian.Uint16(list[2:]))
		if kind == avEnd || len(list) < 4+n {
			return nil
		}
		if kind == id {
			return list[4 : 4+n]
		}
		list = list[4+n:]
	}
	return nil
}

// channelBindings is the hash of the bindings to a TLS server's certificate,
// tls-server-end-point of RFC 5929 for a certificate signed with SHA-256, as
// SelfSigned makes them; nil for others, which are not checked then.
func channelBindings(cfg *tls.Config) []byte {
	if cfg == nil || len(cfg.Certificates) == 0 || cfg.Certificates[0].Leaf == nil {
		return nil
	}
	leaf := cfg.Certificates[0].Leaf
	if leaf.SignatureAlgorithm != x509.ECDSAWithSHA256 && leaf.SignatureAlgorithm != x509.SHA256WithRSA {
		return nil
	}
	sum := sha256.Sum256(leaf.Raw)
	data := append([]byte("tls-server-end-point:"), sum[:]...)
	b := binary.LittleEndian.AppendUint32(make([]byte, 16), uint32(len(data))) // gss_channel_bindings_struct
	hash := md5.Sum(append(b, data...))
	return hash[:]
}

func hmacMD5(key []byte, parts ...[]byte) []byte {
	h := hmac.New(md5.New, key)
	for _, p := range parts {
		h.Write(p)
	}
	return h.Sum(nil)
}

func utf16le(s string) []byte {
	var b []byte
	for _, u := range utf16.Encode([]rune(s)) {
		b = binary.LittleEndian.AppendUint16(b, u)
	}
	return b
}

func utf16String(b []byte) string {
	u := make([]uint16, len(b)/2)
	for i := range u {
		u[i] = binary.LittleEndian.Uint16(b[2*i:])
	}
	return string(utf16.Decode(u))
}

// filetime is t as Windows counts: 100 ns since 1601.
func filetime(t time.Time) uint64 { return uint64(t.UnixNano()/100) + 116444736000000000 }
