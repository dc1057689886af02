package rdpserver

import (
	"bytes"
	"encoding/hex"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rdpbroker/rdpbroker/rdpproxy/x224"
)

// capture is one connection of mstsc (Windows 11, build 22621) to a Windows host
// without NLA, decrypted: frame number to packet.
func capture(t testing.TB) map[int][]byte {
	t.Helper()
	text, err := os.ReadFile("testdata/mstsc-exchange.tsv")
	if err != nil {
		t.Fatal(err)
	}
	packets := map[int][]byte{}
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "#") || strings.HasPrefix(line, "frame\t") {
			continue
		}
		fields := strings.Split(strings.TrimSpace(line), "\t")
		number, err := strconv.Atoi(fields[0])
		if err != nil || len(fields) != 4 {
			t.Fatalf("bad line %q", line)
		}
		packets[number] = unhex(t, fields[3])
		if want, _ := strconv.Atoi(fields[1]); want != len(packets[number]) {
			t.Fatalf("frame %d has %d bytes, it says %d", number, len(packets[number]), want)
		}
	}
	return packets
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// pdu is what is inside of a slow-path packet.
func pdu(t testing.TB, packet []byte) []byte {
	t.Helper()
	f, err := readFrame(bytes.NewReader(packet), make([]byte, maxFrame), func() {})
	if err != nil {
		t.Fatal(err)
	}
	return f.body
}

// ioData is the user data of a Send Data Request on the I/O channel.
func ioData(t testing.TB, packet []byte) []byte {
	t.Helper()
	p, err := parseDomainPDU(pdu(t, packet))
	if err != nil {
		t.Fatal(err)
	}
	if p.kind != sendDataRequest || p.channel != ioChannel {
		t.Fatalf("PDU %d on channel %d", p.kind, p.channel)
	}
	return p.data
}

func mstscData(t testing.TB) *clientData {
	t.Helper()
	userData, err := parseConnectInitial(pdu(t, capture(t)[11]))
	if err != nil {
		t.Fatal(err)
	}
	d, err := parseClientData(userData)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestClientDataOfMstsc(t *testing.T) {
	want := &clientData{
		version: 0x00080010, width: 0x0400, height: 0x0300,
		colorDepth: 0xca01, postBeta2Depth: 0xca01, highColorDepth: 24, supportedDepths: 15,
		build: 22621, name: "IT-HELP-CLIENT", earlyCapabilities: 0x0f2f,
		selectedProtocol: x224.ProtocolSSL, hasSelected: true,
		channels:     []string{"rdpdr", "rdpsnd", "cliprdr", "drdynvc"},
		clusterFlags: 0x15, wantMessageChannel: true, wantMultitransport: true,
	}
	if diff := cmp.Diff(want, mstscData(t), cmp.AllowUnexported(clientData{})); diff != "" {
		t.Error(diff)
	}
}

func TestClientInfoOfMstsc(t *testing.T) {
	got, err := parseClientInfo(ioData(t, capture(t)[31]))
	if err != nil {
		t.Fatal(err)
	}
	want := clientInfo{user: "Administrator@ad.it-help.ninja", unicode: true, password: []byte{}}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(clientInfo{})); diff != "" {
		t.Error(diff)
	}
}

// TestPacketsOfWindows: what this server sends are the bytes that Windows sent.
func TestPacketsOfWindows(t *testing.T) {
	const mcsHeaderEnd = headerLen + 7
	frames := capture(t)
	redirection := Redirection{Token: []byte("Cookie: msts=0123456789abcdef0123456789abcdef\r\n")}
	redirect, err := redirection.packet()
	if err != nil {
		t.Fatal(err)
	}
	windows := serverData{
		version: 0x0008000e, requested: x224.ProtocolSSL, earlyCapabilities: 6,
		channels: 4, messageChannel: 1008, multitransport: true,
	}
	for _, test := range []struct {
		name      string
		got, want []byte
	}{
		{"connect response", connectResponsePacket(windows.encode()), frames[12]},
		{"attach user confirm", attachUserConfirmPacket(1009), frames[16]},
		{"join user channel", channelJoinConfirmPacket(1009, 1009), frames[18]},
		{"join I/O channel", channelJoinConfirmPacket(1009, ioChannel), frames[20]},
		{"join message channel", channelJoinConfirmPacket(1009, 1008), frames[22]},
		{"join static channel", channelJoinConfirmPacket(1009, 1007), frames[30]},
		{"licence", dataIndication(validClient()), frames[32]},
		{"synchronize", synchronizePacket(), frames[41]},
		{"cooperate", controlPacket(controlCooperate, 0, 0), frames[42]},
		{"granted", controlPacket(controlGranted, 1009, serverChannel), frames[43]},
		{"font map", fontMapPacket(), frames[45]},
		// That one came with medium priority: 30 instead of 70 in the MCS header.
		{"error info", errorInfoPacket(ErrorDisconnectedByUser)[mcsHeaderEnd:], unhex(t,
			"0300002402f08068000103eb3016 160017000000 ea03010000011600 2f000000 0b000000")[mcsHeaderEnd:]},
		{"disconnect", disconnectPacket(), unhex(t, "0300000902f0802180")},
		// Not of Windows, but seen to be honoured by xfreerdp and rdesktop.
		{"pool not free", errorInfoPacket(ErrorPoolNotFree), unhex(t,
			"0300002402f08068000103eb7016160017000000ea030100000116002f00000008040000")},
		{"redirection", redirect, unhex(t, "0300005e02f08068000103eb7050 50000a00ea03 0000 0004 4700 00000000 02000000 2f000000"+
			"436f6f6b69653a206d7374733d30313233343536373839616263646566303132333435363738396162636465660d0a c0c0c0c0c0c0c0c0 00")},
	} {
		if !bytes.Equal(test.got, test.want) {
			t.Errorf("%s:\n got %x\nwant %x", test.name, test.got, test.want)
		}
	}
}

// TestDemandActiveOfWindows takes Windows' packet apart and puts it together.
func TestDemandActiveOfWindows(t *testing.T) {
	packet := capture(t)[33]
	c := cursor{b: packet}
	c.skip(len(dataIndication(make([]byte, 0x80))) - 0x80) // headers with a long length
	c.skip(shareControlLen + 4 + 2)                        // shareId, length of the source
	combined := int(c.u16())
	c.skip(len("RDP\x00"))
	sets := cursor{b: c.take(combined)}
	count := int(sets.u16())
	sets.skip(2)
	caps, err := parseCapabilities(&sets, count)
	if err != nil {
		t.Fatal(err)
	}
	if len(sets.b) != 0 || len(caps) != 17 {
		t.Errorf("%d capability sets, %d bytes are left over", len(caps), len(sets.b))
	}
	if got := demandActivePacket(caps); !bytes.Equal(got, packet) {
		t.Errorf("got %x\nwant %x", got, packet)
	}

	// The sets that this server sends have the sizes of those of Windows.
	size := map[uint16]int{}
	for _, s := range caps {
		size[s.kind] = len(s.body)
	}
	for _, s := range serverCapabilities(1024, 768, 24) {
		if want := size[s.kind]; s.kind != capBitmapCodecs && len(s.body) != want {
			t.Errorf("capability set %d has %d bytes, that of Windows %d", s.kind, len(s.body), want)
		}
	}
}

func TestConfirmActiveOfMstsc(t *testing.T) {
	p, err := parseSharePDU(ioData(t, capture(t)[35]))
	if err != nil {
		t.Fatal(err)
	}
	if p.kind != pduConfirmActive {
		t.Fatalf("kind %d", p.kind)
	}
	caps, err := parseConfirmActive(p.body)
	if err != nil {
		t.Fatal(err)
	}
	if len(caps) != 23 || caps[0].kind != capGeneral {
		t.Errorf("%d capability sets, the first is %d", len(caps), caps[0].kind)
	}
	for frame, want := range map[int]dataType{36: dataSynchronize, 37: dataControl, 38: dataControl, 39: dataFontList} {
		p, err := parseSharePDU(ioData(t, capture(t)[frame]))
		if err != nil || p.kind != pduData || p.dataKind != want {
			t.Errorf("frame %d: %+v, %v", frame, p, err)
		}
	}
}

// TestConnectResponseLengths: the lengths inside fit each other for every number
// of channels, which takes them from one byte to more.
func TestConnectResponseLengths(t *testing.T) {
	for channels := range maxStatic + 1 {
		d := serverData{channels: channels, messageChannel: 2000, multitransport: true}
		outer := cursor{b: pdu(t, connectResponsePacket(d.encode()))}
		body := cursor{b: outer.berElement(0x7f66)}
		body.berElement(0x0a)
		body.berElement(0x02)
		body.berElement(0x30)
		gcc := cursor{b: body.berElement(0x04)}
		gcc.skip(len(t124Key) + 1 + len(createResponse))
		userData := gcc.take(gcc.perLength())
		if outer.err != nil || body.err != nil || gcc.err != nil || len(outer.b)+len(body.b)+len(gcc.b) > 0 {
			t.Fatalf("%d channels: %v, %v, %v; left over: %x, %x, %x", channels, outer.err, body.err, gcc.err, outer.b, body.b, gcc.b)
		}
		for rest := (cursor{b: userData}); len(rest.b) > 0; {
			rest.skip(2)
			if rest.skip(int(rest.u16()) - 4); rest.err != nil {
				t.Fatalf("%d channels: %x", channels, userData)
			}
		}
	}
}
