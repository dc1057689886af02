// SPDX-License-Identifier: GPL-3.0-only

package probe

import (
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"slices"
)

// rsaKey is the public key of a SERVER_CERTIFICATE, [MS-RDPBCGR] 2.2.1.4.3.1.
// It is used to send a secret to whoever holds the private key; the certificate
// is not checked, as the key to sign proprietary ones has been public for
// decades (5.3.3.1.2). It is no crypto/rsa key: that refuses the 512 bits that
// hosts still send.
type rsaKey struct {
	modulus  *big.Int
	exponent int64
	size     int // of the modulus in bytes
}

// encrypt is textbook RSA over little-endian numbers, with the eight bytes of
// padding that [MS-RDPBCGR] 5.3.4.1 asks for behind it.
func (k *rsaKey) encrypt(secret []byte) []byte {
	m := new(big.Int).SetBytes(reversed(secret))
	m.Exp(m, big.NewInt(k.exponent), k.modulus)
	return append(reversed(m.FillBytes(make([]byte, k.size))), make([]byte, 8)...)
}

func reversed(b []byte) []byte {
	b = slices.Clone(b)
	slices.Reverse(b)
	return b
}

// newRSAKey refuses keys that cannot be: a host decides how long the
// exponentiation takes.
func newRSAKey(modulus *big.Int, exponent int64, size int) (*rsaKey, error) {
	if modulus.Sign() <= 0 || exponent < 3 || exponent >= 1<<31 || size < 48 || size > 1024 || modulus.BitLen() > 8*size {
		return nil, fmt.Errorf("server certificate: no usable RSA key (%d bits, exponent %d)", modulus.BitLen(), exponent)
	}
	return &rsaKey{modulus: modulus, exponent: exponent, size: size}, nil
}

// parseServerCertificate reads either form of certificate.
func parseServerCertificate(b []byte) (*rsaKey, error) {
	in := cursor{b: b}
	version := in.u32() &^ (1 << 31) // the top bit says "temporary"
	if err := in.err(); err != nil {
		return nil, fmt.Errorf("server certificate: %w", err)
	}
	switch version {
	case 1:
		return parseProprietary(&in)
	case 2:
		return parseChain(&in)
	}
	return nil, fmt.Errorf("server certificate: version %d", version)
}

// parseProprietary reads a PROPRIETARYSERVERCERTIFICATE, 2.2.1.4.3.1.1.
func parseProprietary(in *cursor) (*rsaKey, error) {
	in.skip(4 + 4 + 2) // dwSigAlgId, dwKeyAlgId, wPublicKeyBlobType
	blob := cursor{b: in.take(int(in.u16()))}
	magic, length := blob.u32(), int(blob.u32())
	blob.skip(4 + 4) // bitlen, datalen
	exponent := int64(blob.u32())
	modulus := blob.take(length) // with eight bytes of padding, all zero
	if in.short || blob.short || magic != 0x31415352 || length <= 8 {
		return nil, errors.New("server certificate: no RSA key in its proprietary form")
	}
	modulus = modulus[:length-8]
	return newRSAKey(new(big.Int).SetBytes(reversed(modulus)), exponent, len(modulus))
}

// parseChain reads an X509 _Certificate_Chain, [MS-RDPELE] 2.2.1.4.2; the
// host's own certificate is the last.
func parseChain(in *cursor) (*rsaKey, error) {
	n := in.u32()
	if n == 0 || n > 200 {
		return nil, fmt.Errorf("server certificate: a chain of %d", n)
	}
	var der []byte
	for range n {
		der = in.take(int(in.u32()))
	}
	if in.short {
		return nil, fmt.Errorf("server certificate: chain: %w", errShort)
	}
	return parseX509(der)
}

// parseX509 takes the key out of a certificate. crypto/x509 will not do: licence
// servers mark their keys with the identifier of a signature algorithm
// (1.3.14.3.2.15), and their certificates break rules that it insists on.
func parseX509(der []byte) (*rsaKey, error) {
	var cert struct {
		TBS struct {
			Version    asn1.RawValue `asn1:"optional,explicit,tag:0"`
			Serial     asn1.RawValue
			Algorithm  asn1.RawValue
			Issuer     asn1.RawValue
			Validity   asn1.RawValue
			Subject    asn1.RawValue
			SubjectKey struct {
				Algorithm asn1.RawValue
				Bits      asn1.BitString
			}
		}
	}
	if _, err := asn1.Unmarshal(der, &cert); err != nil {
		return nil, fmt.Errorf("server certificate: X.509: %w", err)
	}
	var key struct {
		Modulus  *big.Int
		Exponent int64
	}
	if _, err := asn1.Unmarshal(cert.TBS.SubjectKey.Bits.Bytes, &key); err != nil {
		return nil, fmt.Errorf("server certificate: X.509: RSA key: %w", err)
	}
	return newRSAKey(key.Modulus, key.Exponent, (key.Modulus.BitLen()+7)/8)
}
