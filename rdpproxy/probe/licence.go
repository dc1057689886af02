// SPDX-License-Identifier: GPL-3.0-only

package probe

import (
	"crypto/md5"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
)

// The bMsgType of a licensing message, [MS-RDPELE] 2.2.2.
const (
	licenceRequest           = 0x01
	licencePlatformChallenge = 0x02
	licenceNew               = 0x03
	licenceUpgrade           = 0x04
	licenceNewRequest        = 0x13
	licenceChallengeResponse = 0x15
	licenceErrorAlert        = 0xff
)

// licencePreamble is version 3 of the protocol, RDP 5 and later.
const licencePreamble = 0x03

// platformID is CLIENT_OS_ID_WINNT_POST_52 with CLIENT_IMAGE_ID_MICROSOFT,
// 2.2.2.2, which licence servers issue licences to.
const platformID = 0x04010000

// licenceErrorNames are the dwErrorCode of a Licensing Error Message,
// [MS-RDPBCGR] 2.2.1.12.1.3.
var licenceErrorNames = map[uint32]string{
	0x1: "ERR_INVALID_SERVER_CERTIFICATE",
	0x2: "ERR_NO_LICENSE",
	0x3: "ERR_INVALID_MAC",
	0x4: "ERR_INVALID_SCOPE",
	0x6: "ERR_NO_LICENSE_SERVER",
	0x7: "STATUS_VALID_CLIENT",
	0x8: "ERR_INVALID_CLIENT",
	0xb: "ERR_INVALID_PRODUCTID",
	0xc: "ERR_INVALID_MESSAGE_LEN",
}

// licenceClient gets a licence from the host, [MS-RDPELE] 1.3.3. It has none
// of its own, and keeps none: a licence server that counts devices sees the
// same device in every probe from one client name.
type licenceClient struct {
	user, machine string
	// certificate is the host's key from standard RDP security, used if the
	// request carries none.
	certificate *rsaKey

	clientRandom, preMaster []byte
	macKey, key             []byte
}

func newLicenceClient(o Options, certificate *rsaKey) (*licenceClient, error) {
	l := &licenceClient{
		user: o.User, machine: o.ClientName, certificate: certificate,
		clientRandom: make([]byte, 32), preMaster: make([]byte, 48),
	}
	for _, b := range [][]byte{l.clientRandom, l.preMaster} {
		if _, err := rand.Read(b); err != nil {
			return nil, err
		}
	}
	return l, nil
}

// isLicence tells a licensing message from a share control PDU, which hosts may
// send in its place; under TLS nothing else does. b begins with the security header.
func isLicence(b []byte) bool {
	in := cursor{b: b}
	flags := in.u16()
	in.skip(2 + 2)
	size := int(in.u16())
	return !in.short && flags&secLicence != 0 && size == len(b)-4
}

// handle takes a licensing message without its security header and returns the
// answer, nil if there is none. done says that the host is content.
func (l *licenceClient) handle(b []byte) (answer []byte, done bool, err error) {
	in := cursor{b: b}
	kind := in.u8()
	in.skip(1 + 2) // flags, wMsgSize
	switch kind {
	case licenceRequest:
		answer, err = l.newRequest(&in)
	case licencePlatformChallenge:
		answer, err = l.challengeResponse(&in)
	case licenceNew, licenceUpgrade:
		done = true
	case licenceErrorAlert:
		done, err = licenceAlert(&in)
	default:
		err = fmt.Errorf("message of type %#x", kind)
	}
	if err == nil {
		err = in.err()
	}
	if err != nil {
		return nil, false, fmt.Errorf("licensing: %w", err)
	}
	return answer, done, nil
}

// licenceAlert is the end of licensing, good or bad.
// In its grace period a host without a licence server says that all is well.
func licenceAlert(in *cursor) (done bool, err error) {
	const valid, noTransition = 0x7, 2
	code, transition := in.u32(), in.u32()
	if in.short {
		return false, errShort
	}
	if code != valid || transition != noTransition {
		return false, fmt.Errorf("the host refused: %s", newCode(code, licenceErrorNames))
	}
	return true, nil
}

// newRequest answers a Server License Request, 2.2.2.1, with a Client New
// License Request, 2.2.2.2.
func (l *licenceClient) newRequest(in *cursor) ([]byte, error) {
	serverRandom := slices.Clone(in.take(32))
	in.skip(4)             // dwVersion
	in.skip(int(in.u32())) // company name
	in.skip(int(in.u32())) // product identifier
	readBlob(in)           // key exchange list
	certificate := readBlob(in)
	if err := in.err(); err != nil {
		return nil, fmt.Errorf("licence request: %w", err)
	}
	in.b = nil // a list of scopes follows

	key := l.certificate
	if len(certificate) > 0 {
		var err error
		if key, err = parseServerCertificate(certificate); err != nil {
			return nil, err
		}
	}
	if key == nil {
		return nil, errors.New("the host sent no certificate to encrypt the answer with")
	}
	l.deriveKeys(serverRandom)

	b := binary.LittleEndian.AppendUint32(nil, 1) // KEY_EXCHANGE_ALG_RSA
	b = binary.LittleEndian.AppendUint32(b, platformID)
	b = append(b, l.clientRandom...)
	b = appendBlob(b, 0x0002, key.encrypt(l.preMaster))
	b = appendBlob(b, 0x000f, append([]byte(l.user), 0))
	b = appendBlob(b, 0x0010, append([]byte(l.machine), 0))
	return licenceMessage(licenceNewRequest, b), nil
}

// deriveKeys is 5.1.2 and 5.1.3.
func (l *licenceClient) deriveKeys(serverRandom []byte) {
	master := saltedSecret(l.preMaster, 'A', l.clientRandom, serverRandom)
	blob := saltedSecret(master, 'A', serverRandom, l.clientRandom)
	l.macKey = blob[:16]
	l.key = finalHash(blob[16:32], l.clientRandom, serverRandom)
}

// challengeResponse answers a Server Platform Challenge, 2.2.2.4, with a
// Client Platform Challenge Response, 2.2.2.5.
func (l *licenceClient) challengeResponse(in *cursor) ([]byte, error) {
	in.skip(4) // ConnectFlags
	challenge, mac := readBlob(in), in.take(16)
	if err := in.err(); err != nil {
		return nil, fmt.Errorf("platform challenge: %w", err)
	}
	if l.key == nil {
		return nil, errors.New("a platform challenge without a licence request before it")
	}
	challenge = rc4Once(l.key, challenge)
	if !slices.Equal(macData(l.macKey, challenge, nil), mac) {
		return nil, errors.New("the platform challenge's signature is wrong")
	}

	const version, win32, detail = 0x0100, 0x0100, 0x0003
	var response []byte
	for _, v := range []uint16{version, win32, detail, uint16(len(challenge))} {
		response = binary.LittleEndian.AppendUint16(response, v)
	}
	response = append(response, challenge...)
	hardware := hardwareID(l.machine)

	b := appendBlob(nil, 0x0009, rc4Once(l.key, response))
	b = appendBlob(b, 0x0009, rc4Once(l.key, hardware))
	b = append(b, macData(l.macKey, slices.Concat(response, hardware), nil)...)
	return licenceMessage(licenceChallengeResponse, b), nil
}

// hardwareID is a CLIENT_HARDWARE_ID, 2.2.2.3.1, the same for the same client name.
func hardwareID(machine string) []byte {
	sum := md5.Sum([]byte("rdpprobe " + machine))
	return append(binary.LittleEndian.AppendUint32(nil, platformID), sum[:]...)
}

// readBlob reads a LICENSE_BINARY_BLOB, whose type hosts do not set reliably.
func readBlob(in *cursor) []byte {
	in.skip(2)
	return in.take(int(in.u16()))
}

func appendBlob(dst []byte, kind uint16, data []byte) []byte {
	dst = binary.LittleEndian.AppendUint16(dst, kind)
	dst = binary.LittleEndian.AppendUint16(dst, uint16(len(data)))
	return append(dst, data...)
}

func licenceMessage(kind uint8, body []byte) []byte {
	b := binary.LittleEndian.AppendUint16([]byte{kind, licencePreamble}, uint16(len(body)+4))
	return append(b, body...)
}
