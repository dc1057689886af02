package rdpserver

import (
	"encoding/binary"
	"unicode/utf16"
	"unicode/utf8"

	"golang.org/x/text/encoding/charmap"
)

// decodeUTF16 reads little-endian UTF-16 up to the first NUL. Broken surrogates
// become U+FFFD, an odd last byte is dropped.
func decodeUTF16(b []byte) string { return string(appendUTF16(nil, b)) }

// appendUTF16 appends to dst, as UTF-8, what decodeUTF16 reads from b.
func appendUTF16(dst, b []byte) []byte {
	for len(b) >= 2 {
		unit := rune(binary.LittleEndian.Uint16(b))
		b = b[2:]
		if unit == 0 {
			break
		}
		if utf16.IsSurrogate(unit) {
			var low rune
			if len(b) >= 2 {
				low = rune(binary.LittleEndian.Uint16(b))
			}
			if unit = utf16.DecodeRune(unit, low); unit != utf8.RuneError {
				b = b[2:]
			}
		}
		dst = utf8.AppendRune(dst, unit)
	}
	return dst
}

// encodeUTF16 is s in little-endian UTF-16 with a NUL at its end.
func encodeUTF16(s string) []byte {
	units := utf16.Encode([]rune(s))
	b := make([]byte, 0, 2*len(units)+2)
	for _, u := range units {
		b = binary.LittleEndian.AppendUint16(b, u)
	}
	return append(b, 0, 0)
}

// decodeANSI reads Windows-1252, the code page that [MS-RDPBCGR] names for
// clients without INFO_UNICODE, up to the first NUL.
func decodeANSI(b []byte) string { return string(appendANSI(nil, b)) }

// appendANSI appends to dst, as UTF-8, what decodeANSI reads from b.
func appendANSI(dst, b []byte) []byte {
	for _, x := range b {
		if x == 0 {
			break
		}
		dst = utf8.AppendRune(dst, charmap.Windows1252.DecodeByte(x))
	}
	return dst
}
