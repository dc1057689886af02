package token

import (
	"crypto/cipher"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/crypto/chacha20poly1305"
)

// KeySize is the number of bytes of a key.
const KeySize = chacha20poly1305.KeySize

// keyPrefix is what the line of a key file begins with.
const keyPrefix = "rdpbroker-token-key-1:"

// Key seals tokens and opens them. Whoever has it can make tokens for anybody.
type Key struct {
	id   [4]byte
	aead cipher.AEAD
}

// NewKey makes a Key of KeySize random bytes.
func NewKey(secret [KeySize]byte) Key {
	aead, err := chacha20poly1305.NewX(secret[:])
	if err != nil {
		panic(err) // the length is right
	}
	sum := sha256.Sum256(append([]byte("rdpbroker token key ID\x00"), secret[:]...))
	return Key{id: [4]byte(sum[:4]), aead: aead}
}

// ParseKey reads the line that FormatKey writes. The error never holds the line.
func ParseKey(line string) (Key, error) {
	text, ok := strings.CutPrefix(strings.TrimSpace(line), keyPrefix)
	if !ok {
		return Key{}, errors.New("this is no token key: its first line begins with " + keyPrefix)
	}
	b, err := base64.StdEncoding.Strict().DecodeString(text)
	if err != nil || len(b) != KeySize {
		return Key{}, fmt.Errorf("the token key is damaged: %d bytes in base64 follow %s", KeySize, keyPrefix)
	}
	return NewKey([KeySize]byte(b)), nil
}

// FormatKey is the line for a key file: the secret itself, in base64.
func FormatKey(secret [KeySize]byte) string {
	return keyPrefix + base64.StdEncoding.EncodeToString(secret[:])
}

// ID tells the key from others, and tells nothing of the secret: 8 hexadecimal
// digits.
func (k Key) ID() string { return hex.EncodeToString(k.id[:]) }

// Ring is the keys that tokens are opened with; the first one seals. It is
// immutable. Nil and the zero value have no key: every token is of an unknown one.
type Ring struct{ keys []Key }

// NewRing makes a Ring of keys. That one is there twice is an error.
func NewRing(keys ...Key) (*Ring, error) {
	for i, k := range keys {
		for _, before := range keys[:i] {
			if k.id == before.id {
				return nil, fmt.Errorf("the token key %s is there twice", k.ID())
			}
		}
	}
	return &Ring{keys: slices.Clone(keys)}, nil
}

// IDs are the keys' IDs, that of the one that seals first.
func (r *Ring) IDs() []string {
	var ids []string
	if r != nil {
		for _, k := range r.keys {
			ids = append(ids, k.ID())
		}
	}
	return ids
}

// key is the one with this ID. IDs stand in every token for all to see, so that
// comparing them needs no constant time.
func (r *Ring) key(id [4]byte) (Key, bool) {
	if r == nil {
		return Key{}, false
	}
	for _, k := range r.keys {
		if k.id == id {
			return k, true
		}
	}
	return Key{}, false
}
