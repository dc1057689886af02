package tsts

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"
)

// Defaults of Config.
const (
	DefaultPoll    = 5 * time.Second
	DefaultTimeout = 20 * time.Second
)

// Auth is a way to authenticate. Neither sends the password.
type Auth string

// The ways to authenticate. There is no falling back from one to the other.
const (
	NTLM     Auth = "ntlm"
	Kerberos Auth = "kerberos"
)

// Config says how one Windows host is reached.
type Config struct {
	// Addr is the host, or host:port where SMB listens elsewhere than on 445.
	// tcp://host:port speaks to one DCE/RPC endpoint without SMB. Windows has
	// none for these interfaces: it is for gateways and tests.
	Addr string
	// User is DOMAIN\user, user@domain or a local user.
	User string
	// Password returns the user's password. It is called for each new
	// connection, so that a changed file or variable takes effect. It may be nil
	// with Keytab.
	Password func() (string, error)
	// Auth is NTLM or Kerberos; "" means NTLM. Kerberos needs Addr to be the
	// name that the host has in the directory.
	Auth Auth
	// KerberosConfig is the path of a krb5.conf; "" means /etc/krb5.conf.
	KerberosConfig string
	// Realm is the Kerberos realm; "" takes the domain of User in upper case.
	Realm string
	// Keytab is the path of a keytab that replaces the password; Kerberos only.
	Keytab string
	// Poll is the longest pause between readings; 0 means DefaultPoll.
	Poll time.Duration
	// Timeout is how long one reading, connecting included, may take; 0 means
	// DefaultTimeout.
	Timeout time.Duration
}

// target is a checked Config.
type target struct {
	Config
	host string // without port
	addr string // host:port to dial
	tcp  bool   // DCE/RPC over TCP
}

func (c Config) check() (*target, error) {
	t := &target{Config: c}
	if t.Auth == "" {
		t.Auth = NTLM
	}
	t.Poll, t.Timeout = orDefault(t.Poll, DefaultPoll), orDefault(t.Timeout, DefaultTimeout)
	if err := t.parseAddr(); err != nil {
		return nil, err
	}
	kerberos := t.Auth == Kerberos
	_, notAName := netip.ParseAddr(t.host)
	switch {
	case t.Auth != NTLM && !kerberos:
		return nil, fmt.Errorf("authentication %q is neither %s nor %s", c.Auth, NTLM, Kerberos)
	case c.User == "":
		return nil, errors.New("no user")
	case c.Password == nil && c.Keytab == "":
		return nil, errors.New("no password")
	case c.Poll < 0 || c.Timeout < 0:
		return nil, errors.New("a negative duration")
	case !kerberos && (c.Keytab != "" || c.Realm != "" || c.KerberosConfig != ""):
		return nil, errors.New("a keytab, realm or krb5.conf has no meaning without Kerberos")
	case kerberos && notAName == nil:
		return nil, fmt.Errorf("kerberos needs the name of the host, not its address %s", t.host)
	case kerberos && c.Realm == "" && !strings.ContainsAny(c.User, `\@`):
		return nil, errors.New("kerberos needs a realm, or a user with a domain")
	}
	for _, path := range []string{c.KerberosConfig, c.Keytab} {
		if path == "" {
			continue
		}
		if _, err := os.Stat(path); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// parseAddr reads Addr.
func (t *target) parseAddr() error {
	text, port := t.Addr, "445"
	if rest, ok := strings.CutPrefix(text, "tcp://"); ok {
		text, port, t.tcp = rest, "", true
	}
	if h, p, err := net.SplitHostPort(text); err == nil {
		text, port = h, p
	}
	text = strings.Trim(text, "[]")
	_, notAnAddr := netip.ParseAddr(text)
	_, notAPort := strconv.ParseUint(port, 10, 16)
	switch {
	case text == "":
		return fmt.Errorf("address %q names no host", t.Addr)
	case port == "":
		return fmt.Errorf("address %q names no port", t.Addr)
	case notAPort != nil, notAnAddr != nil && strings.ContainsAny(text, `/\:@ `):
		return fmt.Errorf("address %q is not a host, host:port or tcp://host:port", t.Addr)
	}
	t.host, t.addr = text, net.JoinHostPort(text, port)
	return nil
}

func orDefault(d, otherwise time.Duration) time.Duration {
	if d == 0 {
		return otherwise
	}
	return d
}
