// Package rdpfile writes .rdp files, the settings of a connection as Microsoft's
// clients keep them, and signs them as rdpsign.exe does. It does no I/O.
//
// A line is NAME:TYPE:VALUE, where the type is s for text and i for a number. The
// file is UTF-16, little endian, with a byte order mark and CR LF, as mstsc saves it.
package rdpfile

import (
	"encoding/binary"
	"fmt"
	"net"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	unicode16 "golang.org/x/text/encoding/unicode"
	"golang.org/x/text/transform"
)

// Options are what a file is made for.
type Options struct {
	// Address is the broker as its users reach it, host or host:port.
	Address string
	// User is the name that the client offers at the password prompt; "" for none.
	User string
	// LoadBalanceInfo is the routing token without CR LF; "" for none.
	LoadBalanceInfo string
}

// File is the settings, in the order of the file. Make one with New.
type File struct {
	settings []setting
	signed   []string // signscope and signature, once there are such
}

// setting is one line: its name, with type and colons, and its value.
type setting struct{ name, value string }

func (s setting) line() string { return s.name + s.value }

// New makes a file. The error says what cannot stand in one.
func New(o Options) (*File, error) {
	address, err := fullAddress(o.Address)
	if err != nil {
		return nil, err
	}
	for _, text := range []string{o.User, o.LoadBalanceInfo} {
		if !utf8.ValidString(text) || strings.ContainsFunc(text, unicode.IsControl) {
			return nil, fmt.Errorf("%q cannot stand in an .rdp file", text)
		}
	}
	f := &File{settings: []setting{
		{"full address:s:", address},
		// So that nobody can add another address to a signed file.
		{"alternate full address:s:", address},
	}}
	if o.User != "" {
		f.settings = append(f.settings, setting{"username:s:", o.User})
	}
	if o.LoadBalanceInfo != "" {
		f.settings = append(f.settings, setting{"loadbalanceinfo:s:", o.LoadBalanceInfo})
	}
	f.settings = append(f.settings, []setting{
		{"use redirection server name:i:", "1"}, // if a host redirects, it is the name to check
		{"prompt for credentials:i:", "0"},      // where the user has saved some, they do
		{"promptcredentialonce:i:", "1"},
		{"negotiate security layer:i:", "1"},
		{"enablecredsspsupport:i:", "1"}, // NLA: the broker's proof
		{"authentication level:i:", "2"}, // warn, if the host cannot show who it is
		{"autoreconnection enabled:i:", "1"},
		{"screen mode id:i:", "2"}, // full screen
		{"smart sizing:i:", "0"},
		{"dynamic resolution:i:", "1"},
		{"session bpp:i:", "32"},
		{"compression:i:", "1"},
		{"networkautodetect:i:", "1"},
		{"bandwidthautodetect:i:", "1"},
		{"audiomode:i:", "0"}, // play here
		{"redirectclipboard:i:", "1"},
		{"redirectprinters:i:", "1"},
		{"redirectsmartcards:i:", "1"},
		{"redirectcomports:i:", "0"},
		{"redirectposdevices:i:", "0"},
		{"drivestoredirect:s:", ""}, // no drive of the user's computer
	}...)
	return f, nil
}

// fullAddress checks host or host:port. Port 3389 is what clients take anyway.
func fullAddress(s string) (string, error) {
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		host, port = strings.Trim(s, "[]"), ""
	}
	n, numeric := strconv.ParseUint(port, 10, 16)
	bad := func(c rune) bool { return !unicode.IsPrint(c) || strings.ContainsRune(" /\\[]@", c) }
	if host == "" || strings.ContainsFunc(host, bad) || port != "" && (numeric != nil || n == 0) ||
		strings.Contains(host, ":") && net.ParseIP(host) == nil {
		return "", fmt.Errorf("%q is no address such as rdp.contoso.example or rdp.contoso.example:3390", s)
	}
	if port == "" || n == 3389 {
		if strings.Contains(host, ":") {
			return "[" + host + "]", nil
		}
		return host, nil
	}
	return net.JoinHostPort(host, port), nil
}

// Bytes is the file as it goes onto a disk.
func (f *File) Bytes() []byte {
	var text strings.Builder
	for _, s := range f.settings {
		text.WriteString(s.line() + "\r\n")
	}
	for _, l := range f.signed {
		text.WriteString(l + "\r\n")
	}
	return appendUTF16([]byte{0xff, 0xfe}, text.String())
}

func appendUTF16(dst []byte, s string) []byte {
	for _, u := range utf16.Encode([]rune(s)) {
		dst = binary.LittleEndian.AppendUint16(dst, u)
	}
	return dst
}

// Text is what the bytes of an .rdp file say: in UTF-16 with a byte order mark, as
// clients write it, or else in UTF-8. What is neither comes as U+FFFD.
func Text(b []byte) string {
	text, _, err := transform.Bytes(unicode16.BOMOverride(unicode16.UTF8.NewDecoder()), b)
	if err != nil {
		return "" // a decoder that replaces what it cannot read has none
	}
	return string(text)
}
