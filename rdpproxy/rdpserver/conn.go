package rdpserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/rdpbroker/rdpbroker/rdpproxy/x224"
)

// ClientInfo is what a client has told of itself by the end of Handshake. All of
// it is the client's word: nothing but PasswordOK proves who it is.
type ClientInfo struct {
	// User and Domain are the names of the Client Info PDU, in full. Domain may be
	// empty and User may be DOM\user or a UPN; both may be empty.
	User, Domain string
	// HasPassword: the client sent a password. PasswordOK: Config.CheckPassword
	// was asked about it, and said yes.
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

// errClientLeft: the client said goodbye.
var errClientLeft = errors.New("the client left")

// Conn is one client. Handshake makes it, Close ends it. Activate and Run read
// and are for one goroutine at a time; all else may be called from any.
type Conn struct {
	cfg Config
	log *zap.Logger

	raw      net.Conn // TCP, with a deadline for each write
	secured  net.Conn // raw inside Security; nil before
	selected x224.Protocol

	client  ClientInfo
	static  uint16 // how many static channels there are
	message uint16 // the message channel; 0: none
	user    uint16 // the client's user channel

	frames []byte // the buffer of readFrame

	reading struct {
		sync.Mutex
		until time.Time // no read may take longer, whatever else is asked for; zero: no limit
	}

	drawing sync.Mutex // held for a picture, before writing

	writing  sync.Mutex  // held for a packet
	licensed bool        // by writing
	active   atomic.Bool // set under writing
	leaving  atomic.Bool // set under writing: the client was told to go

	closing sync.Once
}

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

// Info is what the client has told of itself.
func (c *Conn) Info() ClientInfo { return c.client }

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
			if c.client.HasPassword && c.cfg.CheckPassword != nil {
				c.client.PasswordOK = info.askPassword(c.cfg.CheckPassword)
			}
		}
		clear(m.data) // the password is in there, parsed or not
		return err
	}
}

// message is something for RDP: data on a channel, or fast-path input.
type message struct {
	fastPath bool
	header   byte
	channel  uint16
	data     []byte // valid until the next receive
}

// receive reads on until there is something for RDP, and serves MCS meanwhile.
// errClientLeft and io.EOF mean that the client has gone in good order.
func (c *Conn) receive() (message, error) {
	for {
		f, err := c.readFrame()
		if err != nil {
			return message{}, err
		}
		if f.fastPath {
			return message{fastPath: true, header: f.header, data: f.body}, nil
		}
		pdu, err := parseDomainPDU(f.body)
		if err != nil {
			return message{}, err
		}
		switch pdu.kind {
		case sendDataRequest:
			return message{channel: pdu.channel, data: pdu.data}, nil
		case disconnectUltimatum:
			return message{}, errClientLeft
		case attachUserRequest:
			err = c.write(attachUserConfirmPacket(c.user))
		case channelJoinRequest:
			if !c.hasChannel(pdu.channel) {
				return message{}, fmt.Errorf("the client joins channel %d, which there is not", pdu.channel)
			}
			err = c.write(channelJoinConfirmPacket(c.user, pdu.channel))
		}
		if err != nil {
			return message{}, fmt.Errorf("answering MCS PDU %d: %w", pdu.kind, err)
		}
	}
}

func (c *Conn) hasChannel(id uint16) bool {
	return id == ioChannel || id == c.user || id == c.message && id != 0 ||
		id >= firstStatic && id < firstStatic+c.static
}

// start runs a part of the connection sequence within Config.StartTimeout.
func (c *Conn) start(ctx context.Context, part func(context.Context) error) error {
	late := fmt.Errorf("the client was not done after %v", c.cfg.StartTimeout)
	ctx, cancel := context.WithTimeoutCause(ctx, c.cfg.StartTimeout, late)
	defer cancel()
	return c.during(ctx, func() error { return part(ctx) })
}

// during runs op, and makes its reads fail when ctx ends. After that nothing can
// be read from the client any more: a packet may have been cut in half.
func (c *Conn) during(ctx context.Context, op func() error) error {
	stop := context.AfterFunc(ctx, func() { c.readUntil(time.Unix(1, 0)) })
	err := op()
	switch {
	case stop():
		return err
	case err == nil:
		return context.Cause(ctx)
	}
	return fmt.Errorf("%w: %w", context.Cause(ctx), err)
}

// stream is what carries packets at this stage.
func (c *Conn) stream() net.Conn {
	if c.secured != nil {
		return c.secured
	}
	return c.raw
}

func (c *Conn) readFrame() (frame, error) {
	c.allowRead(c.cfg.IdleTimeout)
	return readFrame(c.stream(), c.frames, func() { c.allowRead(c.cfg.PacketTimeout) })
}

// allowRead gives the next reads the time d, or less if readUntil said so.
// 0 is no limit.
func (c *Conn) allowRead(d time.Duration) {
	c.reading.Lock()
	defer c.reading.Unlock()
	deadline := c.reading.until
	if d > 0 {
		if t := time.Now().Add(d); deadline.IsZero() || t.Before(deadline) {
			deadline = t
		}
	}
	_ = c.raw.SetReadDeadline(deadline) // fails only on a closed connection, as the read will
}

// readUntil makes every read end by t, now and later. It cannot be taken back,
// only be moved forward.
func (c *Conn) readUntil(t time.Time) {
	c.reading.Lock()
	defer c.reading.Unlock()
	if c.reading.until.IsZero() || t.Before(c.reading.until) {
		c.reading.until = t
		_ = c.raw.SetReadDeadline(t)
	}
}

func (c *Conn) write(packets []byte) error {
	c.writing.Lock()
	defer c.writing.Unlock()
	return c.writeLocked(packets)
}

// writeLocked sends packets; c.writing is held. A write that fails or takes too
// long leaves half a packet behind, so the connection is over.
func (c *Conn) writeLocked(packets []byte) error {
	if _, err := c.stream().Write(packets); err != nil {
		_ = c.raw.Close()
		return err
	}
	return nil
}

// impatientConn gives each write a deadline, those that TLS makes by itself
// included (alerts, key updates).
type impatientConn struct {
	net.Conn
	timeout time.Duration
}

func (c impatientConn) Write(b []byte) (int, error) {
	_ = c.SetWriteDeadline(time.Now().Add(c.timeout)) // fails only if the write will
	return c.Conn.Write(b)
}

// sendParting sends the last packets that this client gets, and gives it
// Config.LeaveTimeout to react; c.writing is held.
func (c *Conn) sendParting(packets []byte) error {
	if err := c.licenseLocked(); err != nil {
		return err
	}
	if err := c.writeLocked(packets); err != nil {
		return err
	}
	c.leaving.Store(true)
	c.readUntil(time.Now().Add(c.cfg.LeaveTimeout))
	return nil
}

// Close ends the connection. After ErrorInfo or Redirect it waits until the
// client has left, Config.LeaveTimeout at most: closing at once would lose what
// the client was told, because it may still be sending. Closing again does
// nothing.
func (c *Conn) Close() error {
	var err error
	c.closing.Do(func() {
		if c.leaving.Load() {
			_, _ = io.Copy(io.Discard, c.raw) // until the client closes or readUntil strikes
		}
		if c.secured != nil {
			_ = c.secured.Close() // says goodbye; a client that is gone cannot hear it
		}
		err = c.raw.Close()
		if errors.Is(err, net.ErrClosed) {
			err = nil
		}
	})
	return err
}
