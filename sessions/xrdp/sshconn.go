package xrdp

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"
)

// AuthError says that a host did not accept the broker's credentials.
type AuthError struct {
	Addr, User string
	Err        error
}

func (e *AuthError) Error() string {
	return fmt.Sprintf("user %s was not let in: %v", e.User, e.Err)
}

func (e *AuthError) Unwrap() error { return e.Err }

// RetryAfter is how long to wait before the next attempt: hosts lock out who
// comes too often with wrong credentials.
func (e *AuthError) RetryAfter() time.Duration { return 2 * time.Minute }

// sshConn is one connection with its keep-alive.
type sshConn struct {
	client *ssh.Client
	ended  chan struct{} // closed when the connection has ended
	once   sync.Once
	wg     sync.WaitGroup
}

// dialSSH connects and logs on, in DialTimeout.
func dialSSH(ctx context.Context, cfg SSHConfig, conf *ssh.ClientConfig) (*sshConn, error) {
	ctx, cancel := context.WithTimeout(ctx, cfg.DialTimeout)
	defer cancel()
	nc, err := (&net.Dialer{}).DialContext(ctx, "tcp", cfg.Addr)
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
		return nil, hostKeyError(cfg, err)
	}
	c := &sshConn{client: ssh.NewClient(cc, chans, reqs), ended: make(chan struct{})}
	c.wg.Go(func() {
		defer close(c.ended)
		c.client.Wait()
	})
	c.wg.Go(func() { c.keepAlive(cfg.KeepAlive) })
	return c, nil
}

// hostKeyError says in plain words what known_hosts said of a host's key.
func hostKeyError(cfg SSHConfig, err error) error {
	var key *knownhosts.KeyError
	switch {
	case !errors.As(err, &key):
		return err
	case len(key.Want) == 0:
		return fmt.Errorf("%s has no key of the host: %w", cfg.KnownHosts, err)
	default:
		return fmt.Errorf("the host has another key than in %s; somebody may be in between: %w", cfg.KnownHosts, err)
	}
}

// keepAlive asks the host again and again whether it is there, and closes the
// connection when there is no answer in time.
func (c *sshConn) keepAlive(every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-c.ended:
			return
		case <-tick.C:
		}
		late := time.AfterFunc(every, func() { c.client.Close() })
		// Any answer will do: hosts refuse a request that they do not know.
		_, _, err := c.client.SendRequest("keepalive@openssh.com", true, nil)
		late.Stop()
		if err != nil {
			c.client.Close()
			return
		}
	}
}

func (c *sshConn) alive() bool {
	select {
	case <-c.ended:
		return false
	default:
		return true
	}
}

// close ends the connection and waits for its goroutines.
func (c *sshConn) close() {
	c.once.Do(func() { c.client.Close() })
	c.wg.Wait()
}

// session opens a session on the connection. When ctx ends first the connection
// is closed, because nothing else ends the wait.
func (c *sshConn) session(ctx context.Context) (*ssh.Session, error) {
	stop := context.AfterFunc(ctx, func() { c.client.Close() })
	sess, err := c.client.NewSession()
	if !stop() {
		return nil, ctx.Err()
	}
	return sess, err
}

// client is the configuration of a connection, from the files as they are now.
func (cfg SSHConfig) client() (*ssh.ClientConfig, error) {
	if cfg.KnownHosts == "" {
		return nil, errors.New("no known_hosts file is configured")
	}
	check, err := knownhosts.New(cfg.KnownHosts)
	if err != nil {
		return nil, fmt.Errorf("known_hosts: %w", err)
	}
	auth, err := cfg.auth()
	if err != nil {
		return nil, err
	}
	return &ssh.ClientConfig{
		User: cfg.User, Auth: auth, HostKeyCallback: check,
		HostKeyAlgorithms: hostKeyAlgorithms(check, cfg.Addr),
	}, nil
}

func (cfg SSHConfig) auth() (methods []ssh.AuthMethod, err error) {
	if cfg.KeyFile != "" {
		b, err := os.ReadFile(cfg.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("key file: %w", err)
		}
		key, err := ssh.ParsePrivateKey(b)
		if err != nil {
			return nil, fmt.Errorf("key file %s: %w", cfg.KeyFile, err)
		}
		methods = append(methods, ssh.PublicKeys(key))
	}
	if cfg.PasswordFile != "" {
		b, err := os.ReadFile(cfg.PasswordFile)
		if err != nil {
			return nil, fmt.Errorf("password file: %w", err)
		}
		line, _ := bufio.NewReader(bytes.NewReader(b)).ReadString('\n')
		password := strings.TrimRight(line, "\r\n")
		methods = append(methods, ssh.Password(password), ssh.KeyboardInteractive(
			func(_, _ string, questions []string, _ []bool) ([]string, error) {
				return slices.Repeat([]string{password}, len(questions)), nil
			}))
	}
	if len(methods) == 0 {
		return nil, errors.New("neither a key file nor a password file is configured")
	}
	return methods, nil
}

// hostKeyAlgorithms are the ones for the kinds of key that known_hosts has of the
// host; nil (the default) if it has none. Without this the host might show
// another of its keys, which would look like a wrong one.
func hostKeyAlgorithms(check ssh.HostKeyCallback, addr string) []string {
	var key *knownhosts.KeyError
	if err := check(addr, &net.TCPAddr{IP: net.IPv4zero}, noKey{}); !errors.As(err, &key) {
		return nil
	}
	var algorithms []string
	for _, known := range key.Want {
		switch kind := known.Key.Type(); kind {
		case ssh.KeyAlgoRSA: // the key's kind; signed by SHA-2 only
			algorithms = append(algorithms, ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256)
		default:
			algorithms = append(algorithms, kind)
		}
	}
	return algorithms
}

// noKey is a key that no host has.
type noKey struct{}

func (noKey) Type() string                        { return "none" }
func (noKey) Marshal() []byte                     { return []byte("none") }
func (noKey) Verify([]byte, *ssh.Signature) error { return errors.New("not a key") }
