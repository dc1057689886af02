package rdpserver

import (
	"context"
	"errors"
	"fmt"

	"github.com/rdpbroker/rdpbroker/rdpproxy/x224"
)

// NegotiationError says that client and server have no security protocol in
// common. The client was told, if it had asked.
type NegotiationError struct {
	// Negotiated is false if the client did not negotiate at all (RDP 4 and 5):
	// such a client cannot be told, its connection is just closed.
	Negotiated bool
	// Offered is what the client can do; ProtocolRDP if it did not negotiate.
	Offered x224.Protocol
	// Speaks is what this server prefers.
	Speaks x224.Protocol
}

func (e *NegotiationError) Error() string {
	if !e.Negotiated {
		return fmt.Sprintf("the client does not negotiate security, this server speaks %v", e.Speaks)
	}
	return fmt.Sprintf("the client offers %v, this server speaks %v", e.Offered, e.Speaks)
}

// confirmSrcRef is the src-ref of Windows' Connection Confirm; clients ignore it.
const confirmSrcRef = 0x1234

// negotiate reads the Connection Request, answers it and secures the connection.
func (c *Conn) negotiate(ctx context.Context) error {
	opening, err := x224.ReadOpening(c.raw)
	if err != nil {
		return fmt.Errorf("reading the connection request: %w", err)
	}
	if opening.Preconnection != nil {
		// A Windows host knows no preconnection blob on its RDP port either:
		// whoever routes by it takes it off.
		return errors.New("a preconnection blob stands before the connection request")
	}
	c.client.Request = opening.Request

	way, refusal := choose(c.cfg.Security, opening.Request.Negotiation)
	if refusal != nil {
		if refusal.Negotiated {
			c.refuseNegotiation(refusal.Speaks)
		}
		return refusal
	}
	c.selected = way.Protocol()
	confirm := x224.Confirm{
		Negotiated: true,
		// No graphics pipeline and no Restricted Admin mode, but the blocks that ask
		// for a message channel.
		Flags:  x224.FlagExtendedClientData,
		Value:  uint32(c.selected),
		SrcRef: confirmSrcRef,
	}
	if err := c.write(confirm.Append(nil)); err != nil {
		return fmt.Errorf("answering the connection request: %w", err)
	}
	secured, err := way.Secure(ctx, c.raw)
	if err != nil {
		return fmt.Errorf("securing by %v: %w", c.selected, err)
	}
	c.secured = secured
	return nil
}

// choose finds the first of ours that the client offers.
func choose(ours []Security, neg *x224.Negotiation) (Security, *NegotiationError) {
	refusal := &NegotiationError{Speaks: ours[0].Protocol()}
	if neg == nil {
		return nil, refusal
	}
	for _, s := range ours {
		if neg.Protocols&s.Protocol() != 0 {
			return s, nil
		}
	}
	refusal.Negotiated, refusal.Offered = true, neg.Protocols
	return nil, refusal
}

// refuseNegotiation tells the client what it must offer. The connection is lost
// either way, so a failure to tell is not worth an error.
func (c *Conn) refuseNegotiation(speaks x224.Protocol) {
	code := x224.FailureSSLRequired
	if speaks != x224.ProtocolSSL {
		code = x224.FailureHybridRequired
	}
	failure := x224.Confirm{Negotiated: true, Failure: true, Value: code, SrcRef: confirmSrcRef}
	_ = c.write(failure.Append(nil))
}
