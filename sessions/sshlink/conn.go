package sshlink

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"
)

// Conn is one connection to a host. It ends with Close, or when the host is lost.
// Its methods may be called at the same time.
type Conn struct {
	client *ssh.Client
	ended  chan struct{} // closed when the connection has ended
	silent atomic.Bool   // the host did not answer a keep-alive
	once   sync.Once
	wg     sync.WaitGroup
}

// dial connects and logs on, in DialTimeout.
func dial(ctx context.Context, cfg Config, conf *ssh.ClientConfig) (*Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, cfg.DialTimeout)
	defer cancel()
	nc, err := cfg.Dial(ctx, "tcp", cfg.Addr)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { nc.Close() })
	var hostAccepted atomic.Bool // and from then on it is about our credentials
	check := conf.HostKeyCallback
	conf.HostKeyCallback = func(addr string, remote net.Addr, key ssh.PublicKey) error {
		err := check(addr, remote, key)
		hostAccepted.Store(err == nil)
		return err
	}
	cc, chans, reqs, err := ssh.NewClientConn(nc, cfg.Addr, conf)
	if !stop() && err == nil {
		cc.Close()
		err = ctx.Err()
	}
	if err != nil {
		nc.Close()
		if ctxErr := ctx.Err(); ctxErr != nil {
			return nil, ctxErr
		}
		var network net.Error
		if hostAccepted.Load() && !errors.Is(err, io.EOF) && !errors.As(err, &network) {
			return nil, &AuthError{Addr: cfg.Addr, User: cfg.User, Err: err}
		}
		return nil, hostKeyError(cfg.KnownHosts, err)
	}
	c := &Conn{client: ssh.NewClient(cc, chans, reqs), ended: make(chan struct{})}
	c.wg.Go(func() {
		defer close(c.ended)
		c.client.Wait()
	})
	c.wg.Go(func() { c.keepAlive(cfg.KeepAlive) })
	return c, nil
}

// keepAlive asks the host again and again whether it is there, and closes the
// connection when there is no answer in time.
func (c *Conn) keepAlive(every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-c.ended:
			return
		case <-tick.C:
		}
		late := time.AfterFunc(every, func() {
			c.silent.Store(true)
			c.client.Close()
		})
		// Any answer will do: hosts refuse a request that they do not know.
		_, _, err := c.client.SendRequest("keepalive@openssh.com", true, nil)
		late.Stop()
		if err != nil {
			c.client.Close()
			return
		}
	}
}

// Session opens a session. When ctx ends first the connection is closed, because
// nothing else ends the wait. The caller closes the session; it ends with the
// connection.
func (c *Conn) Session(ctx context.Context) (*ssh.Session, error) {
	stop := context.AfterFunc(ctx, func() { c.client.Close() })
	sess, err := c.client.NewSession()
	if !stop() {
		return nil, ctx.Err()
	}
	if err != nil {
		return nil, fmt.Errorf("open a session: %w", err)
	}
	return sess, nil
}

// Alive reports whether the connection has not ended.
func (c *Conn) Alive() bool {
	select {
	case <-c.ended:
		return false
	default:
		return true
	}
}

// ErrSilent is why a connection ended whose host did not answer any more.
var ErrSilent = errors.New("the host does not answer any more")

// Err is why the connection has ended, as far as that is known: ErrSilent or nil.
func (c *Conn) Err() error {
	if c.silent.Load() {
		return ErrSilent
	}
	return nil
}

// Close ends the connection, and with it all its sessions. Closing twice is harmless.
func (c *Conn) Close() error {
	c.once.Do(func() { c.client.Close() })
	c.wg.Wait()
	return nil
}
