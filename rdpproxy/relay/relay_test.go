package relay_test

import (
	"context"
	"net"
	"testing"

	"go.uber.org/goleak"

	"github.com/rdpbroker/rdpbroker/rdpproxy/relay"
	"github.com/rdpbroker/rdpbroker/rdpproxy/relay/relaytest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestBetweenSockets is the common case: splice on Linux.
func TestBetweenSockets(t *testing.T) { relaytest.Run(t, relay.Run) }

// TestWatched: and with a watcher.
func TestWatched(t *testing.T) { relaytest.RunWatched(t, relay.Run) }

// TestThroughBuffer hides that the connections are sockets, as any wrapper does.
func TestThroughBuffer(t *testing.T) {
	relaytest.Run(t, func(ctx context.Context, client, host net.Conn, o relay.Options) relay.Result {
		return relay.Run(ctx, wrapped{client}, wrapped{host}, o)
	})
}

// wrapped is a connection that can be half-closed and is no *net.TCPConn.
type wrapped struct{ net.Conn }

func (w wrapped) CloseWrite() error { return w.Conn.(*net.TCPConn).CloseWrite() }
