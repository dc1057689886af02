package tlswatch

import (
	"math/rand/v2"
	"strings"
	"testing"
)

// TestCaptures: what was recorded between real peers.
func TestCaptures(t *testing.T) {
	want := map[string]Verdict{"accepted": Entering, "authonly-ok": Entering, "refused": Refused}
	for _, c := range captures(t) {
		if c.selected != "02:02" && c.selected != "02:08" {
			continue // nobody may ask: see the doc of New
		}
		w := New(c.selected == "02:08")
		if got := play(w, c.pieces); got != want[c.outcome] {
			t.Errorf("%s: %s (%s), want %s", c.name, got, w.Why(), want[c.outcome])
		}
	}
}

// TestWithoutCredSSPItLooksTheSame: why the host's choice of protocol decides
// whether a Watcher may be used at all.
func TestWithoutCredSSPItLooksTheSame(t *testing.T) {
	for _, c := range captures(t) {
		if c.name == "xrdpbad" && play(New(false), c.pieces) != Entering {
			t.Error("a wrong password that is asked for within the session can be told after all")
		}
	}
}

// TestMeasured: exchanges with real Windows hosts and others, as plain sizes.
func TestMeasured(t *testing.T) {
	for _, c := range []struct {
		name  string
		ex    bool
		sizes string
		want  Verdict
	}{
		{"Kerberos, HYBRID_EX, mstsc", true, "C175 S1351 C1887 S227 C191 S103 C183 S4 C462 S126", Entering},
		{"Kerberos, smart card", true, "C175 S1351 C1887 S227 C191 S103 C361 S4 C462", Entering},
		{"restricted admin", true, "C175 S1351 C1887 S227 C191 S103 C96 S4 C462", Entering},
		{"remote guard", true, "C175 S1351 C1887 S227 C191 S103 C3215 S4 C462", Entering},
		{"NTLM, HYBRID_EX, 2019", true, "C57 S262 C543 S59 C76 S4 C462", Entering},
		{"NTLM, HYBRID", false, "C93 S162 C433 S95 C118 C467 S118 C12 C8 S11 C12", Entering},
		{"not yet gone on", true, "C57 S262 C543 S59 C76 S4", Accepted},
		{"HYBRID, up to the Connect Response", false, "C93 S162 C433 S95 C118 C467 S118 C12 C8", Undecided},
		{"HYBRID, accepted", false, "C93 S162 C433 S95 C118 C467 S118 C12 C8 S11", Accepted},
		{"NTLM refused, HYBRID_EX", true, "C57 S295 C677 S15", Undecided}, // the host closes
		{"FreeRDP 3's refusal", false, "C93 S125 C431 S67", Undecided},
		{"access denied: the client leaves", true, "C57 S262 C543 S59 C76 S4 C2", Refused},
		{"a KeyUpdate is no going on", true, "C57 S262 C543 S59 C76 S4 C5", Accepted},
		{"4 bytes under HYBRID are nothing", false, "C57 S262 C543 S59 C76 S4 C462", Undecided},
	} {
		for _, suite := range []int{gcm12, gcm13, chacha, sha1} {
			if suite == sha1 && strings.Contains(c.name, "nothing") {
				continue // 4 and 11 look alike there
			}
			want := c.want
			ps := append(handshake(suite), exchange(suite, c.sizes)...)
			if strings.HasSuffix(c.sizes, " C2") && suite>>8 != 0x13 { // an alert has its own type there
				ps[len(ps)-1].b[0] = typeAlert
			}
			w := New(c.ex)
			if got := play(w, ps); got != want {
				t.Errorf("%s, suite %#x: %s (%s), want %s", c.name, suite, got, w.Why(), want)
			}
		}
	}
}

// TestUnknown: where sizes tell nothing, nothing is told, whatever comes later.
func TestUnknown(t *testing.T) {
	const logon = "C93 S162 C433 S95 C118 C467 S118 C12 C8 S11 C12"
	hello := func(suite int, compression byte, list ...ext) []piece {
		return []piece{{false, rec(typeHandshake, clientHello())}, {true, rec(typeHandshake, serverHello(suite, compression, list...))}}
	}
	asks := func(e ext) []piece {
		h := handshake(gcm13)
		h[0].b = rec(typeHandshake, clientHello(e))
		return h
	}
	without := func(kind byte) []piece {
		h := handshake(gcm12)
		h[2].b = rec(typeHandshake, msg(kind, make([]byte, 696)))
		return h
	}
	retry := serverHello(gcm13, 0, selects13, keyShare)
	copy(retry[6:], retryRandom)
	for _, c := range []struct {
		name, why string
		pieces    []piece
	}{
		{"CBC with SHA-256", "suite", hello(0xc027, 0)},
		{"CCM with a short tag", "suite", hello(0x1305, 0, selects13, keyShare)},
		{"a suite of TLS 1.3 under 1.2", "suite", hello(gcm13, 0)},
		{"TLS 1.1", "version", []piece{{false, rec(typeHandshake, clientHello())}, {true, rec(typeHandshake, append(msg(msgServerHello, nil)[:3], append([]byte{38, 3, 2}, make([]byte, 36)...)...))}}},
		{"compression", "compression", hello(gcm12, 1)},
		{"encrypt_then_mac", "extension 22", hello(sha1, 0, ext{22, nil})},
		{"truncated_hmac", "extension 4", hello(sha1, 0, ext{4, nil})},
		{"cut records, granted", "extension 1", hello(gcm12, 0, ext{extMaxFragmentLength, []byte{1}})},
		{"resumption, 1.3", "resumed", hello(gcm13, 0, selects13, keyShare, ext{extPreSharedKey, []byte{0, 0}})},
		{"resumption, 1.2", "resumed", append(hello(gcm12, 0), piece{true, rec(typeChangeCipherSpec, []byte{1})})},
		{"resumption with a ticket, 1.2", "resumed", append(hello(gcm12, 0), piece{true, rec(typeHandshake, msg(msgNewSessionTicket, make([]byte, 900)))}, piece{true, rec(typeChangeCipherSpec, []byte{1})})},
		{"no certificate", "resumed", without(msgServerKeyExchange)},
		{"a message that has no place", "type 20", without(20)},
		{"the client wants small records", "cut", asks(ext{extMaxFragmentLength, []byte{1}})},
		{"the client wants records of its size", "cut", asks(ext{extRecordSizeLimit, []byte{0, 64}})},
		{"renegotiation", "renegotiation", append(handshake(gcm12), append(exchange(gcm12, "C57 S262"), piece{true, rec(typeHandshake, make([]byte, 100))})...)},
		{"a second ChangeCipherSpec", "renegotiation", append(handshake(gcm12), piece{true, rec(typeChangeCipherSpec, []byte{1})})},
		{"a host that cuts its first byte off", "small", append(handshake(sha1), exchange(sha1, "C93 S1 S161")...)},
		{"no block size of CBC", "cannot make", append(handshake(sha1), piece{true, sealed(49)})},
		{"two hellos at once", "one hello", append([]piece{{false, rec(typeHandshake, clientHello())}}, handshake(gcm13)...)},
		{"a host that speaks first", "one hello", handshake(gcm13)[1:]},
		{"three hellos", "third", []piece{{false, rec(typeHandshake, clientHello())}, {true, rec(typeHandshake, retry)}, {false, rec(typeHandshake, clientHello())}, {true, rec(typeHandshake, retry)}}},
		{"a second hello with wishes", "cut", []piece{{false, rec(typeHandshake, clientHello())}, {true, rec(typeHandshake, retry)}, {false, rec(typeHandshake, clientHello(ext{extRecordSizeLimit, []byte{0, 64}}))}}},
		{"data before the hello", "type 23", []piece{{false, rec(typeHandshake, clientHello())}, {true, sealed(28)}}},
		{"not TLS, host", "host does not", []piece{{false, rec(typeHandshake, clientHello())}, {true, []byte("\x03\x00\x00\x13\x0e\xd0")}}},
		{"not TLS, client", "client does not", []piece{{false, []byte("GET / HTTP/1.1\r\n")}}},
		{"not a hello", "does not begin", []piece{{false, rec(typeHandshake, msg(msgNewSessionTicket, nil))}}},
		{"a huge hello", "too long", []piece{{false, rec(typeHandshake, []byte{msgClientHello, 1, 0, 0, 3})}}},
		{"a hello that lies about its lengths", "cannot be read", []piece{{false, rec(typeHandshake, msg(msgClientHello, append(make([]byte, 34), 200)))}}},
		{"something behind the hello, 1.3", "something plain", []piece{{false, rec(typeHandshake, clientHello())}, {true, rec(typeHandshake, append(serverHello(gcm13, 0, selects13, keyShare), msg(msgCertificate, nil)...))}}},
		{"the beginning of a second hello", "one hello", append([]piece{{false, rec(typeHandshake, append(clientHello(), msgClientHello))}}, handshake(gcm13)[1:]...)},
		{"a record of another protocol", "host does not", append(handshake(gcm12), piece{true, append([]byte{typeApplicationData, 2, 0, 0, 28}, make([]byte, 28)...)})},
		{"a record longer than TLS has", "host does not", append(handshake(gcm12), piece{true, []byte{typeApplicationData, 3, 3, 0xff, 0xff}})},
		{"no end of records", "many", append(handshake(gcm13), exchange(gcm13, strings.Repeat("S5 ", 64))...)},
	} {
		suite := gcm12
		w := New(false)
		got := play(w, append(c.pieces, exchange(suite, logon)...))
		if got != Unknown || !strings.Contains(w.Why(), c.why) {
			t.Errorf("%s: %s (%q), want unknown and %q", c.name, got, w.Why(), c.why)
		}
	}
}

// TestRetry: a host that asks for another group gets another hello.
func TestRetry(t *testing.T) {
	retry := serverHello(gcm13, 0, selects13, ext{extKeyShare, []byte{0, 24}}, ext{44, []byte{0, 0}})
	copy(retry[6:], retryRandom)
	ps := append([]piece{
		{false, rec(typeHandshake, clientHello())}, {true, rec(typeHandshake, retry)},
		{true, rec(typeChangeCipherSpec, []byte{1})}, {false, rec(typeChangeCipherSpec, []byte{1})},
	}, append(handshake(gcm13), exchange(gcm13, "C57 S262 C543 S59 C76 S4 C462")...)...)
	w := New(true)
	if got := play(w, ps); got != Entering {
		t.Errorf("%s: %s", got, w.Why())
	}
}

// TestForgery: what somebody without a password may try.
func TestForgery(t *testing.T) {
	for _, c := range []struct{ name, sizes string }{
		{"a padded NEGOTIATE, answered by a CHALLENGE", "C450 S142 C12 C8 C12"},
		{"everything at once, then the refusal", "C57 S262 C543 C76 C462 C12 C8 C12 C12 S15 C12"},
		{"the host's sizes, by the client", "C4 C11 C4 C462 S262 C11 C462"},
		{"refused with 91 bytes", "C93 S125 C431 S67 C118 C467 C12 C8 C12"},
		{"error TSRequests of all sizes", "C57 S262 C543 S12 S13 S14 S15 S16 C462"},
		{"KeyUpdates asked for", "C5 S5 C5 S5 C462"},
		{"a Channel Join Confirm's size", "C93 S262 C543 S15 C12"},
		{"an MCS disconnect's size", "C93 S262 C543 S9 C12"},
	} {
		for _, suite := range []int{gcm12, gcm13, chacha, sha1} {
			if suite == sha1 && (strings.Contains(c.sizes, "S5") || strings.Contains(c.sizes, "S9")) {
				continue // smaller than 12: no host sends these before, and CBC does not tell them from 11
			}
			for _, ex := range []bool{false, true} {
				w := New(ex)
				if got := play(w, append(handshake(suite), exchange(suite, c.sizes)...)); got == Accepted || got == Entering {
					t.Errorf("%s, suite %#x: %s", c.name, suite, got)
				}
			}
		}
	}
	// EncryptedExtensions of 11 bytes: with the answer to a wish of the client.
	h := handshake(gcm13)
	h[3].b = sealed(28)
	if got := play(New(true), append(h, exchange(gcm13, "C57 S262 C543 S59 C76")...)); got != Undecided {
		t.Errorf("EncryptedExtensions count: %s", got)
	}
	// The client's data in front of the host's handshake does not make that count.
	h = append([]piece{h[0], {false, sealed(69)}, {false, sealed(500)}}, h[1:]...)
	if got := play(New(true), h); got != Undecided {
		t.Errorf("with data of the client before: %s", got)
	}
}

// TestTheHoldBeginsWithTheNextRecord: in the middle of one that had begun before,
// nothing is said; the verdict comes with the bytes that hold the next header.
func TestTheHoldBeginsWithTheNextRecord(t *testing.T) {
	w := New(true)
	play(w, append(handshake(gcm12), exchange(gcm12, "C57 S262 C543 S59 C76")...))
	begun := sealed(length(gcm12, 462))
	w.Client(begun[:200])
	w.Host(sealed(length(gcm12, 4)))
	if got := w.Client(begun[200:]); got != Accepted {
		t.Fatalf("the rest of an older record: %s", got)
	}
	if got := w.Client(begun[:4]); got != Accepted {
		t.Fatalf("not a whole header: %s", got)
	}
	if got := w.Client(begun[4:5]); got != Entering {
		t.Fatalf("the header of the next record: %s", got)
	}
}

// TestChunks: however the bytes are cut, the verdict is the same.
func TestChunks(t *testing.T) {
	all := captures(t)
	for i := range 200 {
		c := all[i%len(all)]
		want := play(New(false), c.pieces)
		if got := play(New(false), chop(c.pieces, rand.New(rand.NewPCG(1, uint64(i))))); got != want {
			t.Fatalf("%s, cut with seed %d: %s, want %s", c.name, i, got, want)
		}
	}
}

// chop joins neighbours of one direction and cuts them anew.
func chop(ps []piece, r *rand.Rand) (out []piece) {
	for i := 0; i < len(ps); {
		b := []byte{}
		j := i
		for ; j < len(ps) && ps[j].fromHost == ps[i].fromHost; j++ {
			b = append(b, ps[j].b...)
		}
		for len(b) > 0 {
			n := 1 + r.IntN(min(len(b), 1+r.IntN(900)))
			out = append(out, piece{ps[i].fromHost, b[:n]})
			b = b[n:]
		}
		i = j
	}
	return out
}
