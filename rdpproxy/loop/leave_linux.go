package loop

import (
	"bytes"
	"golang.org/x/sys/unix"
)

// Left is what a pair leaves behind that goes on elsewhere: two sockets that are
// connected still, and what is on the way between them. What a direction knows beside
// that (its sender has ended, its receiver is gone) its sockets tell again.
type Left struct {
	Client, Host int32
	// ToHost and ToClient were read from one side and are to be written to the other.
	ToHost, ToClient []byte
	// MovedToHost and MovedToClient are the bytes that were relayed before.
	MovedToHost, MovedToClient int64
}

// Leave ends p without a word to its owner and without an end of its connections: the
// sockets are the caller's. ok is false, and p goes on, if it is over already, has not
// heard from the host yet, or somebody watches it. For the loop's own goroutine.
func (p *Pair) Leave() (left Left, ok bool) {
	if p.over || p.watch != nil || p.answering {
		return Left{}, false
	}
	p.over = true
	l := p.l
	l.Stop(&p.timer)
	left = Left{
		Client: p.client.fd, Host: p.host.fd, ToHost: p.toHost.take(), ToClient: p.toClient.take(),
		MovedToHost: p.toHost.moved.Load(), MovedToClient: p.toClient.moved.Load(),
	}
	p.toHost.drop(l)
	p.toClient.drop(l)
	l.Forget(p.client.fd)
	l.Forget(p.host.fd)
	l.load.Add(-1)
	return left, true
}

// take is a copy of what d has in hand, and empties its pipe.
func (d *direction) take() []byte {
	if d.state == draining || d.state == finished {
		return nil
	}
	var out []byte
	if d.held != nil {
		out = bytes.Clone(d.held.left())
	}
	if d.piped == nil || d.piped.n == 0 {
		return out
	}
	// A direction never has both, but then a copy comes first in line.
	rest := make([]byte, d.piped.n)
	for len(rest) > 0 {
		n, err := unix.Read(int(d.piped.r), rest)
		if err == unix.EINTR {
			continue
		}
		if n <= 0 { // cannot be: the pipe is ours, and so many bytes are in it
			break
		}
		out = append(out, rest[:n]...)
		rest = rest[n:]
		d.piped.n -= n
	}
	return out
}

// Hear has b written to the client first. To be called before Relay.
func (p *Pair) Hear(b []byte) {
	if len(b) > 0 {
		p.toClient.held = &block{b: b}
	}
}
