package x224

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"strconv"
	"strings"
)

// knownToken reports whether text has the form of a routing token that is in
// use: load balancer tokens, session collections, cloud desktops.
func knownToken(text []byte) bool {
	for _, prefix := range [...]string{tokenPrefix, "tsv:", "mth://"} {
		if _, ok := cutPrefixFold(text, prefix); ok {
			return true
		}
	}
	return false
}

// cutPrefixFold is bytes.CutPrefix without regard to the case of ASCII letters.
func cutPrefixFold(b []byte, prefix string) (after []byte, found bool) {
	if len(b) < len(prefix) || !strings.EqualFold(string(b[:len(prefix)]), prefix) {
		return b, false
	}
	return b[len(prefix):], true
}

// ParseMSTSToken reads the address out of "Cookie: msts=ip.port.reserved", the
// token of an RD Connection Broker that redirects by IPv4 address: ip is the
// address's four bytes as a little-endian number, port its two bytes swapped.
// ok is false for anything else, such as an opaque token with that prefix.
//
// Any client can write any address here. Never connect to it unless it is the
// address of a configured host.
func ParseMSTSToken(token []byte) (ap netip.AddrPort, ok bool) {
	text, ok := cutPrefixFold(token, tokenPrefix)
	if !ok {
		return netip.AddrPort{}, false
	}
	// LoadBalanceInfo must have an even length and may be padded with a blank.
	parts := bytes.Split(bytes.TrimRight(text, " "), []byte("."))
	if len(parts) != 3 || len(bytes.Trim(parts[2], "0")) != 0 {
		return netip.AddrPort{}, false
	}
	ip, err := strconv.ParseUint(string(parts[0]), 10, 32)
	if err != nil {
		return netip.AddrPort{}, false
	}
	port, err := strconv.ParseUint(string(parts[1]), 10, 16)
	if err != nil || port == 0 {
		return netip.AddrPort{}, false
	}
	var addr [4]byte
	binary.LittleEndian.PutUint32(addr[:], uint32(ip))
	return netip.AddrPortFrom(netip.AddrFrom4(addr), swap16(uint16(port))), true
}

// AppendMSTSToken appends the token that ParseMSTSToken reads, without CR LF.
// ap must be an IPv4 address with a port; dst comes back unchanged otherwise.
func AppendMSTSToken(dst []byte, ap netip.AddrPort) []byte {
	addr := ap.Addr().Unmap()
	if !addr.Is4() || ap.Port() == 0 {
		return dst
	}
	b := addr.As4()
	dst = append(dst, tokenPrefix...)
	dst = strconv.AppendUint(dst, uint64(binary.LittleEndian.Uint32(b[:])), 10)
	dst = append(dst, '.')
	dst = strconv.AppendUint(dst, uint64(swap16(ap.Port())), 10)
	return append(dst, ".0000"...)
}

func swap16(n uint16) uint16 { return n>>8 | n<<8 }
