// SPDX-License-Identifier: GPL-3.0-only

package probe

import (
	"bytes"
	"crypto/rc4"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/tomatome/grdp/protocol/nla"
)

// sealingPair is the two ends of an NTLM session.
func sealingPair(t *testing.T) (client, host *nla.NTLMv2Security) {
	t.Helper()
	cipher := func(key string) *rc4.Cipher {
		c, err := rc4.NewCipher([]byte(key))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	const c2s, s2c = "client sealing..", "host sealing...."
	return &nla.NTLMv2Security{EncryptRC4: cipher(c2s), DecryptRC4: cipher(s2c), SigningKey: []byte("c"), VerifyKey: []byte("s")},
		&nla.NTLMv2Security{EncryptRC4: cipher(s2c), DecryptRC4: cipher(c2s), SigningKey: []byte("s"), VerifyKey: []byte("c")}
}

func TestUnseal(t *testing.T) {
	client, host := sealingPair(t)
	for _, text := range []string{"first", "second", ""} {
		got, err := unseal(client, host.GssEncrypt([]byte(text)))
		if err != nil || string(got) != text {
			t.Errorf("got %q, %v; want %q", got, err, text)
		}
	}
	sealed := host.GssEncrypt([]byte("changed"))
	sealed[len(sealed)-1] ^= 1
	if _, err := unseal(client, sealed); err == nil {
		t.Error("a changed message is taken")
	}
	if _, err := unseal(client, []byte("no signature")); err == nil {
		t.Error("a message without a signature is taken")
	}
}

// TestVerify plays a host that has seen the right TLS key, and one behind
// somebody who decrypts.
func TestVerify(t *testing.T) {
	key := []byte{0x30, 0x05, 1, 2, 3}
	for _, version := range []int{2, 4, 5, 6} {
		client, host := sealingPair(t)
		c := &credSSP{version: version, keys: client, key: key, nonce: [32]byte{7}}
		answer := func(key []byte) []byte {
			h := &credSSP{key: key, nonce: c.nonce}
			if version >= nonceVersion {
				return host.GssEncrypt(h.binding("Server-To-Client"))
			}
			return host.GssEncrypt(append([]byte{key[0] + 1}, key[1:]...))
		}
		if err := c.verify(answer(key)); err != nil {
			t.Errorf("version %d: %v", version, err)
		}
		if err := c.verify(answer([]byte{0x30, 0x05, 1, 2, 4})); err == nil || !strings.Contains(err.Error(), "another TLS key") {
			t.Errorf("version %d, another key: %v", version, err)
		}
		if err := c.verify(host.GssEncrypt(c.key)); err == nil {
			t.Errorf("version %d: the client's own message, sent back, is taken", version)
		}
	}
}

// scriptedHost answers each message with the next of its answers, then EOF.
type scriptedHost struct {
	answers [][]byte
	pending bytes.Buffer
	written int
}

func (h *scriptedHost) Write(b []byte) (int, error) {
	h.written++
	if len(h.answers) > 0 {
		h.pending.Write(h.answers[0])
		h.answers = h.answers[1:]
	}
	return len(b), nil
}

func (h *scriptedHost) Read(b []byte) (int, error) { return h.pending.Read(b) }

// challenge is an NTLM CHALLENGE_MESSAGE of WinPR, with a version and target
// information of one timestamp.
const challenge = "4e544c4d53535000020000000000000038000000358289e20102030405060708000000000000000010001000380000000601b11d0000000f" +
	"07000800a02f44f01267d50100000000"

func marshal(t *testing.T, r tsRequest) []byte {
	t.Helper()
	b, err := asn1.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestCredSSPOutcomes(t *testing.T) {
	offer := func(version int) []byte {
		return marshal(t, tsRequest{Version: version, NegoTokens: []negoToken{{unhex(t, challenge)}}})
	}
	// What a Windows host sent for a refused NTLM: STATUS of 4 bytes, negative.
	refusal := unhex(t, "300da003020106a406020480090302")
	status := func(v int64) []byte { return marshal(t, tsRequest{Version: 6, ErrorCode: v}) }
	for _, tt := range []struct {
		name    string
		answers [][]byte
		refused bool
		status  string
		text    string
	}{
		{"NTLM refused", [][]byte{refusal}, true, "0x80090302", "SEC_E_UNSUPPORTED_FUNCTION"},
		{"wrong password", [][]byte{offer(6), status(0xc000006d)}, true, "0xc000006d", "STATUS_LOGON_FAILURE"},
		{"locked out, as a negative number", [][]byte{offer(6), status(0xc0000234 - 1<<32)}, true, "0xc0000234", "STATUS_ACCOUNT_LOCKED_OUT"},
		{"closed after the credentials", [][]byte{offer(6)}, true, "", "wrong user name or password"},
		{"closed before", nil, false, "", "EOF"},
		{"no challenge", [][]byte{marshal(t, tsRequest{Version: 6})}, false, "", "no NTLM challenge"},
		{"a challenge that makes no sense", [][]byte{marshal(t, tsRequest{Version: 6, NegoTokens: []negoToken{{[]byte("NTLM")}}})}, false, "", "cannot be read"},
		{"an old version", [][]byte{offer(1)}, false, "", "version 1"},
		{"a proof that is none", [][]byte{offer(6), marshal(t, tsRequest{Version: 6, PubKeyAuth: []byte("x")})}, false, "", "no NTLM signature"},
		{"a forged proof", [][]byte{offer(2), marshal(t, tsRequest{Version: 2, PubKeyAuth: append([]byte{1, 0, 0, 0}, make([]byte, 20)...)})}, false, "", "does not know the password"},
		{"not CredSSP", [][]byte{[]byte("HTTP/1.1 400 Bad Request")}, false, "", "no CredSSP message"},
		{"too long", [][]byte{{0x30, 0x84, 0x7f, 0, 0, 0}}, false, "", "no CredSSP message"},
		{"a length of no bytes", [][]byte{{0x30, 0x80, 0, 0}}, false, "", "takes 0 bytes"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			silence()
			c := &credSSP{conn: &scriptedHost{answers: tt.answers}, ntlm: nla.NewNTLMv2("", "alice", "secret"), key: []byte{1}}
			c.certificate = testCertificate(t)
			err := c.run()
			var refusal *refusedError
			if errors.As(err, &refusal) != tt.refused {
				t.Fatalf("refused: %t, error %v", !tt.refused, err)
			}
			if tt.refused && tt.status != "" && (refusal.status == nil || refusal.status.Value != tt.status) {
				t.Errorf("status %v, want %s", refusal.status, tt.status)
			}
			if err == nil || !strings.Contains(err.Error(), tt.text) {
				t.Errorf("error %v, want %q", err, tt.text)
			}
			if err != nil && strings.Contains(err.Error(), "secret") {
				t.Errorf("the password is in %v", err)
			}
		})
	}
}

// The whole of a TSRequest is read, and nothing behind it.
func TestReceiveReadsNoFurther(t *testing.T) {
	long := marshal(t, tsRequest{Version: 6, PubKeyAuth: make([]byte, 500)})
	h := &scriptedHost{}
	h.pending.Write(append(long, "rest"...))
	c := &credSSP{conn: h}
	r, err := c.receive()
	if err != nil || len(r.PubKeyAuth) != 500 {
		t.Fatal(r, err)
	}
	if rest, _ := io.ReadAll(h); string(rest) != "rest" {
		t.Errorf("left over: %q", rest)
	}
}

func FuzzReceive(f *testing.F) {
	for _, s := range []string{"300da003020106a406020480090302", "3003a00102", "30818430"} {
		b, err := hex.DecodeString(s)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		h := &scriptedHost{}
		h.pending.Write(b)
		c := &credSSP{conn: h}
		if r, err := c.receive(); err == nil && r == nil {
			t.Error("neither a message nor an error")
		}
	})
}

// FuzzChallenge shows that grdp's panics on hostile challenges stay contained.
func FuzzChallenge(f *testing.F) {
	b, err := hex.DecodeString(challenge)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte("NTLMSSP\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		silence()
		c := &credSSP{conn: &scriptedHost{}, ntlm: nla.NewNTLMv2("", "u", "p"), key: []byte{1}, version: 6}
		c.ntlm.GetNegotiateMessage()
		if _, err := c.authenticate(b); err == nil {
			t.Error("a host that hung up has answered")
		}
	})
}
