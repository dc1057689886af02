package rdpserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/rdpbroker/rdpbroker/rdpproxy/x224"
)

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
	leaveBy  time.Time   // when it must have gone; set before leaving

	closing sync.Once
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

// during runs op, and makes its reads fail when ctx ends. After that nothing can
// be read from the client any more: a packet may have been cut in half.
func (c *Conn) during(ctx context.Context, op func() error) error {
	stop := context.AfterFunc(ctx, func() { c.readUntil(time.Unix(1, 0)) })
	err := op()
	stop()
	switch {
	case ctx.Err() == nil:
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
	c.leaveBy = time.Now().Add(c.cfg.LeaveTimeout)
	c.leaving.Store(true)
	c.readUntil(c.leaveBy)
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
			_ = c.raw.SetReadDeadline(c.leaveBy) // even if Run was told to end earlier
			_, _ = io.Copy(io.Discard, c.raw)
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
