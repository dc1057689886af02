package reach

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"

	"github.com/rdpbroker/rdpbroker/rdpproxy/x224"
)

// offers are made in this order, so that the first that leads to TLS is the one
// that mstsc makes.
var offers = []struct {
	offer     Offer
	protocols x224.Protocol
}{
	{OfferHybridEx, x224.ProtocolSSL | x224.ProtocolHybrid | x224.ProtocolHybridEx},
	{OfferHybrid, x224.ProtocolSSL | x224.ProtocolHybrid},
	{OfferSSL, x224.ProtocolSSL},
	{OfferRDP, x224.ProtocolRDP},
}

// Check asks the host at addr, "host:port". An error means that there is
// nothing to say about RDP: the address is malformed, no connection could be
// made, or ctx has ended. The Result holds what was found until then.
func Check(ctx context.Context, addr string, o Options) (Result, error) {
	o = o.withDefaults()
	r := Result{Addr: addr, Time: o.Now}
	if _, _, err := net.SplitHostPort(addr); err != nil {
		r.ConnectError = err.Error()
		return r, fmt.Errorf("checking %q: %w", addr, err)
	}
	for i, offer := range offers {
		if i > 0 && !pause(ctx, o.Pause) {
			return r, fmt.Errorf("checking %s: %w", addr, ctx.Err())
		}
		answer, err := r.ask(ctx, o, offer.protocols)
		if i == 0 && r.Remote == "" {
			r.ConnectError = err.Error()
			return r, fmt.Errorf("checking %s: %w", addr, err)
		}
		if ctx.Err() != nil {
			return r, fmt.Errorf("checking %s: %w", addr, ctx.Err())
		}
		if err != nil {
			answer.Error = err.Error()
		}
		answer.Offer = offer.offer
		r.Answers = append(r.Answers, answer)
	}
	return r, nil
}

func pause(ctx context.Context, d time.Duration) bool {
	if d < 0 {
		return ctx.Err() == nil
	}
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// ask makes one connection and one offer. If the host chooses TLS for the first
// time, the handshake is done as well.
func (r *Result) ask(ctx context.Context, o Options, offer x224.Protocol) (Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, o.Timeout)
	defer cancel()
	var d net.Dialer
	start := time.Now()
	conn, err := d.DialContext(ctx, "tcp", r.Addr)
	if err != nil {
		return Answer{}, err
	}
	defer conn.Close()
	// Closing ends all waits, also those of the TLS handshake.
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	if r.Remote == "" {
		r.Remote, r.ConnectMillis = conn.RemoteAddr().String(), millis(time.Since(start))
	}

	start = time.Now()
	confirm, err := negotiate(conn, offer)
	answer := Answer{Millis: millis(time.Since(start))}
	if err != nil {
		return answer, explain(ctx, err)
	}
	if confirm.Failure {
		answer.Failure = &Failure{Code: confirm.Value, Name: failureName(confirm.Value)}
		return answer, nil
	}
	selected, _ := confirm.Selected()
	answer.Selected, answer.Flags = selected.String(), flagNames(confirm.Flags)
	if selected != x224.ProtocolRDP && r.TLS == nil {
		r.TLS = shakeHands(ctx, conn, r.Addr)
		r.Names = coverage(r.TLS, o.Names)
	}
	return answer, nil
}

func negotiate(conn net.Conn, offer x224.Protocol) (*x224.Confirm, error) {
	request := x224.Request{Negotiation: &x224.Negotiation{Protocols: offer}}
	if _, err := conn.Write(request.Append(nil)); err != nil {
		return nil, fmt.Errorf("sending a connection request: %w", err)
	}
	packet, err := x224.ReadTPKT(conn, x224.MaxPacket)
	if err != nil {
		return nil, err
	}
	return x224.ParseConfirm(packet)
}

// explain says what an operator needs to know of an answer that is none.
func explain(ctx context.Context, err error) error {
	var format *x224.FormatError
	switch {
	case errors.As(err, &format):
		return fmt.Errorf("what listens there does not answer as an RDP host does: %w", err)
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return errors.New("no answer in time")
	case ctx.Err() != nil:
		return ctx.Err()
	}
	return fmt.Errorf("the host closed the connection without an answer: %w", err)
}

// flagNames are in the order of the bits; unknown ones come as "0x40".
func flagNames(flags uint8) []string {
	var names []string
	for bit := uint8(1); bit != 0; bit <<= 1 {
		if flags&bit == 0 {
			continue
		}
		switch bit {
		case x224.FlagExtendedClientData:
			names = append(names, "EXTENDED_CLIENT_DATA_SUPPORTED")
		case x224.FlagGraphicsPipeline:
			names = append(names, "DYNVC_GFX_PROTOCOL_SUPPORTED")
		case x224.FlagRestrictedAdminSupported:
			names = append(names, "RESTRICTED_ADMIN_MODE_SUPPORTED")
		case x224.FlagRedirectedAuthSupported:
			names = append(names, "REDIRECTED_AUTHENTICATION_MODE_SUPPORTED")
		default:
			names = append(names, fmt.Sprintf("%#02x", bit))
		}
	}
	return names
}

func failureName(code uint32) string {
	switch code {
	case x224.FailureSSLRequired:
		return "SSL_REQUIRED_BY_SERVER"
	case x224.FailureSSLNotAllowed:
		return "SSL_NOT_ALLOWED_BY_SERVER"
	case x224.FailureSSLNoCertificate:
		return "SSL_CERT_NOT_ON_SERVER"
	case x224.FailureBadFlags:
		return "INCONSISTENT_FLAGS"
	case x224.FailureHybridRequired:
		return "HYBRID_REQUIRED_BY_SERVER"
	case x224.FailureSSLUserAuth:
		return "SSL_WITH_USER_AUTH_REQUIRED_BY_SERVER"
	}
	return strconv.FormatUint(uint64(code), 10)
}
