package rdpserver

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"go.uber.org/zap"
)

// Activate licenses the client, exchanges capabilities and finishes the
// connection sequence: the client shows its desktop and Draw may fill it.
// FreeRDP gives up when it is not active 9 s after the negotiation. If ctx ends
// first, the connection can only be closed.
func (c *Conn) Activate(ctx context.Context) error {
	err := c.start(ctx, func(context.Context) error {
		if err := c.demandActive(); err != nil {
			return err
		}
		return c.finalize()
	})
	if err != nil {
		return fmt.Errorf("activating %v: %w", c.client.Remote, err)
	}
	return nil
}

func (c *Conn) demandActive() error {
	c.writing.Lock()
	defer c.writing.Unlock()
	if c.active.Load() || c.leaving.Load() {
		return errors.New("the client is active already, or leaving")
	}
	if err := c.licenseLocked(); err != nil {
		return err
	}
	caps := serverCapabilities(c.client.Width, c.client.Height, c.client.ColorDepth)
	if err := c.writeLocked(demandActivePacket(caps)); err != nil {
		return fmt.Errorf("sending Demand Active: %w", err)
	}
	return nil
}

// licenseLocked sends the licence if the client has none; c.writing is held.
// Clients ignore or refuse everything else before it.
func (c *Conn) licenseLocked() error {
	if c.licensed {
		return nil
	}
	if err := c.writeLocked(dataIndication(validClient())); err != nil {
		return fmt.Errorf("sending the licence: %w", err)
	}
	c.licensed = true
	return nil
}

// finalize answers the client's Confirm Active and finalization PDUs one by one:
// some clients send them all at once, some wait for each answer.
func (c *Conn) finalize() error {
	confirmed := false
	for {
		m, err := c.receive()
		if err != nil {
			return fmt.Errorf("waiting for the client's capabilities and fonts: %w", err)
		}
		if m.fastPath || m.channel != ioChannel {
			continue
		}
		pdu, err := parseSharePDU(m.data)
		if err != nil {
			return err
		}
		switch {
		case pdu.kind == pduConfirmActive:
			if _, err := parseConfirmActive(pdu.body); err != nil {
				return err
			}
			confirmed = true
			err = c.sendMonitorLayout()
		case pdu.kind != pduData || !confirmed:
			c.log.Debug("dropped a PDU of the connection sequence", zap.Uint8("kind", pdu.kind), zap.Uint8("data", uint8(pdu.dataKind)))
		case pdu.dataKind == dataFontList:
			return c.finish()
		default:
			err = c.answerFinalization(pdu)
		}
		if err != nil {
			return fmt.Errorf("finalizing: %w", err)
		}
	}
}

// sendMonitorLayout tells clients that know the PDU of the one monitor. Those of
// Microsoft for the Mac do not get along without.
func (c *Conn) sendMonitorLayout() error {
	if c.client.EarlyCapabilities&earlyMonitorLayout == 0 {
		return nil
	}
	return c.write(monitorLayoutPacket(c.client.Width, c.client.Height))
}

func (c *Conn) answerFinalization(pdu sharePDU) error {
	switch pdu.dataKind {
	case dataSynchronize:
		return c.write(synchronizePacket())
	case dataControl:
		if len(pdu.body) < 2 {
			return fmt.Errorf("control PDU: %w", errTruncated)
		}
		switch controlAction(binary.LittleEndian.Uint16(pdu.body)) {
		case controlCooperate:
			return c.write(controlPacket(controlCooperate, 0, 0))
		case controlRequest:
			return c.write(controlPacket(controlGranted, c.user, serverChannel))
		}
	}
	return nil // persistent keys, early input: nothing to say
}

// finish sends the last packet of the connection sequence.
func (c *Conn) finish() error {
	c.writing.Lock()
	defer c.writing.Unlock()
	if err := c.writeLocked(fontMapPacket()); err != nil {
		return fmt.Errorf("sending the font map: %w", err)
	}
	c.active.Store(true)
	return nil
}
