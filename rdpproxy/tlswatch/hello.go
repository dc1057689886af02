package tlswatch

import (
	"bytes"
	"errors"
	"fmt"
)

// Extensions, from the IANA registry "TLS ExtensionType Values".
const (
	extServerName           = 0
	extMaxFragmentLength    = 1
	extStatusRequest        = 5
	extECPointFormats       = 11
	extALPN                 = 16
	extExtendedMasterSecret = 23
	extRecordSizeLimit      = 28
	extSessionTicket        = 35
	extPreSharedKey         = 41
	extSupportedVersions    = 43
	extKeyShare             = 51
	extRenegotiationInfo    = 0xff01
)

const (
	tls12 = 0x0303
	tls13 = 0x0304
)

// retryRandom marks a ServerHello that asks for another ClientHello, RFC 8446 4.1.3.
var retryRandom = []byte{
	0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11, 0xbe, 0x1d, 0x8c, 0x02, 0x1e, 0x65, 0xb8, 0x91,
	0xc2, 0xa2, 0x11, 0x16, 0x7a, 0xbb, 0x8c, 0x5e, 0x07, 0x9e, 0x09, 0xe2, 0xc8, 0xa8, 0x33, 0x9c,
}

var errHello = errors.New("a hello that cannot be read")

// reader takes fields off the front of a message; bad once something was missing.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) take(n int) []byte {
	if r.bad || n > len(r.b) {
		r.bad = true
		return nil
	}
	out := r.b[:n]
	r.b = r.b[n:]
	return out
}

func (r *reader) number(bytes int) (n int) {
	for _, c := range r.take(bytes) {
		n = n<<8 | int(c)
	}
	return n
}

// vector is a field that begins with its length, which has lengthBytes bytes.
func (r *reader) vector(lengthBytes int) []byte { return r.take(r.number(lengthBytes)) }

// extensions calls each for all extensions that are left, and checks that nothing
// comes after them. Where there are none, the field may be missing.
func (r *reader) extensions(each func(kind int, data []byte) error) error {
	if r.bad {
		return errHello
	}
	if len(r.b) == 0 {
		return nil
	}
	list := reader{b: r.vector(2)}
	if r.bad || len(r.b) > 0 {
		return errHello
	}
	for len(list.b) > 0 {
		kind := list.number(2)
		data := list.vector(2)
		if list.bad {
			return errHello
		}
		if err := each(kind, data); err != nil {
			return err
		}
	}
	return nil
}

// checkClientHello says why the client's wishes make record sizes meaningless, nil
// if they do not.
func checkClientHello(b []byte) error {
	r := reader{b: b}
	r.take(2 + 32) // version, random
	r.vector(1)    // session
	r.vector(2)    // suites
	r.vector(1)    // compression
	return r.extensions(func(kind int, _ []byte) error {
		if kind == extMaxFragmentLength || kind == extRecordSizeLimit {
			return errors.New("the client wants records cut to a size of its choice")
		}
		return nil
	})
}

// choice is what a ServerHello chose.
type choice struct {
	retry   bool // another ClientHello is wanted first
	version int
	size    sizes
}

// parseServerHello reads what the host chose. The error says why record sizes tell
// nothing under it.
func parseServerHello(b []byte) (choice, error) {
	r := reader{b: b}
	c := choice{version: r.number(2)}
	c.retry = bytes.Equal(r.take(32), retryRandom)
	r.vector(1) // session
	suite := r.number(2)
	compression := r.number(1)
	resumed := false
	other := -1
	err := r.extensions(func(kind int, data []byte) error {
		switch kind {
		case extSupportedVersions:
			v := reader{b: data}
			c.version = v.number(2)
		case extPreSharedKey:
			resumed = true
		case extKeyShare, extServerName, extStatusRequest, extECPointFormats, extALPN,
			extExtendedMasterSecret, extSessionTicket, extRenegotiationInfo:
		default:
			other = kind
		}
		return nil
	})
	switch {
	case err != nil:
		return choice{}, err
	case c.version != tls12 && c.version != tls13:
		return choice{}, fmt.Errorf("TLS version %#04x", c.version)
	case c.retry:
		return c, nil
	case resumed:
		return choice{}, errors.New("a resumed TLS session")
	case compression != 0:
		return choice{}, errors.New("TLS compression")
	case other >= 0: // encrypt_then_mac, truncated_hmac and their like change sizes
		return choice{}, fmt.Errorf("TLS extension %d", other)
	}
	c.size = sizesOf(c.version, suite)
	if c.size == nil {
		return choice{}, fmt.Errorf("cipher suite %#04x", suite)
	}
	return c, nil
}
