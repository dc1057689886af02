package rdpserver

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
)

// ErrRedirectUnsupported is the answer to Redirect for a client that cannot be
// redirected. Nothing was sent: tell it by ErrorInfo instead.
var ErrRedirectUnsupported = errors.New("the client cannot be redirected")

// Redirection sends a client back to the address that it came to, with a token
// in its next Connection Request ([MS-RDPBCGR] 2.2.13.1).
type Redirection struct {
	// Token is the routing token, "Cookie: msts=…", 200 bytes at most. CR LF is
	// appended if it is not there. Tokens with that prefix are known to come back
	// from all clients.
	Token []byte
	// User and Domain replace what the client logs on with; "" leaves it alone.
	// At most 255 and 25 characters, because of FreeRDP's limits.
	User, Domain string
	// SessionID comes back as ClientInfo.RedirectedSessionID.
	SessionID uint32
}

// Redirect sends the client elsewhere. The client has Config.LeaveTimeout to
// leave; Close waits for it, and Run returns when it has. It fails with
// ErrRedirectUnsupported if the client says, or is known, to be unable.
func (c *Conn) Redirect(r Redirection) error {
	if !c.client.SupportsRedirect {
		return ErrRedirectUnsupported
	}
	packet, err := r.packet()
	if err != nil {
		return fmt.Errorf("redirection: %w", err)
	}
	c.writing.Lock()
	defer c.writing.Unlock()
	if c.leaving.Load() {
		return nil
	}
	if err := c.sendParting(packet); err != nil {
		return fmt.Errorf("redirecting the client: %w", err)
	}
	return nil
}

// supportsRedirect says whether a client that described itself by d can be sent
// elsewhere by a token.
func (d *clientData) supportsRedirect() bool {
	const supported, versionMask, version4 = 0x01, 0x3c, 3
	if d.clusterFlags&supported == 0 || d.clusterFlags&versionMask>>2 < version4 {
		return false
	}
	if d.clusterFlags&sessionIDValid != 0 {
		return true // it was redirected here
	}
	// rdesktop (up to 1.9.0 at least) crashes on a redirection that names no
	// address. It is as old as RDP 5 but for knowing error info.
	rdesktop := d.version == rdp5 && d.earlyCapabilities == earlyErrorInfo
	// Microsoft's client 8 for the Mac drops out when it is redirected.
	mac8 := d.version == rdp5 && d.build >= 10000 && d.build <= 30000
	return !rdesktop && !mac8
}

func (r *Redirection) packet() ([]byte, error) {
	const (
		maxToken  = 200
		maxUser   = 512 // bytes of UTF-16 with NUL
		maxDomain = 52

		loadBalanceInfo = 0x00000002
		userName        = 0x00000004
		domain          = 0x00000008

		redirectionPacket = 0x0400 // flag of the security header that it once was
	)
	token := bytes.TrimSuffix(r.Token, []byte("\r\n"))
	switch {
	case len(token) == 0 || len(token) > maxToken:
		return nil, fmt.Errorf("a token of %d bytes, 1 to %d are possible", len(token), maxToken)
	case bytes.ContainsAny(token, "\r\n"):
		return nil, errors.New("a token of several lines")
	}
	le := binary.LittleEndian
	flags := uint32(loadBalanceInfo)
	fields := le.AppendUint32(nil, uint32(len(token)+2))
	fields = append(fields, token...)
	fields = append(fields, '\r', '\n')
	for _, s := range []struct {
		flag uint32
		name string
		text string
		max  int
	}{{userName, "user", r.User, maxUser}, {domain, "domain", r.Domain, maxDomain}} {
		if s.text == "" {
			continue
		}
		text := encodeUTF16(s.text)
		if len(text) > s.max {
			return nil, fmt.Errorf("a %s of %d bytes, %d are possible", s.name, len(text), s.max)
		}
		flags |= s.flag
		fields = le.AppendUint32(fields, uint32(len(text)))
		fields = append(fields, text...)
	}
	// Windows pads by eight bytes and one, and clients are used to it.
	padding := bytes.Repeat([]byte{0xc0}, 8)

	body := []byte{0, 0} // pad2Octets
	body = le.AppendUint16(body, redirectionPacket)
	body = le.AppendUint16(body, uint16(12+len(fields)+len(padding)))
	body = le.AppendUint32(body, r.SessionID)
	body = le.AppendUint32(body, flags)
	body = append(body, fields...)
	body = append(body, padding...)
	body = append(body, 0)
	// Of all PDUs this one has no version in its type.
	return dataIndication(shareControl(pduRedirection, serverChannel, body)), nil
}
