package winrm

import (
	"bytes"
	"crypto/hmac"
	"crypto/md5"
	"crypto/rc4"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf16"

	"golang.org/x/crypto/md4"
)

// The host's half of NTLMv2, [MS-NLMP], for the tests: enough to check a
// password, the message integrity code and the channel bindings.

const (
	avTimestamp       = 7
	avChannelBindings = 10

	// What Windows sets in a challenge, sealing included.
	challengeFlags = 0x00000001 | 0x00000004 | 0x00000010 | 0x00000020 | 0x00000200 | 0x00008000 |
		0x00020000 | 0x00080000 | 0x00800000 | 0x20000000 | 0x40000000 | 0x80000000
)

type ntlmServer struct {
	hello, challenge []byte
	nonce            []byte
}

func utf16le(s string) []byte {
	var b []byte
	for _, u := range utf16.Encode([]rune(s)) {
		b = binary.LittleEndian.AppendUint16(b, u)
	}
	return b
}

func appendAV(b []byte, id int, value []byte) []byte {
	b = binary.LittleEndian.AppendUint16(b, uint16(id))
	b = binary.LittleEndian.AppendUint16(b, uint16(len(value)))
	return append(b, value...)
}

// newNTLMServer answers hello. more are AV_PAIRs beside the usual ones.
func newNTLMServer(hello []byte, flags uint32, more ...byte) *ntlmServer {
	s := &ntlmServer{hello: hello, nonce: []byte("12345678")}
	info := appendAV(nil, 2, utf16le("CONTOSO"))
	info = appendAV(info, 1, utf16le("RDS1"))
	filetime := uint64(time.Now().UnixNano()/100) + 116444736000000000
	info = appendAV(info, avTimestamp, binary.LittleEndian.AppendUint64(nil, filetime))
	info = append(info, more...)
	info = appendAV(info, 0, nil)
	target := utf16le("CONTOSO")
	field := func(b []byte, length, offset int) []byte {
		b = binary.LittleEndian.AppendUint16(b, uint16(length))
		b = binary.LittleEndian.AppendUint16(b, uint16(length))
		return binary.LittleEndian.AppendUint32(b, uint32(offset))
	}
	b := append([]byte("NTLMSSP\x00"), 2, 0, 0, 0)
	b = field(b, len(target), 48)
	b = binary.LittleEndian.AppendUint32(b, flags)
	b = append(b, s.nonce...)
	b = append(b, make([]byte, 8)...)
	b = field(b, len(info), 48+len(target))
	b = append(b, target...)
	s.challenge = append(b, info...)
	return s
}

func hmacOf(key []byte, parts ...[]byte) []byte {
	h := hmac.New(md5.New, key)
	for _, p := range parts {
		h.Write(p)
	}
	return h.Sum(nil)
}

// verify checks the client's last message. bindings is the hash that it must
// carry, nil for none. The session key is for sealing.
func (s *ntlmServer) verify(auth []byte, domain, user, password string, bindings []byte) (sessionKey []byte, err error) {
	part := func(at int) []byte {
		length, offset := int(binary.LittleEndian.Uint16(auth[at:])), int(binary.LittleEndian.Uint32(auth[at+4:]))
		return auth[offset : offset+length]
	}
	if len(auth) < 88 || binary.LittleEndian.Uint32(auth[8:]) != 3 {
		return nil, errors.New("no authenticate message")
	}
	answer := part(20)
	if len(answer) < 48 {
		return nil, fmt.Errorf("an answer of %d bytes is not NTLMv2", len(answer))
	}
	if got := string(part(28)); got != string(utf16le(domain)) {
		return nil, fmt.Errorf("domain %q", got)
	}
	if got := string(part(36)); got != string(utf16le(user)) {
		return nil, fmt.Errorf("user %q", got)
	}
	hash := md4.New()
	hash.Write(utf16le(password))
	key := hmacOf(hash.Sum(nil), utf16le(strings.ToUpper(user)+domain))
	proof := hmacOf(key, s.nonce, answer[16:])
	if !hmac.Equal(proof, answer[:16]) {
		return nil, errors.New("wrong password")
	}
	base := hmacOf(key, proof)
	cipher, err := rc4.NewCipher(base)
	if err != nil {
		return nil, err
	}
	sessionKey = make([]byte, 16)
	cipher.XORKeyStream(sessionKey, part(52))

	mic := bytes.Clone(auth[72:88])
	clear(auth[72:88])
	if !hmac.Equal(mic, hmacOf(sessionKey, s.hello, s.challenge, auth)) {
		return nil, errors.New("wrong message integrity code")
	}
	return sessionKey, s.checkBindings(answer[44:], bindings)
}

func (s *ntlmServer) checkBindings(avs, want []byte) error {
	var got []byte
	for len(avs) >= 4 {
		id, length := binary.LittleEndian.Uint16(avs), int(binary.LittleEndian.Uint16(avs[2:]))
		if id == 0 {
			break
		}
		if id == avChannelBindings {
			got = avs[4 : 4+length]
		}
		avs = avs[4+length:]
	}
	if !bytes.Equal(got, want) {
		return fmt.Errorf("channel bindings %x, want %x", got, want)
	}
	return nil
}

// bindingsOf is the hash of a gss_channel_bindings_struct with this application data.
func bindingsOf(application []byte) []byte {
	b := make([]byte, 16)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(application)))
	sum := md5.Sum(append(b, application...))
	return sum[:]
}

// hostSeal is the host's end of a sealed connection, [MS-NLMP] 3.4.
type hostSeal struct {
	in, out             *rc4.Cipher
	inKey, outKey       []byte
	inNumber, outNumber uint32
}

func newHostSeal(sessionKey []byte) *hostSeal {
	key := func(direction, what string) []byte {
		sum := md5.Sum(append(bytes.Clone(sessionKey), "session key to "+direction+" "+what+" key magic constant\x00"...))
		return sum[:]
	}
	in, _ := rc4.NewCipher(key("client-to-server", "sealing"))
	out, _ := rc4.NewCipher(key("server-to-client", "sealing"))
	return &hostSeal{in: in, out: out, inKey: key("client-to-server", "signing"), outKey: key("server-to-client", "signing")}
}

func signature(cipher *rc4.Cipher, key []byte, number uint32, message []byte) []byte {
	n := binary.LittleEndian.AppendUint32(nil, number)
	sum := hmacOf(key, n, message)[:8]
	cipher.XORKeyStream(sum, sum)
	return append(append([]byte{1, 0, 0, 0}, sum...), n...)
}

func (h *hostSeal) open(body []byte) ([]byte, error) {
	_, data, ok := bytes.Cut(body, []byte("application/octet-stream\r\n"))
	data, rest, ok2 := bytes.Cut(data, []byte("--Encrypted Boundary--\r\n"))
	if !ok || !ok2 || len(rest) > 0 || len(data) < 20 {
		return nil, errors.New("not a sealed message")
	}
	message := make([]byte, len(data)-20)
	h.in.XORKeyStream(message, data[20:])
	if !bytes.Equal(data[4:20], signature(h.in, h.inKey, h.inNumber, message)) {
		return nil, errors.New("wrong signature")
	}
	h.inNumber++
	return message, nil
}

func (h *hostSeal) close(message []byte) []byte {
	sealed := make([]byte, len(message))
	h.out.XORKeyStream(sealed, message)
	b := fmt.Appendf(nil, "--Encrypted Boundary\r\n\tContent-Type: application/HTTP-SPNEGO-session-encrypted\r\n"+
		"\tOriginalContent: type=application/soap+xml;charset=UTF-8;Length=%d\r\n--Encrypted Boundary\r\n"+
		"\tContent-Type: application/octet-stream\r\n\x10\x00\x00\x00", len(message))
	b = append(b, signature(h.out, h.outKey, h.outNumber, message)...)
	h.outNumber++
	return append(append(b, sealed...), "--Encrypted Boundary--\r\n"...)
}
