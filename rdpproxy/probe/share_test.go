// SPDX-License-Identifier: GPL-3.0-only

package probe

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"
)

func TestDemandActiveOfWindows(t *testing.T) {
	d, err := parseIndication(recorded(t)["33"])
	if err != nil {
		t.Fatal(err)
	}
	all, err := splitShare(d.data)
	if err != nil || len(all) != 1 || all[0].kind != shareDemandActive {
		t.Fatalf("%+v, %v", all, err)
	}
	demand, err := parseDemandActive(all[0].body)
	if err != nil || demand.shareID == 0 || demand.width < 200 || demand.height < 200 {
		t.Errorf("%+v, %v", demand, err)
	}
	t.Logf("share %#x, %d x %d", demand.shareID, demand.width, demand.height)
	for n := range all[0].body[:len(all[0].body)-8] {
		if _, err := parseDemandActive(all[0].body[:n]); err == nil {
			t.Fatalf("%d of %d bytes are taken", n, len(all[0].body))
		}
	}
}

func TestDemandActiveTooLarge(t *testing.T) {
	le := binary.LittleEndian
	b := le.AppendUint32(nil, 1)
	b = append(b, 0, 0, 0, 0, 1, 0, 0, 0)
	b = append(b, 2, 0, 16, 0)
	b = append(b, make([]byte, 8)...)
	b = le.AppendUint16(b, 8192)
	b = le.AppendUint16(b, 8192)
	if d, err := parseDemandActive(b); err == nil {
		t.Errorf("taken: %+v", d)
	}
}

// TestSplitShare takes a packet of Windows, a Set Error Info PDU, and the same
// behind others.
func TestSplitShare(t *testing.T) {
	errorInfo := unhex(t, "160017000000"+"ea030100000116002f000000"+"0b000000")
	flow := unhex(t, "0080410000000000")
	compressed := slices.Clone(errorInfo)
	compressed[15] = 0x20 // compressedType
	all, err := splitShare(slices.Concat(flow, errorInfo, compressed))
	if err != nil || len(all) != 2 {
		t.Fatalf("%+v, %v", all, err)
	}
	if m := all[0]; m.kind != shareData || m.data2 != dataErrorInfo || m.compressed || len(m.body) != 4 {
		t.Errorf("%+v", m)
	}
	if !all[1].compressed {
		t.Error("a compressed message is not seen as such")
	}
	for name, b := range map[string][]byte{
		"a length of nothing":  {5, 0, 0x17, 0, 0, 0},
		"too long":             {99, 0, 0x17, 0, 0, 0},
		"a flow PDU cut short": flow[:5],
		"a data PDU cut short": {10, 0, 0x17, 0, 0, 0, 1, 1, 1, 1},
	} {
		if all, err := splitShare(b); err == nil {
			t.Errorf("%s: taken, %+v", name, all)
		}
	}
}

// TestConfirmActive reads grdp's bytes: every set has the length that it says.
func TestConfirmActive(t *testing.T) {
	b := confirmActive(Options{Depth: 24}, demandActive{shareID: 0x103ea, width: 1024, height: 768})
	in := cursor{b: b}
	if id := in.u32(); id != 0x103ea {
		t.Errorf("share %#x", id)
	}
	in.skip(2)
	source, combined := int(in.u16()), int(in.u16())
	in.skip(source)
	if combined != len(in.b) {
		t.Errorf("capabilities of %d bytes, said to be %d", len(in.b), combined)
	}
	n := int(in.u16())
	in.skip(2)
	kinds := map[uint16]bool{}
	for range n {
		kind, length := in.u16(), int(in.u16())
		set := cursor{b: in.take(length - 4)}
		kinds[kind] = true
		if kind == 3 { // no drawing orders
			set.skip(16 + 4 + 2 + 2 + 2 + 2 + 2 + 2)
			if orders := set.take(32); slices.Max(orders) != 0 {
				t.Errorf("drawing orders % x", orders)
			}
		}
	}
	if err := in.err(); err != nil || len(in.b) != 0 || len(kinds) != n {
		t.Errorf("%v, %d bytes left, %d kinds of %d sets", err, len(in.b), len(kinds), n)
	}
	if !kinds[capInput] || !kinds[capShare] {
		t.Errorf("kinds %v", kinds)
	}
	for _, graphics := range []uint16{0x17, 0x1c, 0x1d} { // remote programs, surface commands, codecs
		if kinds[graphics] {
			t.Errorf("capability %#x claimed", graphics)
		}
	}
}

// TestMessagesOfMstsc compares with what mstsc sent, byte for byte.
func TestMessagesOfMstsc(t *testing.T) {
	frames := recorded(t)
	initial := connectInitial(Options{}, 1)
	// Up to the tag of the user data, less the lengths.
	if got, want := initial[5:5+len(domainParameters)+1], frames["11"][5:5+len(domainParameters)+1]; !bytes.Equal(got, want) {
		t.Errorf("domain parameters\n% x, want\n% x", got, want)
	}
	out := &sink{}
	c := &channel{mcs: &mcs{wire: &wire{conn: out}, user: 1009, io: 1003}}
	for i, body := range finalization(demandActive{shareID: 0x103ea}) {
		if err := c.sendShare(shareData, body); err != nil {
			t.Fatal(err)
		}
		frame := []string{"36", "37", "38", "39"}[i]
		got, want := out.last[7:], frames[frame]
		// The length determinant of MCS takes one byte in mstsc's, and mstsc leaves
		// the font list's uncompressedLength empty.
		got = slices.Concat(got[:6], got[7:])
		if frame == "39" {
			got[19] = 0
		}
		if !bytes.Equal(got, want) {
			t.Errorf("frame %s:\n% x, want\n% x", frame, got, want)
		}
	}
}
