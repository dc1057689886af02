package auth

import (
	"context"
	"net"
	"os/user"
	"strconv"
)

type peerKey struct{}

// peer is who is at the other end of the Unix socket.
type peer struct{ name string }

// ConnContext is for http.Server: it notes who is at the other end of a Unix
// socket, as far as the system tells.
func ConnContext(ctx context.Context, c net.Conn) context.Context {
	for {
		w, ok := c.(interface{ NetConn() net.Conn })
		if !ok {
			break
		}
		c = w.NetConn()
	}
	uc, ok := c.(*net.UnixConn)
	if !ok {
		return ctx
	}
	p := peer{name: "local"}
	if uid, ok := peerUID(uc); ok {
		p.name = nameOf(uid)
	}
	return context.WithValue(ctx, peerKey{}, p)
}

// nameOf is the name of a user of this machine, or its number.
func nameOf(uid uint32) string {
	id := strconv.FormatUint(uint64(uid), 10)
	if u, err := user.LookupId(id); err == nil && goodName(u.Username) {
		return u.Username
	}
	return "uid " + id
}
