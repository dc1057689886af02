// SPDX-License-Identifier: GPL-3.0-only

package probe

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
)

// userBase is added to MCS user numbers to get channel numbers, T.125.
const userBase = 1001

// mcsPDU is the choice of a DomainMCSPDU, T.125 7; it stands in the upper six
// bits of the first byte.
type mcsPDU uint8

const (
	mcsErectDomain    mcsPDU = 1
	mcsDisconnect     mcsPDU = 8
	mcsAttachUser     mcsPDU = 10
	mcsAttachConfirm  mcsPDU = 11
	mcsJoin           mcsPDU = 14
	mcsJoinConfirm    mcsPDU = 15
	mcsSend           mcsPDU = 25
	mcsSendIndication mcsPDU = 26
)

// serverData is what the host's GCC blocks say, [MS-RDPBCGR] 2.2.1.4.
type serverData struct {
	ioChannel uint16
	channels  []uint16 // in the order in which they were asked for; 0 is a refusal

	encryptionMethod uint32 // 0: no standard RDP security
	random           []byte
	certificate      []byte
}

// The GCC blocks of a host.
const (
	blockSecurity = 0x0c02
	blockNetwork  = 0x0c03
)

// parseConnectResponse reads an MCS Connect Response PDU.
func parseConnectResponse(b []byte) (*serverData, error) {
	in := cursor{b: b}
	if in.u16be() != 0x7f66 {
		return nil, errors.New("the host's answer is no MCS Connect Response")
	}
	in.berLength()
	in.skip(2) // result: ENUMERATED of one byte
	if result := in.u8(); result != 0 {
		return nil, fmt.Errorf("the host refused the MCS connection with result %d", result)
	}
	for _, tag := range []uint8{0x02, 0x30} { // calledConnectId, domainParameters
		if in.u8() != tag {
			in.short = true
		}
		in.skip(in.berLength())
	}
	if in.u8() != 0x04 || in.short {
		return nil, errors.New("the host's MCS Connect Response has another layout")
	}
	gccData := in.take(in.berLength())
	// The user data of the GCC Conference Create Response follows the key of the
	// H.221 identifier, T.124 8.7; nothing before it is of interest.
	_, blocks, ok := bytes.Cut(gccData, []byte("McDn"))
	if !ok || in.short {
		return nil, errors.New("the host's MCS Connect Response carries no GCC answer")
	}
	user := cursor{b: blocks}
	return parseServerBlocks(user.take(user.perLength()))
}

func parseServerBlocks(b []byte) (*serverData, error) {
	in := cursor{b: b}
	d := new(serverData)
	for len(in.b) > 0 {
		kind, length := in.u16(), int(in.u16())
		block := cursor{b: in.take(length - 4)}
		switch kind {
		case blockNetwork:
			d.ioChannel = block.u16()
			for range int(block.u16()) {
				d.channels = append(d.channels, block.u16())
				if block.short {
					break
				}
			}
		case blockSecurity:
			d.encryptionMethod = block.u32()
			if level := block.u32(); d.encryptionMethod != 0 || level != 0 {
				random, certificate := int(block.u32()), int(block.u32())
				d.random, d.certificate = block.take(random), block.take(certificate)
			}
		}
		if in.short || block.short {
			return nil, fmt.Errorf("the host's GCC block %#x: %w", kind, errShort)
		}
	}
	if d.ioChannel == 0 {
		return nil, errors.New("the host named no I/O channel")
	}
	return d, nil
}

// mcs is the connection after the domain has been set up.
type mcs struct {
	wire *wire
	user uint16
	io   uint16
	// clip is the clipboard channel, 0 if the host does not have it.
	clip uint16
}

// joinMCS connects, attaches and joins the channels, [MS-RDPBCGR] 1.3.1.1.
func joinMCS(w *wire, o Options, selected uint32) (*mcs, *serverData, error) {
	if err := w.writeData(connectInitial(o, selected)); err != nil {
		return nil, nil, err
	}
	answer, err := w.readPacket()
	if err != nil {
		return nil, nil, fmt.Errorf("the host's MCS Connect Response: %w", err)
	}
	data, err := parseConnectResponse(answer.data)
	if err != nil {
		return nil, nil, err
	}
	m := &mcs{wire: w, io: data.ioChannel}
	if len(data.channels) > 0 {
		m.clip = data.channels[0]
	}
	if err := w.writeData([]byte{byte(mcsErectDomain) << 2, 1, 0, 1, 0}); err != nil {
		return nil, nil, err
	}
	if err := w.writeData([]byte{byte(mcsAttachUser) << 2}); err != nil {
		return nil, nil, err
	}
	confirm, err := m.confirmed(mcsAttachConfirm, "attach user")
	if err != nil {
		return nil, nil, err
	}
	m.user = confirm.u16be() + userBase
	if err := confirm.err(); err != nil {
		return nil, nil, fmt.Errorf("MCS attach user: %w", err)
	}
	for _, channel := range []uint16{m.user, m.io, m.clip} {
		if channel == 0 {
			continue
		}
		join := []byte{byte(mcsJoin) << 2}
		join = binary.BigEndian.AppendUint16(join, m.user-userBase)
		if err := w.writeData(binary.BigEndian.AppendUint16(join, channel)); err != nil {
			return nil, nil, err
		}
		_, err := m.confirmed(mcsJoinConfirm, fmt.Sprintf("join channel %d", channel))
		if errors.Is(err, errMCSRefused) && channel == m.clip {
			m.clip = 0
			continue
		}
		if err != nil {
			return nil, nil, err
		}
	}
	return m, data, nil
}

var errMCSRefused = errors.New("the host refused")

// confirmed reads the host's confirmation of what and returns the rest of it.
func (m *mcs) confirmed(want mcsPDU, what string) (*cursor, error) {
	p, err := m.wire.readPacket()
	if err != nil {
		return nil, fmt.Errorf("MCS %s: %w", what, err)
	}
	in := &cursor{b: p.data}
	got := mcsPDU(in.u8() >> 2)
	if p.fastPath || got != want {
		return nil, fmt.Errorf("MCS %s: the host answered with PDU %d", what, got)
	}
	if result := in.u8(); result != 0 {
		return nil, fmt.Errorf("MCS %s: %w with result %d", what, errMCSRefused, result)
	}
	return in, in.err()
}

// send sends data to the I/O channel.
func (m *mcs) send(data []byte) error {
	b := []byte{byte(mcsSend) << 2}
	b = binary.BigEndian.AppendUint16(b, m.user-userBase)
	b = binary.BigEndian.AppendUint16(b, m.io)
	b = append(b, 0x70) // high priority, begins and ends here
	b = binary.BigEndian.AppendUint16(b, uint16(len(data))|0x8000)
	return m.wire.writeData(append(b, data...))
}

// disconnect tells the host that the user leaves, T.125 7: Disconnect Provider
// Ultimatum with reason rn-user-requested.
func (m *mcs) disconnect() error {
	return m.wire.writeData([]byte{byte(mcsDisconnect)<<2 | 1, 0x80})
}

// disconnectedError says that the host ended the connection with an MCS
// Disconnect Provider Ultimatum.
type disconnectedError struct{ reason uint8 }

func (e *disconnectedError) Error() string {
	switch e.reason {
	case 1:
		return "the host ended the connection"
	case 3:
		return "the host ended the connection on the user's request"
	}
	return fmt.Sprintf("the host ended the connection with MCS reason %d", e.reason)
}

// indication is the data that the host sent to a channel.
type indication struct {
	channel uint16
	data    []byte
}

// parseIndication reads an MCS Send Data Indication.
func parseIndication(b []byte) (indication, error) {
	in := cursor{b: b}
	first := in.u8()
	switch mcsPDU(first >> 2) {
	case mcsSendIndication:
	case mcsDisconnect:
		return indication{}, &disconnectedError{reason: first&3<<1 | in.u8()>>7}
	default:
		return indication{}, fmt.Errorf("MCS PDU %d where data was expected", first>>2)
	}
	in.skip(2) // initiator
	d := indication{channel: in.u16be()}
	in.skip(1) // priority and segmentation
	d.data = in.take(in.perLength())
	if err := in.err(); err != nil {
		return d, fmt.Errorf("MCS data: %w", err)
	}
	return d, nil
}
