package rdpserver

import (
	"bytes"
	"testing"
)

// seed adds every packet of mstsc and Windows to f, as cut makes it.
func seed(f *testing.F, cut func(packet []byte) []byte) {
	f.Helper()
	for _, packet := range capture(f) {
		if b := cut(packet); b != nil {
			f.Add(b)
		}
	}
}

func beyond(n int) func([]byte) []byte {
	return func(packet []byte) []byte {
		if len(packet) < n {
			return nil
		}
		return packet[n:]
	}
}

// FuzzStream: whatever a client sends, packets end where they say, and what
// the MCS layer hands on lies inside of them.
func FuzzStream(f *testing.F) {
	seed(f, beyond(0))
	f.Add([]byte{0x04, 4, 0, 0x26})
	f.Add([]byte{0x04, 0x80, 5, 0, 0x26, 0x04, 4, 1, 0x26})
	f.Fuzz(func(t *testing.T, stream []byte) {
		r, buf := bytes.NewReader(stream), make([]byte, maxFrame)
		for {
			before := r.Len()
			packet, err := readFrame(r, buf, func() {})
			if err != nil {
				return
			}
			if used := before - r.Len(); used > maxFrame || len(packet.body) >= used {
				t.Fatalf("%d bytes of body in a packet of %d", len(packet.body), used)
			}
			if packet.fastPath {
				_, _ = parseFastInput(packet.header, packet.body)
				continue
			}
			if p, err := parseDomainPDU(packet.body); err == nil && len(p.data) >= len(packet.body) {
				t.Fatalf("%d bytes of data in an MCS PDU of %d", len(p.data), len(packet.body))
			}
		}
	})
}

func FuzzConnectInitial(f *testing.F) {
	seed(f, beyond(headerLen))
	f.Fuzz(func(t *testing.T, b []byte) {
		userData, err := parseConnectInitial(b)
		if err != nil {
			return
		}
		checkClientData(t, userData)
	})
}

// FuzzClientData begins where FuzzConnectInitial hardly ever gets.
func FuzzClientData(f *testing.F) {
	userData, err := parseConnectInitial(capture(f)[11][headerLen:])
	if err != nil {
		f.Fatal(err)
	}
	f.Add(userData)
	f.Add(userData[:0x84]) // core data of an old client
	f.Fuzz(checkClientData)
}

// checkClientData: what is taken can be answered, and makes a desktop.
func checkClientData(t *testing.T, userData []byte) {
	d, err := parseClientData(userData)
	if err != nil {
		return
	}
	if len(d.channels) > maxStatic {
		t.Fatalf("%d channels", len(d.channels))
	}
	c := &Conn{}
	c.describe(d)
	info := c.Info()
	if info.Width < minDesktop || info.Width > maxDesktop || info.Height < minDesktop || info.Height > maxDesktop {
		t.Fatalf("desktop of %d×%d", info.Width, info.Height)
	}
	if info.ColorDepth != 16 && info.ColorDepth != 24 && info.ColorDepth != 32 {
		t.Fatalf("depth %d", info.ColorDepth)
	}
	if c.static > maxStatic || !c.hasChannel(c.user) || c.hasChannel(c.user+1) || c.hasChannel(0) {
		t.Fatalf("channels %+v", c)
	}
}

func FuzzClientInfo(f *testing.F) {
	const ioHeader = headerLen + 8 // with a long length
	seed(f, beyond(ioHeader))
	f.Add(infoPacket(infoUnicode, encodeUTF16, "CONTOSO", "zoë", "pässwörd€𝄞", "calc.exe", `C:\`))
	f.Add(infoPacket(0, ansi, "CONTOSO", "zo\xeb", "p\xe4ssw\x80rd", "calc.exe", `C:\`))
	f.Fuzz(func(t *testing.T, b []byte) {
		info, err := parseClientInfo(b)
		if err != nil {
			return
		}
		if len(info.password) > maxInfoString {
			t.Fatalf("password of %d bytes", len(info.password))
		}
		info.askPassword(func(_, _ string, password []byte) bool {
			if cap(password) > 3*len(info.password) {
				t.Fatal("the password outgrew its buffer, which was not wiped then")
			}
			return true
		})
	})
}

// FuzzShare covers all that comes on the I/O channel after Client Info.
func FuzzShare(f *testing.F) {
	seed(f, beyond(headerLen+7))
	seed(f, beyond(headerLen+8))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := parseSharePDU(b)
		if err != nil {
			return
		}
		if len(p.body) > len(b) {
			t.Fatalf("%d bytes in a PDU of %d", len(p.body), len(b))
		}
		switch {
		case p.kind == pduConfirmActive:
			_, _ = parseConfirmActive(p.body)
		case p.dataKind == dataInput:
			_, _ = parseInput(p.body)
		}
	})
}

func FuzzFastInput(f *testing.F) {
	f.Add(byte(0x08), []byte{0x00, 0x26, 0x01, 0x26})
	f.Add(byte(0x00), []byte{1, 0x20, 0, 0x08, 1, 2, 3, 4})
	f.Fuzz(func(t *testing.T, header byte, b []byte) {
		events, err := parseFastInput(header, b)
		if err != nil && events != nil {
			t.Fatal("events of a broken packet")
		}
		if len(events) > len(b) {
			t.Fatalf("%d events in %d bytes", len(events), len(b))
		}
	})
}
