package rdpserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
)

// Run reads what the client sends and passes its input on, in order and one at a
// time, until the client leaves; then it returns nil, and also when Close was
// called or the client left because it was told to. It returns the cause when
// ctx ends: the client is still there then, and may be told by ErrorInfo. Any
// other error means that the connection broke, that the client was silent for
// Config.IdleTimeout, or that it sent rubbish. The connection is the caller's to
// close in every case.
func (c *Conn) Run(ctx context.Context, onInput func(Event)) error {
	err := c.during(ctx, func() error { return c.serve(onInput) })
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.Is(err, errClientLeft), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF),
		errors.Is(err, net.ErrClosed), c.leaving.Load():
		return nil
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Errorf("%v was silent for too long: %w", c.client.Remote, err)
	}
	return fmt.Errorf("reading from %v: %w", c.client.Remote, err)
}

// serve never returns nil.
func (c *Conn) serve(onInput func(Event)) error {
	for {
		m, err := c.receive()
		if err != nil {
			return err
		}
		var events []Event
		switch {
		case m.fastPath:
			events, err = parseFastInput(m.header, m.data)
		case m.channel == ioChannel:
			events, err = c.handleShare(m.data)
		}
		if err != nil {
			return err
		}
		for _, e := range events {
			onInput(e)
		}
	}
}

// handleShare takes a PDU on the I/O channel of a client that is active.
func (c *Conn) handleShare(b []byte) ([]Event, error) {
	pdu, err := parseSharePDU(b)
	if err != nil || pdu.kind != pduData {
		return nil, err
	}
	switch pdu.dataKind {
	case dataInput:
		return parseInput(pdu.body)
	case dataShutdownRequest:
		// What Windows answers while a user is logged on: the client may ask its
		// user, and then disconnects by itself ([MS-RDPBCGR] 1.3.1.4.1).
		return nil, c.write(dataIndication(shareData(dataShutdownDenied, streamMedium, serverChannel, nil)))
	}
	return nil, nil
}
