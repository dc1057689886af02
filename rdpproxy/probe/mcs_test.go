// SPDX-License-Identifier: GPL-3.0-only

package probe

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
)

// recorded returns packets of testdata/mstsc-windows.tsv by frame number,
// without TPKT and X.224 header.
func recorded(t testing.TB) map[string][]byte {
	t.Helper()
	b, err := os.ReadFile("testdata/mstsc-windows.tsv")
	if err != nil {
		t.Fatal(err)
	}
	frames := map[string][]byte{}
	for line := range strings.Lines(string(b)) {
		if f := strings.Split(strings.TrimSpace(line), "\t"); len(f) == 4 && f[0] != "frame" {
			frames[f[0]] = unhex(t, f[3])[7:]
		}
	}
	return frames
}

func TestConnectResponseOfWindows(t *testing.T) {
	d, err := parseConnectResponse(recorded(t)["12"])
	if err != nil {
		t.Fatal(err)
	}
	if d.ioChannel != 1003 || !slices.Equal(d.channels, []uint16{1004, 1005, 1006, 1007}) || d.encryptionMethod != 0 {
		t.Errorf("%+v", d)
	}
}

func TestConnectResponseRefused(t *testing.T) {
	good := recorded(t)["12"]
	for name, edit := range map[string]func([]byte) []byte{
		"another message":   func(b []byte) []byte { b[0] = 0; return b },
		"a refusal":         func(b []byte) []byte { b[5] = 3; return b },
		"another layout":    func(b []byte) []byte { b[6] = 3; return b },
		"no GCC":            func(b []byte) []byte { return bytes.Replace(b, []byte("McDn"), []byte("xxxx"), 1) },
		"no I/O channel":    func(b []byte) []byte { return bytes.Replace(b, []byte{0xeb, 0x03}, []byte{0, 0}, 1) },
		"a block too long":  func(b []byte) []byte { b[len(b)-6] = 99; return b },
		"a block too short": func(b []byte) []byte { b[len(b)-6] = 3; return b },
		"cut short":         func(b []byte) []byte { return b[:len(b)-20] },
		"nothing":           func([]byte) []byte { return nil },
	} {
		if d, err := parseConnectResponse(edit(slices.Clone(good))); err == nil {
			t.Errorf("%s: taken, %+v", name, d)
		}
	}
}

// TestSecurityBlock reads the key that comes with standard RDP security.
func TestSecurityBlock(t *testing.T) {
	le := binary.LittleEndian
	block := le.AppendUint16(nil, blockSecurity)
	block = le.AppendUint16(block, 4+16+32+5)
	for _, v := range []uint32{method128Bit, 3, 32, 5} {
		block = le.AppendUint32(block, v)
	}
	block = append(block, make([]byte, 32)...)
	block = append(block, "chain"...)
	network := []byte{0x03, 0x0c, 8, 0, 0xeb, 0x03, 0, 0}
	d, err := parseServerBlocks(append(network, block...))
	if err != nil || d.encryptionMethod != method128Bit || len(d.random) != 32 || string(d.certificate) != "chain" {
		t.Errorf("%+v, %v", d, err)
	}
	block[16] = 6 // one byte more of certificate than there is
	if _, err := parseServerBlocks(append(network, block...)); !errors.Is(err, errShort) {
		t.Errorf("a certificate that is not all there: %v", err)
	}
}

func TestParseIndication(t *testing.T) {
	d, err := parseIndication(recorded(t)["32"])
	if err != nil || d.channel != 1003 || !isLicence(d.data) {
		t.Errorf("%+v, %v", d, err)
	}
	var end *disconnectedError
	if _, err := parseIndication([]byte{0x21, 0x80}); !errors.As(err, &end) || end.reason != 3 {
		t.Errorf("disconnect: %v", err)
	}
	if _, err := parseIndication([]byte{0x20, 0x80}); !errors.As(err, &end) || end.reason != 1 || end.Error() != "the host ended the connection" {
		t.Errorf("disconnect: %v", err)
	}
	if _, err := parseIndication([]byte{0x22, 0}); !errors.As(err, &end) || !strings.Contains(end.Error(), "reason 4") {
		t.Errorf("disconnect: %v", err)
	}
	for _, b := range [][]byte{nil, {0x2e, 0}, {0x68, 0, 1, 3, 0xeb, 0x70, 5, 1}} {
		if d, err := parseIndication(b); err == nil {
			t.Errorf("% x: taken, %+v", b, d)
		}
	}
}

// TestConnectInitial looks for what the probe asks for behind grdp's back.
func TestConnectInitial(t *testing.T) {
	o, err := Options{Addr: "h:1", User: "u", Width: 1280, Height: 720, Depth: 32, ClientName: "a name of more than fifteen"}.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	b := connectInitial(o, 8)
	_, core, ok := strings.Cut(string(b), "\x01\xc0\xd8\x00")
	if !ok || b[0] != 0x7f || b[1] != 0x65 {
		t.Fatalf("no core data in % x", b)
	}
	c := cursor{b: []byte(core)}
	c.skip(4)
	if w, h := c.u16(), c.u16(); w != 1280 || h != 720 {
		t.Errorf("%d x %d", w, h)
	}
	c.skip(2 + 2 + 4 + 4)
	if name := fromUTF16(c.take(32)); name != "a name of more " {
		t.Errorf("client name %q", name)
	}
	c.skip(12 + 64 + 2 + 2 + 4)
	if depth, _, flags := c.u16(), c.u16(), c.u16(); depth != 24 || flags != 3 {
		t.Errorf("depth %d, early capabilities %#x", depth, flags)
	}
	c.skip(64 + 2)
	if selected := c.u32(); selected != 8 {
		t.Errorf("selected protocol %d", selected)
	}
	if !strings.Contains(string(b), "\x04\xc0\x0c\x00\x0d\x00\x00\x00\x00\x00\x00\x00") {
		t.Error("no cluster data")
	}
	if !strings.Contains(string(b), "\x03\xc0\x14\x00\x01\x00\x00\x00cliprdr\x00") {
		t.Error("no clipboard channel")
	}
}

func FuzzMCS(f *testing.F) {
	for _, b := range recorded(f) {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if d, err := parseConnectResponse(b); err == nil && d.ioChannel == 0 {
			t.Error("a response without an I/O channel")
		}
		d, err := parseIndication(b)
		if err != nil {
			return
		}
		all, err := splitShare(d.data)
		for _, m := range all {
			if len(m.body) > len(b) {
				t.Error("a message longer than its packet")
			}
			_, _ = parseDemandActive(m.body)
			_, _ = parseSessionInfo(m.body)
			_, _, _ = parseRedirect(m.body)
		}
		_ = err
	})
}
