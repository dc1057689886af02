// SPDX-License-Identifier: GPL-3.0-only

package probe

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"unicode/utf16"
)

// The infoType of a Save Session Info PDU, [MS-RDPBCGR] 2.2.10.1.1.
const (
	infoLogon         = 0
	infoLogonLong     = 1
	infoPlainNotify   = 2
	infoLogonExtended = 3
)

// logonNews is what a Save Session Info PDU says.
type logonNews struct {
	done    bool // the user is logged on
	session *uint32
	account string // DOMAIN\user

	// notice is about the logon screen; refused says that the logon has failed.
	notice  *Code
	refused bool
}

func parseSessionInfo(b []byte) (logonNews, error) {
	in := cursor{b: b}
	var news logonNews
	switch kind := in.u32(); kind {
	case infoLogon:
		news.done = true
		domainSize, domain := int(in.u32()), in.take(52)
		userSize, user := int(in.u32()), in.take(512)
		news.account = account(prefix(domain, domainSize), prefix(user, userSize))
		news.session = optionalU32(&in)
	case infoLogonLong:
		news.done = true
		in.skip(2 + 4)
		id := in.u32()
		domainSize, userSize := int(in.u32()), int(in.u32())
		in.skip(558)
		news.session = &id
		news.account = account(in.take(domainSize), in.take(userSize))
	case infoPlainNotify:
		news.done = true
	case infoLogonExtended:
		return parseExtended(&in)
	default:
		return news, fmt.Errorf("session info of type %d", kind)
	}
	if err := in.err(); err != nil {
		return logonNews{}, fmt.Errorf("session info: %w", err)
	}
	return news, nil
}

// parseExtended reads a Logon Info Extended, 2.2.10.1.1.4: a cookie for
// reconnecting, which only a logged-on user gets, and notices of the logon screen.
func parseExtended(in *cursor) (logonNews, error) {
	const withCookie, withNotice = 1, 2
	var news logonNews
	in.skip(2)
	fields := in.u32()
	if fields&withCookie != 0 {
		cookie := cursor{b: in.take(int(in.u32()))}
		cookie.skip(4 + 4) // cbLen, Version
		news.done, news.session = true, optionalU32(&cookie)
	}
	if fields&withNotice != 0 {
		notice := cursor{b: in.take(int(in.u32()))}
		kind, data := notice.u32(), notice.u32()
		if err := notice.err(); err != nil {
			return logonNews{}, fmt.Errorf("logon notice: %w", err)
		}
		news.notice, news.refused = readNotice(kind, data)
	}
	if err := in.err(); err != nil {
		return logonNews{}, fmt.Errorf("session info: %w", err)
	}
	return news, nil
}

// readNotice names a notice, and says whether it is the end of the logon. The
// dialogs of the logon screen (the host is full, the session is busy) count as
// such, because there is nobody to answer them.
func readNotice(kind, data uint32) (*Code, bool) {
	const goesOn, warning = 0xfffffffe, 3
	c := newCode(kind, logonErrorNames)
	if c.Name != "" {
		return c, kind != goesOn
	}
	c.Name = ntStatusNames[kind]
	return c, data != warning
}

func optionalU32(in *cursor) *uint32 {
	if len(in.b) < 4 {
		return nil
	}
	v := in.u32()
	return &v
}

func prefix(b []byte, n int) []byte { return b[:max(0, min(n, len(b)))] }

// account joins domain and user, both UTF-16 with a NUL at the end.
func account(domain, user []byte) string {
	d, u := fromUTF16(domain), fromUTF16(user)
	if d == "" || u == "" {
		return u
	}
	return d + `\` + u
}

func fromUTF16(b []byte) string {
	units := make([]uint16, 0, len(b)/2)
	for ; len(b) >= 2; b = b[2:] {
		u := binary.LittleEndian.Uint16(b)
		if u == 0 {
			break
		}
		units = append(units, u)
	}
	return string(utf16.Decode(units))
}

// Redirect is a Server Redirection, [MS-RDPBCGR] 2.2.13.1.
type Redirect struct {
	// Address is where to connect to; empty: to the same address again.
	Address string `json:"address,omitempty"`
	// Token is the LoadBalanceInfo, to be sent as routing token.
	Token string `json:"token,omitempty"`
	// User and Domain replace those of the client.
	User   string `json:"user,omitempty"`
	Domain string `json:"domain,omitempty"`
	// SessionID is given back to the host that the client is sent to.
	SessionID uint32 `json:"session_id"`
	// Credentials says that a password was handed over, for RDSTLS. The probe
	// does not use it.
	Credentials bool `json:"credentials,omitempty"`
}

// parseRedirect reads an RDP_SERVER_REDIRECTION_PACKET. ok is false for a
// notice that is none: LB_NOREDIRECT.
func parseRedirect(b []byte) (r Redirect, ok bool, err error) {
	const (
		netAddress  = 0x0001
		balanceInfo = 0x0002
		userName    = 0x0004
		domain      = 0x0008
		password    = 0x0010
		noRedirect  = 0x0080
	)
	in := cursor{b: b}
	in.skip(2 + 2) // Flags, Length
	r.SessionID = in.u32()
	flags := in.u32()
	field := func(flag uint32) []byte {
		if flags&flag == 0 {
			return nil
		}
		return in.take(int(in.u32()))
	}
	r.Address = fromUTF16(field(netAddress))
	r.Token = string(bytes.TrimRight(field(balanceInfo), "\r\n\x00"))
	r.User = fromUTF16(field(userName))
	r.Domain = fromUTF16(field(domain))
	r.Credentials = len(field(password)) > 0
	if err := in.err(); err != nil {
		return Redirect{}, false, fmt.Errorf("server redirection: %w", err)
	}
	return r, flags&noRedirect == 0, nil
}
