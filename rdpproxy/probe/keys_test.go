// SPDX-License-Identifier: GPL-3.0-only

package probe

import (
	"bytes"
	"testing"
)

// peerOf is the host's end of s: it encrypts what s decrypts.
func peerOf(t *testing.T, method uint32, clientRandom, serverRandom []byte) *standardSecurity {
	t.Helper()
	p, err := newStandardSecurity(method, clientRandom, serverRandom)
	if err != nil {
		t.Fatal(err)
	}
	p.in, p.out = p.out, p.in
	return p
}

func TestStandardSecurity(t *testing.T) {
	client, server := bytes.Repeat([]byte{1}, 32), bytes.Repeat([]byte{2}, 32)
	for method, keyLength := range map[uint32]int{method40Bit: 8, method56Bit: 8, method128Bit: 16} {
		s, err := newStandardSecurity(method, client, server)
		if err != nil {
			t.Fatal(err)
		}
		peer := peerOf(t, method, client, server)
		if len(s.mac) != keyLength || len(s.in.current) != keyLength || bytes.Equal(s.in.current, s.out.current) {
			t.Errorf("method %#x: keys of %d and %d bytes", method, len(s.mac), len(s.in.current))
		}
		// Past the key update after 4096 packets, in one direction only.
		for i := range rekeyAfter + 3 {
			message := []byte{byte(i), byte(i >> 8), 3}
			got, err := s.open(peer.seal(nil, message), false)
			if err != nil || !bytes.Equal(got, message) {
				t.Fatalf("method %#x, packet %d: %x, %v", method, i, got, err)
			}
		}
		if bytes.Equal(s.in.current, s.in.initial) || !bytes.Equal(s.out.current, s.out.initial) {
			t.Errorf("method %#x: the key was not updated, or the wrong one", method)
		}
		sealed := s.seal([]byte("head"), []byte("answer"))
		if !bytes.HasPrefix(sealed, []byte("head")) || bytes.Contains(sealed, []byte("answer")) {
			t.Errorf("method %#x: sealed %q", method, sealed)
		}
		if got, err := peer.open(sealed[4:], false); err != nil || string(got) != "answer" {
			t.Errorf("method %#x: the answer is %q, %v", method, got, err)
		}
	}
}

func TestStandardSecurityRefuses(t *testing.T) {
	client, server := bytes.Repeat([]byte{1}, 32), bytes.Repeat([]byte{2}, 32)
	s, err := newStandardSecurity(method128Bit, client, server)
	if err != nil {
		t.Fatal(err)
	}
	sealed := peerOf(t, method128Bit, client, server).seal(nil, []byte("message"))
	sealed[len(sealed)-1] ^= 1
	if _, err := s.open(sealed, false); err == nil {
		t.Error("a changed message is taken")
	}
	if _, err := s.open([]byte("short"), false); err == nil {
		t.Error("a message without a signature is taken")
	}
	if _, err := newStandardSecurity(0x10, client, server); err == nil {
		t.Error("FIPS is taken")
	}
	if _, err := newStandardSecurity(method128Bit, client, server[:16]); err == nil {
		t.Error("a short random number is taken")
	}
}

// A salted signature counts the packets, so that none can be repeated.
func TestSaltedSignature(t *testing.T) {
	client, server := bytes.Repeat([]byte{1}, 32), bytes.Repeat([]byte{2}, 32)
	s, err := newStandardSecurity(method128Bit, client, server)
	if err != nil {
		t.Fatal(err)
	}
	peer := peerOf(t, method128Bit, client, server)
	for i := range 3 {
		message := []byte("again")
		sealed := macData(peer.mac, message, []byte{byte(i), 0, 0, 0})[:8]
		sealed = append(sealed, peer.out.apply(message, peer.weakened)...)
		if i == 1 {
			// The host may send one without in between; it counts all the same.
			sealed = append(macData(peer.mac, message, nil)[:8], sealed[8:]...)
		}
		if got, err := s.open(sealed, i != 1); err != nil || string(got) != "again" {
			t.Errorf("packet %d: %q, %v", i, got, err)
		}
	}
}
