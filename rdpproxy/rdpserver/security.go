package rdpserver

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"

	"github.com/rdpbroker/rdpbroker/rdpproxy/x224"
)

// Security is one way to secure a connection after the X.224 exchange
// ([MS-RDPBCGR] 5.4.5): TLS alone, or TLS with CredSSP inside.
type Security interface {
	// Protocol is the bit of requestedProtocols that this way answers, and the
	// selectedProtocol of the answer.
	Protocol() x224.Protocol
	// Secure runs the server's side on c until MCS may start, and returns the
	// connection that carries it. It returns when ctx ends. c stays its caller's
	// to close, in particular when Secure fails.
	Secure(ctx context.Context, c net.Conn) (net.Conn, error)
}

// Authenticated is what the connection that Secure returns may also be: one whose
// client has shown a password already. It logs on as that account then, whatever
// its Client Info PDU says.
type Authenticated interface {
	// Authenticated is the account that has shown its password.
	Authenticated() (domain, user string)
}

// plainTLS is PROTOCOL_SSL: the server is authenticated, the client is not.
func plainTLS(conf *tls.Config) Security {
	if conf == nil {
		return tlsSecurity{}
	}
	conf = conf.Clone()
	conf.MinVersion = max(conf.MinVersion, tls.VersionTLS12)
	return tlsSecurity{conf}
}

type tlsSecurity struct{ conf *tls.Config }

func (tlsSecurity) Protocol() x224.Protocol { return x224.ProtocolSSL }

func (s tlsSecurity) Secure(ctx context.Context, c net.Conn) (net.Conn, error) {
	if s.conf == nil {
		return nil, errors.New("no TLS configuration")
	}
	secured := tls.Server(c, s.conf)
	if err := secured.HandshakeContext(ctx); err != nil {
		return nil, fmt.Errorf("TLS handshake: %w", err)
	}
	return secured, nil
}
