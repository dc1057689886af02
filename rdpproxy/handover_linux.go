package rdpproxy

import (
	"errors"
	"fmt"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"

	"github.com/rdpbroker/rdpbroker/rdpproxy/loop"
)

// giveUp implements giver.
func (q *quick) giveUp(result chan<- *Carried) {
	q.l.Post(func(*loop.Loop) {
		if q.step != relaying {
			result <- nil
			return
		}
		left, ok := q.pair.Leave()
		if !ok {
			result <- nil
			return
		}
		q.step = finished
		q.Answered(q.l)
		if q.cancel != nil {
			q.cancel(nil)
		}
		result <- &Carried{
			Client: os.NewFile(uintptr(left.Client), "client"), Host: os.NewFile(uintptr(left.Host), "host"),
			ToHost: left.ToHost, ToClient: left.ToClient,
			Listener: q.listener.Name, ClientAddr: q.client, Said: q.identity,
			HostName: q.relayed.host, Why: q.relayed.why, Resume: q.relayed.resume, Accepted: q.accepted,
			MovedToHost: left.MovedToHost, MovedToClient: left.MovedToClient,
		}
		q.conn.leave()
	})
}

// Adopt goes on with a connection that another process has handed over. rt is its
// Route here, of which Done will be called. It counts against the limits but is not
// refused by them. After an error c and rt are the caller's still.
func (p *Proxy) Adopt(c Carried, rt Route) error {
	lo := p.started()
	if lo == nil {
		return errors.New("connections can be taken over by loops only")
	}
	clientFD, err := loop.Dup(c.Client)
	if err != nil {
		return fmt.Errorf("taking over the client's end: %w", err)
	}
	hostFD, err := loop.Dup(c.Host)
	if err != nil {
		_ = unix.Close(int(clientFD))
		return fmt.Errorf("taking over the host's end: %w", err)
	}
	cfg := p.cfg.Load()
	q := &quick{conn: &conn{
		p: p, cfg: cfg, listener: &listening{Listener: Listener{Name: c.Listener}, p: p},
		client: c.ClientAddr, accepted: c.Accepted, identity: c.Said,
	}, l: lo.Lightest(), fd: clientFD, hostFD: hostFD, step: relaying}
	q.place.owner = q.conn
	p.limits.adopt(&q.place, c.ClientAddr.Addr())
	if !p.add(q.conn, q) || !q.began(rt, peer(hostFD), q) {
		q.conn.leave()
		_, _ = unix.Close(int(clientFD)), unix.Close(int(hostFD))
		return errStopping
	}
	p.observe.Accepted(c.Listener)
	q.pair.Count(c.MovedToHost, c.MovedToClient)
	q.pair.Say(c.ToHost)
	q.pair.Hear(c.ToClient)
	opts := lo.options(&Config{Linger: cfg.Linger}) // nothing is awaited of the host
	q.l.Post(func(l *loop.Loop) {
		l.Relay(&q.pair, loop.Socket{FD: clientFD}, loop.Socket{FD: hostFD}, opts, q)
	})
	c.Close()
	return nil
}

// peer is the address at the other end of a socket, invalid if that is gone.
func peer(fd int32) netip.AddrPort {
	sa, err := unix.Getpeername(int(fd))
	if err != nil {
		return netip.AddrPort{}
	}
	return sockaddr(sa)
}
