// SPDX-License-Identifier: GPL-3.0-only

package probe

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/rdpbroker/rdpbroker/rdpproxy/x224"
)

// Security is what the probe offers to the host.
type Security string

// All securities. "" is SecurityAuto.
const (
	// SecurityAuto offers all that mstsc offers, and standard RDP security in a
	// second connection if the host refuses TLS, as mstsc does.
	SecurityAuto Security = "auto"
	// SecurityNLA is CredSSP with NTLM: the probe fails if the host chooses less. It alone
	// shows the password only to a host that knows it already; with all others it
	// goes to whoever answers, because certificates are not verified.
	SecurityNLA Security = "nla"
	// SecurityTLS is TLS without CredSSP; the probe fails if the host chooses less.
	SecurityTLS Security = "tls"
	SecurityRDP Security = "rdp" // standard RDP security
)

func (s Security) protocols() x224.Protocol {
	switch s {
	case SecurityTLS:
		return x224.ProtocolSSL
	case SecurityRDP:
		return x224.ProtocolRDP
	}
	return x224.ProtocolSSL | x224.ProtocolHybrid | x224.ProtocolHybridEx
}

// Options say whom to log on where. Addr and User must be set.
type Options struct {
	// Addr is host:port, of a host or of a broker in front of hosts.
	Addr string
	// User is the account name: "user", "user@dom.example" or, if Domain is
	// empty, "DOM\user".
	User     string
	Domain   string
	Password string

	// Width, Height and Depth are those of the desktop to ask for; the host may
	// give another. Zero: 1024 x 768 with 32 bits per pixel. On xrdp another depth
	// is another session.
	Width, Height, Depth int

	// Timeout bounds all of the probe. Zero: 20 s.
	Timeout time.Duration
	// Settle is how long the screen must have been quiet for the picture to be
	// taken, when the desktop is reached; after four times as long it is taken
	// anyhow. Zero: 1 s; negative: at once.
	Settle time.Duration

	Security Security

	// Cookie replaces the user name in "Cookie: mstshash=". If it is a whole
	// routing token ("Cookie: …", "tsv://…", "mth://…"), that is sent instead.
	Cookie string
	// ServerName is the name to ask for in TLS. Empty: the host part of Addr.
	ServerName string
	// ClientName is what the host shows as the client's name. Empty: "rdpprobe".
	ClientName string

	// AcceptUnconfirmed counts a picture as a desktop even if the host never said
	// that the user is logged on. It may as well be a logon screen.
	AcceptUnconfirmed bool

	// redirectedSession is the number that a redirection gave; nil without one.
	redirectedSession *uint32
}

// maxCredential is what fits into a Client Info PDU, [MS-RDPBCGR] 2.2.1.11.1.1.
const maxCredential = 255

// Validate says what is wrong with o; Run would say the same.
func (o Options) Validate() error {
	_, err := o.withDefaults()
	return err
}

// withDefaults returns o with its zero values filled in, or says what is wrong.
func (o Options) withDefaults() (Options, error) {
	host, _, err := net.SplitHostPort(o.Addr)
	if err != nil {
		return o, fmt.Errorf("address: %w", err)
	}
	if o.User == "" {
		return o, errors.New("no user name")
	}
	if domain, user, ok := strings.Cut(o.User, `\`); ok && o.Domain == "" {
		o.Domain, o.User = domain, user
	}
	orDefault(&o.Width, 1024)
	orDefault(&o.Height, 768)
	orDefault(&o.Depth, 32)
	orDefault(&o.Timeout, 20*time.Second)
	orDefault(&o.Settle, time.Second)
	orDefault(&o.Security, SecurityAuto)
	orDefault(&o.ServerName, host)
	orDefault(&o.ClientName, "rdpprobe")

	switch {
	case o.Width < 200 || o.Height < 200 || o.Width > maxSide || o.Height > maxSide || o.Width*o.Height > maxArea:
		return o, fmt.Errorf("a desktop of %d x %d: each side must be between 200 and %d", o.Width, o.Height, maxSide)
	case o.Depth != 15 && o.Depth != 16 && o.Depth != 24 && o.Depth != 32:
		return o, fmt.Errorf("%d bits per pixel: must be 15, 16, 24 or 32", o.Depth)
	case max(len(o.User), len(o.Domain), len(o.Password)) > maxCredential:
		return o, fmt.Errorf("user name, domain and password must not be longer than %d bytes", maxCredential)
	case o.Timeout < 0:
		return o, errors.New("the timeout is negative")
	case strings.ContainsAny(o.Cookie, "\r\n"):
		return o, errors.New("the cookie has more than one line")
	}
	switch o.Security {
	case SecurityAuto, SecurityNLA, SecurityTLS, SecurityRDP:
	default:
		return o, fmt.Errorf("security %q: must be auto, nla, tls or rdp", o.Security)
	}
	return o, nil
}

func orDefault[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

// maxCookie keeps a request within its length indicator; longer names are cut,
// as the name is for routing only.
const maxCookie = 200

// request is the X.224 Connection Request for these protocols.
func (o Options) request(p x224.Protocol) *x224.Request {
	r := &x224.Request{Negotiation: &x224.Negotiation{Protocols: p}}
	for _, prefix := range []string{"Cookie: ", "tsv://", "mth://"} {
		if strings.HasPrefix(o.Cookie, prefix) {
			r.Token = []byte(o.Cookie)
			return r
		}
	}
	r.HasCookie, r.Cookie = true, o.User
	if o.Cookie != "" {
		r.Cookie = o.Cookie
	}
	r.Cookie = r.Cookie[:min(len(r.Cookie), maxCookie)]
	return r
}
