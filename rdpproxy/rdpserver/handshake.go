package rdpserver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/rdpbroker/rdpbroker/rdpproxy/x224"
)

// ClientInfo is what a client has told of itself by the end of Handshake. All of
// it is the client's word: nothing but PasswordOK proves who it is.
type ClientInfo struct {
	// User and Domain are the names of the Client Info PDU, in full. Domain may be
	// empty and User may be DOM\user or a UPN; both may be empty. After security
	// that has Authenticated the client they are that account's.
	User, Domain string
	// HasPassword: the client sent a password. PasswordOK: Config.CheckPassword
	// was asked about it, and said yes, or the security has Authenticated it.
	HasPassword, PasswordOK bool
	// ClientName is the name of the client's machine, 15 characters at most.
	ClientName string
	// Width and Height are the size of the desktop in pixels, ColorDepth its bits
	// per pixel: 16, 24 or 32.
	Width, Height, ColorDepth int
	// Program is the alternate shell that the client wants to run instead of a
	// desktop, WorkingDir where; usually empty.
	Program, WorkingDir string
	// Build is the client's build number, Version its protocol version
	// (0x00080004: RDP 5.0 to 8.1), EarlyCapabilities its earlyCapabilityFlags.
	Build, Version    uint32
	EarlyCapabilities uint16
	// Channels are the names of the static virtual channels that it asked for.
	Channels []string
	// SupportsRedirect: Redirect will not refuse.
	SupportsRedirect bool
	// RedirectedSessionID is the SessionID of the redirection that brought the
	// client here; 0 if none did.
	RedirectedSessionID uint32
	// Request is the Connection Request that it opened with.
	Request *x224.Request
	// Remote is its address; zero if the connection does not tell.
	Remote netip.AddrPort
}

// Info is what the client has told of itself.
func (c *Conn) Info() ClientInfo { return c.client }

// Handshake takes a new connection through the X.224 request, security, MCS and
// the channel joins, up to the Client Info PDU. Nothing has been promised to the
// client then, not even a licence. It owns nc: on error it is closed, otherwise
// Conn.Close closes it. A client without a security protocol in common fails
// with *NegotiationError, what is no RDP with *x224.FormatError.
func Handshake(ctx context.Context, nc net.Conn, cfg Config) (*Conn, error) {
	cfg = cfg.withDefaults()
	c := &Conn{cfg: cfg, log: cfg.Log, raw: impatientConn{nc, cfg.PacketTimeout}, frames: make([]byte, maxFrame)}
	c.client.Remote, _ = netip.ParseAddrPort(nc.RemoteAddr().String())
	err := c.start(ctx, func(ctx context.Context) error {
		if err := c.negotiate(ctx); err != nil {
			return err
		}
		if err := c.connectMCS(); err != nil {
			return err
		}
		return c.awaitClientInfo()
	})
	if err != nil {
		_ = c.Close()
		return nil, fmt.Errorf("handshake with %v: %w", nc.RemoteAddr(), err)
	}
	return c, nil
}

// start runs a part of the connection sequence within Config.StartTimeout.
func (c *Conn) start(ctx context.Context, part func(context.Context) error) error {
	late := fmt.Errorf("the client was not done after %v", c.cfg.StartTimeout)
	ctx, cancel := context.WithTimeoutCause(ctx, c.cfg.StartTimeout, late)
	defer cancel()
	return c.during(ctx, func() error { return part(ctx) })
}

// connectMCS answers the MCS Connect Initial PDU.
func (c *Conn) connectMCS() error {
	f, err := c.readFrame()
	if err != nil {
		return fmt.Errorf("reading MCS Connect Initial: %w", err)
	}
	if f.fastPath {
		return errors.New("fast-path input where MCS Connect Initial belongs")
	}
	userData, err := parseConnectInitial(f.body)
	if err != nil {
		return err
	}
	d, err := parseClientData(userData)
	if err != nil {
		return err
	}
	// The downgrade check of [MS-RDPBCGR] 5.4.2.1: somebody in between changed
	// the negotiation, or the answer to it.
	if d.hasSelected && d.selectedProtocol != c.selected {
		return fmt.Errorf("the client was told that %v was selected, it was %v", d.selectedProtocol, c.selected)
	}
	c.describe(d)

	answer := serverData{
		version:        rdp5,
		requested:      c.client.Request.Negotiation.Protocols,
		channels:       len(d.channels),
		messageChannel: c.message,
		multitransport: d.wantMultitransport,
	}
	if err := c.write(connectResponsePacket(answer.encode())); err != nil {
		return fmt.Errorf("sending MCS Connect Response: %w", err)
	}
	return nil
}

// describe takes over what d says of the client, and numbers its channels.
func (c *Conn) describe(d *clientData) {
	c.client.ClientName = d.name
	c.client.Width, c.client.Height = d.desktop()
	c.client.ColorDepth = d.depth()
	c.client.Build, c.client.Version = d.build, d.version
	c.client.EarlyCapabilities = d.earlyCapabilities
	c.client.Channels = d.channels
	c.client.SupportsRedirect = d.supportsRedirect()
	c.client.RedirectedSessionID = d.redirectedSession

	c.static = uint16(len(d.channels))
	next := firstStatic + c.static
	if d.wantMessageChannel {
		c.message, next = next, next+1
	}
	c.user = next
}

// awaitClientInfo serves attach and join requests until the Client Info PDU
// comes. Some clients send it before they have joined all channels.
func (c *Conn) awaitClientInfo() error {
	for {
		m, err := c.receive()
		if err != nil {
			return fmt.Errorf("reading Client Info: %w", err)
		}
		if m.fastPath || m.channel != ioChannel {
			continue
		}
		info, err := parseClientInfo(m.data)
		if errors.Is(err, errNotInfo) {
			continue
		}
		if err == nil {
			c.client.User, c.client.Domain = info.user, info.domain
			c.client.Program, c.client.WorkingDir = info.program, info.workingDir
			c.client.HasPassword = len(info.password) > 0
			if a, shown := c.secured.(Authenticated); shown {
				c.client.Domain, c.client.User = a.Authenticated()
				c.client.PasswordOK = true
			} else if c.client.HasPassword && c.cfg.CheckPassword != nil {
				c.client.PasswordOK = info.askPassword(c.cfg.CheckPassword)
			}
		}
		clear(m.data) // the password is in there, parsed or not
		return err
	}
}
