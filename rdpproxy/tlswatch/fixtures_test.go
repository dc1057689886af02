package tlswatch

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
)

// piece is some bytes of one direction.
type piece struct {
	fromHost bool
	b        []byte
}

// rec is one record; the content is zeros where nothing reads it.
func rec(kind byte, body []byte) []byte {
	return append([]byte{kind, 3, 3, byte(len(body) >> 8), byte(len(body))}, body...)
}

func sealed(length int) []byte { return rec(typeApplicationData, make([]byte, length)) }

func msg(kind byte, body []byte) []byte {
	return append([]byte{kind, 0, byte(len(body) >> 8), byte(len(body))}, body...)
}

type ext struct {
	kind int
	data []byte
}

func exts(list ...ext) []byte {
	var b []byte
	for _, e := range list {
		b = binary.BigEndian.AppendUint16(b, uint16(e.kind))
		b = binary.BigEndian.AppendUint16(b, uint16(len(e.data)))
		b = append(b, e.data...)
	}
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...)
}

func clientHello(list ...ext) []byte {
	b := append([]byte{3, 3}, make([]byte, 32)...)
	b = append(b, 32)
	b = append(b, make([]byte, 32)...)
	b = append(b, 0, 2, 0xc0, 0x30, 1, 0)
	return msg(msgClientHello, append(b, exts(append(list, ext{extServerName, []byte("x")})...)...))
}

func serverHello(suite int, compression byte, list ...ext) []byte {
	b := append([]byte{3, 3}, make([]byte, 32)...)
	b = append(b, 0, byte(suite>>8), byte(suite), compression)
	return msg(msgServerHello, append(b, exts(list...)...))
}

var (
	selects13 = ext{extSupportedVersions, []byte{3, 4}}
	keyShare  = ext{extKeyShare, make([]byte, 36)}
)

const (
	gcm12  = 0xc030
	gcm13  = 0x1302
	chacha = 0xcca8
	sha1   = 0xc014
)

// handshake is everything up to the end of a full handshake.
func handshake(suite int) []piece {
	if suite>>8 == 0x13 {
		return []piece{
			{false, rec(typeHandshake, clientHello())},
			{true, rec(typeHandshake, serverHello(suite, 0, selects13, keyShare))},
			{true, rec(typeChangeCipherSpec, []byte{1})},
			{true, sealed(23)}, {true, sealed(720)}, {true, sealed(281)}, {true, sealed(69)},
			{false, rec(typeChangeCipherSpec, []byte{1})}, {false, sealed(69)},
		}
	}
	return []piece{
		{false, rec(typeHandshake, clientHello())},
		{true, rec(typeHandshake, serverHello(suite, 0, ext{extRenegotiationInfo, []byte{0}}))},
		{true, rec(typeHandshake, append(msg(msgCertificate, make([]byte, 696)), msg(msgServerKeyExchange, make([]byte, 200))...))},
		{true, rec(typeHandshake, msg(msgServerHelloDone, nil))},
		{false, rec(typeHandshake, make([]byte, 37))}, {false, rec(typeChangeCipherSpec, []byte{1})}, {false, rec(typeHandshake, make([]byte, 40))},
		{true, rec(typeHandshake, msg(msgNewSessionTicket, make([]byte, 166)))},
		{true, rec(typeChangeCipherSpec, []byte{1})}, {true, rec(typeHandshake, make([]byte, 40))},
	}
}

// length is how long a record of n bytes is under suite.
func length(suite, n int) int {
	switch {
	case suite>>8 == 0x13:
		return n + 17
	case suite == chacha:
		return n + 16
	case suite == sha1:
		return 16 + (n+20+1+15)/16*16
	}
	return n + 24
}

// play has a Watcher see the pieces. The second result is every verdict on the way.
func play(w *Watcher, ps []piece) Verdict {
	for _, p := range ps {
		if p.fromHost {
			w.Host(p.b)
		} else {
			w.Client(p.b)
		}
	}
	return w.Verdict()
}

// exchange is plain sizes as "C175 S1351": client and host.
func exchange(suite int, sizes string) (ps []piece) {
	for _, f := range strings.Fields(sizes) {
		n, err := strconv.Atoi(f[1:])
		if err != nil {
			panic(err)
		}
		ps = append(ps, piece{f[0] == 'S', sealed(length(suite, n))})
	}
	return ps
}

// capture is one row of testdata/tls-records.tsv.
type capture struct {
	name, outcome, selected string
	pieces                  []piece
}

// captures rebuilds the recorded connections: with the sizes of the capture, and
// hellos that say what the real ones said.
func captures(t testing.TB) (all []capture) {
	t.Helper()
	f, err := os.Open("testdata/tls-records.tsv")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		cols := strings.Split(s.Text(), "\t")
		if len(cols) != 6 || cols[0] == "case" {
			continue
		}
		c := capture{name: cols[0], outcome: cols[1], selected: cols[2]}
		plain := []byte{msgServerHello, msgCertificate, msgServerKeyExchange, msgServerHelloDone, msgNewSessionTicket}
		helloSent := false
		for _, field := range strings.Fields(cols[5]) {
			side, rest, _ := strings.Cut(field, ":")
			kind, size, ok := strings.Cut(rest, "=")
			if !ok || kind == "TPKT" {
				continue
			}
			n, err := strconv.Atoi(size)
			if err != nil {
				t.Fatal(err)
			}
			p := piece{fromHost: side == "S"}
			switch {
			case kind == "HS" && side == "C" && !helloSent:
				p.b, helloSent = rec(typeHandshake, clientHello()), true
			case kind == "HS" && side == "S" && len(plain) > 0:
				switch {
				case plain[0] != msgServerHello:
					p.b = rec(typeHandshake, msg(plain[0], make([]byte, n-4)))
				case cols[3] == "TLS1.2":
					p.b = rec(typeHandshake, serverHello(gcm12, 0, ext{extRenegotiationInfo, []byte{0}}, ext{extExtendedMasterSecret, nil}))
				default:
					p.b = rec(typeHandshake, serverHello(gcm13, 0, selects13, keyShare))
				}
				plain = plain[1:]
			default:
				types := map[string]byte{"HS": typeHandshake, "CCS": typeChangeCipherSpec, "APP": typeApplicationData, "ALERT": typeAlert}
				p.b = rec(types[kind], make([]byte, n))
			}
			c.pieces = append(c.pieces, p)
		}
		all = append(all, c)
	}
	if len(all) < 15 {
		t.Fatal(fmt.Sprint(len(all), " captures"))
	}
	return all
}
