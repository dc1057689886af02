package tsts

import (
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"

	icaapi "github.com/oiweiwei/go-msrpc/msrpc/tsts/icaapi/v1"

	"github.com/rdpbroker/rdpbroker/sessions"
)

// WINSTATIONREMOTEADDRESS, [MS-TSTS] 2.2.2.21: a family, and aligned to 4 bytes a
// port and an address, before which IPv6 has the flow.
const (
	winStationRemoteAddress = 29 // of WINSTATIONINFOCLASS
	remoteSize              = 32
	familyIPv4              = 2
	familyIPv6              = 23
)

// parseRemoteAddress reads a WINSTATIONREMOTEADDRESS; the zero Addr if there is none in it.
func parseRemoteAddress(b []byte) netip.Addr {
	if len(b) < remoteSize {
		return netip.Addr{}
	}
	var a netip.Addr
	switch binary.LittleEndian.Uint16(b) {
	case familyIPv4:
		a, _ = netip.AddrFromSlice(b[8:12])
	case familyIPv6:
		a, _ = netip.AddrFromSlice(b[12:28])
	}
	if a = a.Unmap(); !a.IsValid() || a.IsUnspecified() {
		return netip.Addr{}
	}
	return a
}

// clients remembers where the clients of connected sessions come from, so that
// each connection is asked for once.
type clients struct {
	known map[string]netip.Addr
	off   bool // the host does not tell
}

// fill adds the clients' addresses to a reading. They are for people and for the
// memory of addresses: that one is missing is no error.
func (m *clients) fill(ctx context.Context, c *legacy, list []sessions.Session) {
	known := map[string]netip.Addr{}
	for i := range list {
		s := &list[i]
		if s.State != sessions.StateActive || !s.HasUser() {
			continue
		}
		key := fmt.Sprint(s.ID, s.Incarnation, s.Name) // the name, RDP-Tcp#7, is another at each connection
		addr, ok := m.known[key]
		if !ok && !m.off && c != nil && c.Err() == nil {
			var err error
			addr, err = c.clientAddr(ctx, s.ID)
			k, answer := answered(err)
			ok, m.off = err == nil, answer && k != kindGone
		}
		if ok {
			known[key], s.ClientAddr = addr, addr
		}
	}
	m.known = known
}

// clientAddr asks where the client of a session comes from.
func (c *legacy) clientAddr(ctx context.Context, id int) (netip.Addr, error) {
	got, err := c.api.WinStationQueryInformation(ctx, &icaapi.WinStationQueryInformationRequest{
		Server: c.server, LogonID: uint32(id), WinStationInformationClass: winStationRemoteAddress,
		WinStationInformation: make([]byte, remoteSize), WinStationInformationLength: remoteSize,
	})
	if got == nil {
		return netip.Addr{}, err
	}
	if err := verdict("RpcWinStationQueryInformation", got.Return, got.Result); err != nil {
		return netip.Addr{}, err
	}
	return parseRemoteAddress(got.WinStationInformation), nil
}
