package rdpserver

import (
	"errors"
	"fmt"
)

// clientInfo is the Info Packet of the Client Info PDU, [MS-RDPBCGR] 2.2.1.11.1.1.
type clientInfo struct {
	user, domain        string
	program, workingDir string
	unicode             bool
	// password is a piece of the packet, in the client's encoding, without NUL.
	password []byte
}

const (
	// securityInfo marks a Client Info PDU in the flags of its security header,
	// securityEncrypt a PDU of standard RDP security ([MS-RDPBCGR] 2.2.8.1.1.2.1).
	securityInfo    = 0x0040
	securityEncrypt = 0x0008

	infoUnicode = 0x00000010
	// maxInfoString is the longest string, in bytes, without its NUL.
	maxInfoString = 512
)

// errNotInfo: a packet on the I/O channel that is no Client Info PDU.
var errNotInfo = errors.New("not a Client Info PDU")

// parseClientInfo reads a Client Info PDU from its security header on. The
// Extended Info Packet behind the strings is not read.
func parseClientInfo(b []byte) (clientInfo, error) {
	c := cursor{b: b}
	flags := c.u16()
	c.skip(2) // flagsHi: mstsc leaves garbage in it
	switch {
	case c.err == nil && flags&securityInfo == 0:
		return clientInfo{}, errNotInfo
	case flags&securityEncrypt != 0:
		return clientInfo{}, errors.New("client info: encrypted by standard RDP security inside TLS")
	}
	c.skip(4) // code page or language
	info := clientInfo{unicode: c.u32()&infoUnicode != 0}
	var sizes [5]int
	for i := range sizes {
		sizes[i] = int(c.u16())
		if sizes[i] > maxInfoString {
			return clientInfo{}, fmt.Errorf("client info: a string of %d bytes, %d are allowed", sizes[i], maxInfoString)
		}
	}
	next := func(i int) []byte {
		s := c.take(sizes[i])
		if info.unicode {
			c.skip(2)
		} else {
			c.skip(1)
		}
		return s
	}
	decode := decodeANSI
	if info.unicode {
		decode = decodeUTF16
	}
	info.domain = decode(next(0))
	info.user = decode(next(1))
	info.password = next(2)
	info.program = decode(next(3))
	info.workingDir = decode(next(4))
	if c.err != nil {
		return clientInfo{}, fmt.Errorf("client info: %w", c.err)
	}
	return info, nil
}

// askPassword shows the password to check, in UTF-8, and wipes that copy.
func (info *clientInfo) askPassword(check func(user, domain string, password []byte) bool) bool {
	// Room for the longest: growing would leave pieces behind. One unit of UTF-16
	// or one byte of Windows-1252 is at most three bytes of UTF-8.
	plain := make([]byte, 0, 3*len(info.password))
	if info.unicode {
		plain = appendUTF16(plain, info.password)
	} else {
		plain = appendANSI(plain, info.password)
	}
	defer clear(plain[:cap(plain)])
	return check(info.user, info.domain, plain)
}
