package rdpserver

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/rdpbroker/rdpbroker/rdpproxy/x224"
)

// Types of the data blocks in GCC user data, [MS-RDPBCGR] 2.2.1.3.1.
const (
	clientCore           = 0xc001
	clientNetwork        = 0xc003
	clientCluster        = 0xc004
	clientMessageChannel = 0xc006
	clientMultitransport = 0xc00a

	serverCore           = 0x0c01
	serverSecurity       = 0x0c02
	serverNetwork        = 0x0c03
	serverMessageChannel = 0x0c04
	serverMultitransport = 0x0c08
)

// earlyCapabilityFlags of the client, [MS-RDPBCGR] 2.2.1.3.2.
const (
	earlyErrorInfo     = 0x0001
	earlyWant32Bits    = 0x0002
	earlyStatusInfo    = 0x0004
	earlyMonitorLayout = 0x0040
)

// rdp5 is the version of clients and servers from RDP 5.0 to 8.1.
const rdp5 = 0x00080004

// sessionIDValid in the cluster flags: the client was redirected, and repeats the
// session ID ([MS-RDPBCGR] 2.2.1.3.5).
const sessionIDValid = 0x02

// clientData is what the GCC blocks of the client say of it.
type clientData struct {
	version            uint32
	width, height      uint16
	colorDepth         uint16 // 4 or 8; the fields below refine it
	postBeta2Depth     uint16 // 0 if absent
	highColorDepth     uint16 // 0 if absent
	supportedDepths    uint16 // 0 if absent
	build              uint32
	name               string // of the client's machine, 15 characters at most
	earlyCapabilities  uint16
	selectedProtocol   x224.Protocol // what the client thinks that we selected
	hasSelected        bool
	channels           []string // names of the static virtual channels, 31 at most
	clusterFlags       uint32
	redirectedSession  uint32 // 0 without sessionIDValid
	wantMessageChannel bool
	wantMultitransport bool
}

// parseClientData reads the data blocks of a GCC Conference Create Request.
// Blocks that nobody here needs are skipped; of two of a kind the later counts.
func parseClientData(b []byte) (*clientData, error) {
	var (
		d       clientData
		hasCore bool
		rest    = cursor{b: b}
	)
	for len(rest.b) > 0 {
		kind, length := rest.u16(), int(rest.u16())
		block := cursor{b: rest.take(length - 4)}
		if rest.err != nil {
			return nil, fmt.Errorf("client data block %#04x of %d bytes: %w", kind, length, rest.err)
		}
		switch kind {
		case clientCore:
			hasCore = true
			d.parseCore(&block)
		case clientNetwork:
			d.parseNetwork(&block)
		case clientCluster:
			d.clusterFlags, d.redirectedSession = block.u32(), block.u32()
			if d.clusterFlags&sessionIDValid == 0 {
				d.redirectedSession = 0
			}
		case clientMessageChannel:
			d.wantMessageChannel = true
		case clientMultitransport:
			d.wantMultitransport = true
		}
		if block.err != nil {
			return nil, fmt.Errorf("client data block %#04x of %d bytes: %w", kind, length, block.err)
		}
	}
	if !hasCore {
		return nil, errors.New("the client sent no core data")
	}
	return &d, nil
}

// parseCore reads Client Core Data, [MS-RDPBCGR] 2.2.1.3.2. Everything from
// postBeta2ColorDepth on is optional: a client leaves out a field with all that
// follow it.
func (d *clientData) parseCore(c *cursor) {
	d.version = c.u32()
	d.width, d.height = c.u16(), c.u16()
	d.colorDepth = c.u16()
	c.skip(2 + 4) // SASSequence, keyboardLayout
	d.build = c.u32()
	d.name = decodeUTF16(c.take(32))
	c.skip(4 + 4 + 4 + 64) // keyboard type, subtype, function keys; IME file name
	if c.err != nil {
		return
	}
	optional := func(n int, set func()) {
		if len(c.b) >= n {
			set()
		} else {
			c.b = nil
		}
	}
	optional(2, func() { d.postBeta2Depth = c.u16() })
	optional(2+4, func() { c.skip(2 + 4) }) // clientProductId, serialNumber
	optional(2, func() { d.highColorDepth = c.u16() })
	optional(2, func() { d.supportedDepths = c.u16() })
	optional(2, func() { d.earlyCapabilities = c.u16() })
	optional(64+1+1, func() { c.skip(64 + 1 + 1) }) // clientDigProductId, connectionType, pad
	optional(4, func() { d.selectedProtocol, d.hasSelected = x224.Protocol(c.u32()), true })
}

// parseNetwork reads Client Network Data, [MS-RDPBCGR] 2.2.1.3.4.
func (d *clientData) parseNetwork(c *cursor) {
	count := c.u32()
	if count > maxStatic {
		c.fail(fmt.Errorf("%d static channels, %d are allowed", count, maxStatic))
		return
	}
	d.channels = make([]string, 0, count)
	for range count {
		d.channels = append(d.channels, decodeANSI(c.take(8)))
		c.skip(4) // options
	}
}

// depth is the colour depth of the session, in bits per pixel: 24 where the
// client takes it, because every client that does also takes it uncompressed.
func (d *clientData) depth() int {
	const supports24, supports32 = 0x1, 0x8
	const highColor24 = 24
	const postBeta24 = 0xca04
	switch {
	case d.supportedDepths&supports24 != 0 && d.highColorDepth >= highColor24:
		return 24
	case d.earlyCapabilities&earlyWant32Bits != 0 && d.supportedDepths&supports32 != 0:
		return 32
	case d.supportedDepths == 0 && d.postBeta2Depth == postBeta24:
		return 24
	}
	return 16
}

// Size limits of a desktop, [MS-RDPBCGR] 2.2.1.3.2 and 2.2.1.3.6.
const (
	minDesktop = 200
	maxDesktop = 8192
)

// desktop is the size of the session: the client's wish within the limits.
func (d *clientData) desktop() (width, height int) {
	within := func(n uint16) int { return min(max(int(n), minDesktop), maxDesktop) }
	return within(d.width), within(d.height)
}

// serverData is what goes back to the client, [MS-RDPBCGR] 2.2.1.4.
type serverData struct {
	version           uint32
	requested         x224.Protocol // what the client's Connection Request offered
	earlyCapabilities uint32
	channels          int    // how many static channels, numbered from firstStatic
	messageChannel    uint16 // 0: none
	multitransport    bool   // say that there is no UDP
}

func (d *serverData) encode() []byte {
	le := binary.LittleEndian
	block := func(b []byte, kind uint16, body []byte) []byte {
		b = le.AppendUint16(b, kind)
		b = le.AppendUint16(b, uint16(4+len(body)))
		return append(b, body...)
	}

	core := le.AppendUint32(nil, d.version)
	core = le.AppendUint32(core, uint32(d.requested))
	core = le.AppendUint32(core, d.earlyCapabilities)
	b := block(nil, serverCore, core)

	network := le.AppendUint16(nil, ioChannel)
	network = le.AppendUint16(network, uint16(d.channels))
	for i := range d.channels {
		network = le.AppendUint16(network, uint16(firstStatic+i))
	}
	if d.channels%2 == 1 {
		network = append(network, 0, 0)
	}
	b = block(b, serverNetwork, network)

	b = block(b, serverSecurity, make([]byte, 8)) // no method, no level: TLS does it

	if d.messageChannel != 0 {
		b = block(b, serverMessageChannel, le.AppendUint16(nil, d.messageChannel))
	}
	if d.multitransport {
		b = block(b, serverMultitransport, make([]byte, 4))
	}
	return b
}
