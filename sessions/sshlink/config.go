package sshlink

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"
)

// Config says how a host is reached over ssh.
type Config struct {
	// Addr is host:port. The port may be left out for 22.
	Addr string
	// User logs on. Required; for a domain account of Windows as sshd there takes
	// it, user@domain or domain\user.
	User string
	// KeyFile is a private key without a passphrase; "" for none.
	KeyFile string
	// Password returns the user's password; nil for none. It is called for each
	// new connection, so that a changed file or variable takes effect. There must
	// be a key or a password; of both the key is tried first.
	Password func() (string, error)
	// KnownHosts is a file as ssh(1) keeps it that has the host's key. Required:
	// a host with another key, or that is not in it, is not talked to.
	KnownHosts string
	// DialTimeout is how long connecting and logging on may take; 0 means 10 s.
	DialTimeout time.Duration
	// KeepAlive is the time between two questions whether the host is still
	// there; it is given up when it does not answer one in that time. 0 means 15 s.
	KeepAlive time.Duration
	// Dial makes the TCP connections to the host, in place of net.Dialer: for a
	// way around firewalls, or a network in memory. It must end when ctx does. Nil
	// means net.Dialer.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
}

func (c Config) withDefaults() Config {
	c.DialTimeout = cmp.Or(max(c.DialTimeout, 0), 10*time.Second)
	c.KeepAlive = cmp.Or(max(c.KeepAlive, 0), 15*time.Second)
	if _, _, err := net.SplitHostPort(c.Addr); err != nil {
		c.Addr = net.JoinHostPort(strings.Trim(c.Addr, "[]"), "22")
	}
	if c.Dial == nil {
		c.Dial = (&net.Dialer{}).DialContext
	}
	return c
}

// logon is what one connection is made with.
type logon struct {
	conf *ssh.ClientConfig
	// credentials tells key and password from others.
	credentials [sha256.Size]byte
	// password: one is among them, so that accounts can be locked out.
	password bool
}

// logon is made from the files as they are now.
func (c Config) logon() (logon, error) {
	switch {
	case c.User == "":
		return logon{}, errors.New("no user is configured")
	case c.KnownHosts == "":
		return logon{}, errors.New("no known_hosts file is configured")
	case c.KeyFile == "" && c.Password == nil:
		return logon{}, errors.New("neither a key file nor a password is configured")
	}
	check, err := knownhosts.New(c.KnownHosts)
	if err != nil {
		return logon{}, fmt.Errorf("known_hosts: %w", err)
	}
	l := logon{
		conf: &ssh.ClientConfig{
			User: c.User, HostKeyCallback: check,
			HostKeyAlgorithms: hostKeyAlgorithms(check, c.Addr),
		},
		password: c.Password != nil,
	}
	sum := sha256.New()
	if c.KeyFile != "" {
		b, err := os.ReadFile(c.KeyFile)
		if err != nil {
			return logon{}, fmt.Errorf("key file: %w", err)
		}
		key, err := ssh.ParsePrivateKey(b)
		if err != nil {
			return logon{}, fmt.Errorf("key file %s: %w", c.KeyFile, err)
		}
		l.conf.Auth = append(l.conf.Auth, ssh.PublicKeys(key))
		sum.Write(b)
	}
	sum.Write([]byte{0})
	if c.Password != nil {
		password, err := c.Password()
		if err != nil {
			return logon{}, err
		}
		l.conf.Auth = append(l.conf.Auth, offerOnce(password)...)
		sum.Write([]byte(password))
	}
	sum.Sum(l.credentials[:0])
	return l, nil
}

var (
	errPasswordRefused = errors.New("the password was refused")
	errMoreAsked       = errors.New("the host asks for more than a password")
)

// offerOnce are both ways to tell a password. It goes over once: a server that
// takes it in two ways would count two wrong ones.
func offerOnce(password string) []ssh.AuthMethod {
	offered := false
	plain := ssh.PasswordCallback(func() (string, error) {
		offered = true
		return password, nil
	})
	asked := ssh.KeyboardInteractive(func(_, _ string, questions []string, _ []bool) ([]string, error) {
		switch {
		case len(questions) == 0: // a greeting
			return nil, nil
		case offered:
			return nil, errPasswordRefused
		case len(questions) > 1:
			return nil, errMoreAsked
		}
		offered = true
		return []string{password}, nil
	})
	return []ssh.AuthMethod{plain, asked}
}
