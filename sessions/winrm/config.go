package winrm

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"
)

// Defaults of Config.
const (
	DefaultPoll    = 15 * time.Second
	DefaultTimeout = 20 * time.Second
)

// Config says how one Windows host is reached.
type Config struct {
	// Endpoint is https://host:port/wsman, or host:port, or host. The port is
	// 5986 (5985 with PlainHTTP) and the path /wsman unless given.
	Endpoint string
	// User is DOMAIN\user, user@domain or a local user.
	User string
	// Password returns the user's password. It is called for each new
	// connection, so that a changed file or variable takes effect.
	Password func() (string, error)
	// CA are the certificates, in PEM, that may sign the host's; nil means the
	// system's. There is no way to skip verification.
	CA []byte
	// ServerName is the name in the host's certificate if it is not the
	// endpoint's.
	ServerName string
	// PlainHTTP speaks HTTP without TLS. The messages are then sealed by NTLM,
	// which keeps them secret and unchanged, as Windows demands by default; but
	// a weak password can be guessed from a recorded handshake.
	PlainHTTP bool
	// Basic sends the password itself instead of proving its knowledge by
	// NTLM. Only over TLS.
	Basic bool
	// Poll is the pause between readings; 0 means DefaultPoll.
	Poll time.Duration
	// Timeout is how long one command on the host may take; 0 means DefaultTimeout.
	Timeout time.Duration
	// Mode is how sessions are read and ended; "" means ModeText.
	Mode Mode
	// Processes is how often an agent reads the processes of all sessions as
	// well; 0 means 30 s, negative never.
	Processes time.Duration
	// TextEviction allows Evict where sessions are read by text. Off, such
	// readings cannot be used to choose a victim: whoever decides by text should
	// have decided to. An agent may always evict.
	TextEviction bool
	// Dial makes the TCP connections to the host, in place of net.Dialer: for a
	// way around firewalls, or a network in memory. It must end when ctx does. Nil
	// means net.Dialer.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
}

// Mode is how the sessions of a host are read and ended.
type Mode string

// The modes.
const (
	// ModeAuto runs an agent, and uses the text tools where the host cannot.
	ModeAuto Mode = "auto"
	// ModeAgent runs an agent on the host, or fails.
	ModeAgent Mode = "agent"
	// ModeText runs quser, qwinsta and logoff.
	ModeText Mode = "text"
)

// target is a checked Config.
type target struct {
	url        string // of the WS-Management service
	addr       string // host:port
	tls        *tls.Config
	account    string // as configured
	domain     string // of account, in the form DOMAIN\user
	user       string // of account, without the domain in that form
	password   func() (string, error)
	basic      bool
	poll       time.Duration
	timeout    time.Duration
	allowEvict bool
	dial       func(ctx context.Context, network, addr string) (net.Conn, error)
}

func (c Config) check() (*target, error) {
	u, err := c.endpoint()
	if err != nil {
		return nil, err
	}
	switch {
	case c.User == "":
		return nil, errors.New("no user")
	case c.Password == nil:
		return nil, errors.New("no password")
	case c.Basic && c.PlainHTTP:
		return nil, errors.New("basic authentication would send the password in clear over plain HTTP")
	case c.PlainHTTP && (c.CA != nil || c.ServerName != ""):
		return nil, errors.New("a CA or server name has no meaning over plain HTTP")
	case c.Mode != "" && c.Mode != ModeAuto && c.Mode != ModeAgent && c.Mode != ModeText:
		return nil, fmt.Errorf("mode %q is not auto, agent or text", c.Mode)
	case c.Poll < 0 || c.Timeout < 0:
		return nil, errors.New("a negative duration")
	}
	t := &target{
		url: u.String(), addr: u.Host, password: c.Password, basic: c.Basic, account: c.User, user: c.User,
		poll: orDefault(c.Poll, DefaultPoll), timeout: orDefault(c.Timeout, DefaultTimeout), allowEvict: c.TextEviction,
		dial: c.Dial,
	}
	if t.dial == nil {
		t.dial = new(net.Dialer).DialContext
	}
	if domain, user, ok := strings.Cut(c.User, `\`); ok {
		t.domain, t.user = domain, user
	}
	if !c.PlainHTTP {
		t.tls = &tls.Config{MinVersion: tls.VersionTLS12, ServerName: c.ServerName}
		if t.tls.ServerName == "" {
			t.tls.ServerName = u.Hostname()
		}
		if c.CA != nil {
			t.tls.RootCAs = x509.NewCertPool()
			if !t.tls.RootCAs.AppendCertsFromPEM(c.CA) {
				return nil, errors.New("the CA file holds no certificate")
			}
		}
	}
	return t, nil
}

func (c Config) endpoint() (*url.URL, error) {
	scheme, port := "https", "5986"
	if c.PlainHTTP {
		scheme, port = "http", "5985"
	}
	text := c.Endpoint
	if !strings.Contains(text, "://") {
		text = scheme + "://" + text
	}
	u, err := url.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("endpoint: %w", err)
	}
	switch {
	case u.Hostname() == "":
		return nil, fmt.Errorf("endpoint %q names no host", c.Endpoint)
	case u.Scheme != scheme && u.Scheme == "http":
		return nil, fmt.Errorf("endpoint %q is plain HTTP, which must be allowed explicitly", c.Endpoint)
	case u.Scheme != scheme:
		return nil, fmt.Errorf("endpoint %q: the scheme must be %s", c.Endpoint, scheme)
	case u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return nil, errors.New("the endpoint may have a host, a port and a path only")
	}
	if u.Port() == "" {
		u.Host = net.JoinHostPort(u.Hostname(), port)
	}
	if u.Path == "" || u.Path == "/" {
		u.Path = "/wsman"
	}
	return u, nil
}

func orDefault(d, otherwise time.Duration) time.Duration {
	if d == 0 {
		return otherwise
	}
	return d
}
