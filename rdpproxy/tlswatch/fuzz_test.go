package tlswatch

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"testing"
)

// FuzzWatcher feeds it anything. The input is a row of pieces: one byte for the
// direction, two for the length, the bytes.
func FuzzWatcher(f *testing.F) {
	for _, c := range captures(f) {
		f.Add(encode(c.pieces), false, uint64(1))
	}
	for _, suite := range []int{gcm12, gcm13, chacha, sha1} {
		f.Add(encode(append(handshake(suite), exchange(suite, "C57 S262 C543 S59 C76 S4 C462")...)), true, uint64(2))
	}
	f.Fuzz(func(t *testing.T, input []byte, ex bool, seed uint64) {
		ps := decode(input)
		w := New(ex)
		got := play(w, ps)
		if (got == Unknown) != (w.Why() != "") {
			t.Fatalf("%s because %q", got, w.Why())
		}
		if got == Accepted || got == Entering {
			if !proven(ps) {
				t.Fatalf("%s without a record that proves it", got)
			}
		}
		if again := play(New(ex), chop(ps, rand.New(rand.NewPCG(seed, 1)))); again != got {
			t.Fatalf("%s, and cut in another way %s", got, again)
		}
	})
}

// proven is an oracle that is far too generous: the host has sent a record of
// application data with one of the sizes that prove something under some suite.
func proven(ps []piece) bool {
	var host []byte
	for _, p := range ps {
		if p.fromHost {
			host = append(host, p.b...)
		}
	}
	for len(host) >= headerLen {
		n := int(binary.BigEndian.Uint16(host[3:]))
		if host[0] == typeApplicationData && bytes.IndexByte([]byte{20, 21, 27, 28, 35, 48}, byte(n)) >= 0 && n < 256 {
			return true
		}
		host = host[min(len(host), headerLen+n):]
	}
	return false
}

func encode(ps []piece) (b []byte) {
	for _, p := range ps {
		side := byte(0)
		if p.fromHost {
			side = 1
		}
		b = append(b, side, byte(len(p.b)>>8), byte(len(p.b)))
		b = append(b, p.b...)
	}
	return b
}

func decode(b []byte) (ps []piece) {
	for len(b) >= 3 {
		n := min(int(b[1])<<8|int(b[2]), len(b)-3)
		ps = append(ps, piece{b[0]&1 == 1, b[3 : 3+n]})
		b = b[3+n:]
	}
	return ps
}
