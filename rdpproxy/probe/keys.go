// SPDX-License-Identifier: GPL-3.0-only

package probe

import (
	"crypto/md5"
	"crypto/rc4"
	"crypto/sha1"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
)

// The hashes that standard RDP security ([MS-RDPBCGR] 5.3.5) and licensing
// ([MS-RDPELE] 5.1.2, 5.1.3) share. They are what the protocol demands, with
// all their weaknesses.

// saltedSecret is 48 bytes: the hashes of secret salted with letter, letter
// twice and letter three times, the letters counting up.
func saltedSecret(secret []byte, letter byte, random1, random2 []byte) []byte {
	var out []byte
	for i := range 3 {
		inner := sha1.New()
		for range i + 1 {
			inner.Write([]byte{letter + byte(i)})
		}
		for _, b := range [][]byte{secret, random1, random2} {
			inner.Write(b)
		}
		outer := md5.New()
		outer.Write(secret)
		outer.Write(inner.Sum(nil))
		out = outer.Sum(out)
	}
	return out
}

func finalHash(key, random1, random2 []byte) []byte {
	h := md5.New()
	for _, b := range [][]byte{key, random1, random2} {
		h.Write(b)
	}
	return h.Sum(nil)
}

// macData is the 16-byte signature of [MS-RDPBCGR] 5.3.6.1 and [MS-RDPELE]
// 5.1.6. trailer is the packet count of salted signatures, else empty.
func macData(key, data, trailer []byte) []byte {
	inner := sha1.New()
	inner.Write(key)
	inner.Write(pad(0x36, 40))
	inner.Write(binary.LittleEndian.AppendUint32(nil, uint32(len(data))))
	inner.Write(data)
	inner.Write(trailer)
	outer := md5.New()
	outer.Write(key)
	outer.Write(pad(0x5c, 48))
	outer.Write(inner.Sum(nil))
	return outer.Sum(nil)
}

func pad(b byte, n int) []byte { return slices.Repeat([]byte{b}, n) }

// The encryption methods of [MS-RDPBCGR] 2.2.1.4.3 that the probe speaks.
const (
	method40Bit  = 0x01
	method128Bit = 0x02
	method56Bit  = 0x08
)

// standardSecurity encrypts what is sent and decrypts what is received under
// standard RDP security.
type standardSecurity struct {
	mac      []byte
	out, in  rc4Stream
	weakened func([]byte) []byte
}

// newStandardSecurity derives the keys of [MS-RDPBCGR] 5.3.5.1.
func newStandardSecurity(method uint32, clientRandom, serverRandom []byte) (*standardSecurity, error) {
	if len(clientRandom) != 32 || len(serverRandom) != 32 {
		return nil, errors.New("standard RDP security: the host's random number has not 32 bytes")
	}
	weakened, err := keyStrength(method)
	if err != nil {
		return nil, err
	}
	preMaster := slices.Concat(clientRandom[:24], serverRandom[:24])
	master := saltedSecret(preMaster, 'A', clientRandom, serverRandom)
	blob := saltedSecret(master, 'X', clientRandom, serverRandom)
	s := &standardSecurity{mac: weakened(blob[:16]), weakened: weakened}
	s.in.start(weakened(finalHash(blob[16:32], clientRandom, serverRandom)))
	s.out.start(weakened(finalHash(blob[32:48], clientRandom, serverRandom)))
	return s, nil
}

// keyStrength is the function that cuts a 128-bit key down to what the host chose.
func keyStrength(method uint32) (func([]byte) []byte, error) {
	salt := []byte{0xd1, 0x26, 0x9e}
	switch method {
	case method128Bit:
		return func(k []byte) []byte { return k }, nil
	case method56Bit:
		return func(k []byte) []byte { return slices.Concat(salt[:1], k[1:8]) }, nil
	case method40Bit:
		return func(k []byte) []byte { return slices.Concat(salt, k[3:8]) }, nil
	}
	return nil, fmt.Errorf("standard RDP security: the host chose encryption method %#x (0x10 is FIPS), which rdpprobe does not speak", method)
}

// seal appends signature and ciphertext of data to dst.
func (s *standardSecurity) seal(dst, data []byte) []byte {
	dst = append(dst, macData(s.mac, data, nil)[:8]...)
	return append(dst, s.out.apply(data, s.weakened)...)
}

// open decrypts signature and ciphertext. salted says that the signature
// counts packets too.
func (s *standardSecurity) open(b []byte, salted bool) ([]byte, error) {
	if len(b) < 8 {
		return nil, fmt.Errorf("encrypted message: %w", errShort)
	}
	var trailer []byte
	if salted {
		trailer = binary.LittleEndian.AppendUint32(nil, s.in.total)
	}
	data := s.in.apply(b[8:], s.weakened)
	if !slices.Equal(macData(s.mac, data, trailer)[:8], b[:8]) {
		return nil, errors.New("encrypted message: its signature is wrong")
	}
	return data, nil
}

// rekeyAfter is the number of packets that one RC4 key is used for, [MS-RDPBCGR] 5.3.7.
const rekeyAfter = 4096

// rc4Stream is one direction of an encrypted connection.
type rc4Stream struct {
	cipher           *rc4.Cipher
	initial, current []byte
	used             int    // packets under the current key
	total            uint32 // packets in all
}

func (r *rc4Stream) start(key []byte) {
	r.initial = key
	r.use(key)
}

// use panics on no key: RC4 takes every length from 1 to 256, and keys have 8 or 16.
func (r *rc4Stream) use(key []byte) {
	c, err := rc4.NewCipher(key)
	if err != nil {
		panic(err)
	}
	r.cipher, r.current, r.used = c, key, 0
}

// apply encrypts or decrypts one packet.
func (r *rc4Stream) apply(b []byte, weakened func([]byte) []byte) []byte {
	if r.used == rekeyAfter {
		r.use(weakened(r.nextKey()))
	}
	out := make([]byte, len(b))
	r.cipher.XORKeyStream(out, b)
	r.used++
	r.total++
	return out
}

// nextKey is the key update of [MS-RDPBCGR] 5.3.7.1, before it is weakened again.
func (r *rc4Stream) nextKey() []byte {
	inner := sha1.New()
	for _, b := range [][]byte{r.initial, pad(0x36, 40), r.current} {
		inner.Write(b)
	}
	outer := md5.New()
	for _, b := range [][]byte{r.initial, pad(0x5c, 48), inner.Sum(nil)} {
		outer.Write(b)
	}
	// Eight or sixteen bytes of the hash encrypt themselves.
	key := outer.Sum(nil)[:len(r.initial)]
	return rc4Once(key, key)
}

// rc4Once encrypts or decrypts b with a key that is used for nothing else.
func rc4Once(key, b []byte) []byte {
	var r rc4Stream
	r.use(key)
	return r.apply(b, nil)
}
