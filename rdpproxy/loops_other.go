//go:build !linux

package rdpproxy

import (
	"context"
	"net"

	"github.com/rdpbroker/rdpbroker/rdpproxy/relay"
)

// loops are for Linux only.
type loops struct{}

func newLoops(*Proxy) *loops { return nil }

func (*loops) stop() {}

func (*loops) takes(Listener) bool { return false }

func (*loops) serve(context.Context, *listening) error { return nil }

func (*loops) carry(*task, net.Conn, func(), []byte, relay.Result, *relay.Watch) bool { return false }
