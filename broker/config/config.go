package config

import (
	"net/netip"
	"time"

	"github.com/rdpbroker/rdpbroker/broker/audit"
	"github.com/rdpbroker/rdpbroker/broker/placement"
	"github.com/rdpbroker/rdpbroker/sessions"
)

// Config is what a broker.yaml says, with every default filled in. It is
// immutable, and equal to another by reflect.DeepEqual if the files are the same.
type Config struct {
	// Listeners are in the order of the file, never empty.
	Listeners []Listener
	Admin     Admin
	Log       Log
	Audit     Audit
	// StateFile is where operators' orders are kept over a restart, "" for nowhere.
	StateFile string
	Limits    Limits
	// DrainTimeout is how long open connections may go on after the order to stop.
	DrainTimeout time.Duration
	KeepAlive    KeepAlive
	// Farms are sorted by name, never empty.
	Farms    []Farm
	Identity Identity

	source source // for WhatIf

	// Warnings are what is allowed but risky, in the order of the file.
	Warnings Problems
}

// Farm is the farm with this name, nil if there is none.
func (c *Config) Farm(name string) *Farm {
	for i := range c.Farms {
		if c.Farms[i].Name == name {
			return &c.Farms[i]
		}
	}
	return nil
}

// Listener is one address at which clients connect.
type Listener struct {
	// Address is host:port; the host may be empty for all addresses.
	Address string
	// Farm is the name of the farm that its connections go to.
	Farm string
	// ProxyProtocol are the networks that must send a PROXY header, and whose
	// word on the client's address is believed. Empty: nobody.
	ProxyProtocol []netip.Prefix
}

// Admin says where the broker answers operators and monitoring.
type Admin struct {
	// Socket is the path of a Unix socket, "" for none.
	Socket string
	// Metrics is host:port for /metrics, /healthz and /readyz, "" for none.
	Metrics string
	// Listen is host:port for the page and the API, "" for none: on loopback, or with
	// CertFile and KeyFile.
	Listen string
	// CertFile and KeyFile are the server's certificate and its key, PEM; "" for none.
	CertFile, KeyFile string
	// PeopleFile says who may log in, "" for nobody.
	PeopleFile string
	// Header is a header in which a proxy says who asks, "" for none; it counts from
	// HeaderFrom.
	Header     string
	HeaderFrom []netip.Prefix
}

// Log says what is logged, and how.
type Log struct {
	Level  string // debug, info, warn or error
	Format string // json or console
}

// Audit says where the record of every decision and logoff goes.
type Audit struct {
	// File is the newest file, "" for none.
	File string
	// Rotate says when it is moved away, and what becomes of it then.
	Rotate Rotate
	// Webhook tells another system too; nil: none.
	Webhook *Webhook
}

// Webhook is a system that is told of events as they happen.
type Webhook struct {
	// URL takes the messages; plain http only on this machine, or where the operator
	// said so.
	URL string
	// Secret signs them; none: they are not signed.
	Secret Secret
	// Events are those that it is told of, never empty.
	Events []audit.Event
	// Timeout bounds one try, Tries their number.
	Timeout time.Duration
	Tries   int
	// Undelivered is the file of messages that were given up, "" for none.
	Undelivered string
	// CAFile holds the certificates (PEM) that the system's own must come from; ""
	// for those that this machine trusts.
	CAFile string
}

// Rotate is the life of an audit file.
type Rotate struct {
	// Size is how many bytes it may have, Age how old its first line may be; 0: any.
	Size int64
	Age  time.Duration
	// Keep is how long it stays after it was moved away, Files how many such files
	// do; 0: all.
	Keep  time.Duration
	Files int
	// Compress packs it once it was moved away.
	Compress bool
}

// Limits bound what strangers can take up.
type Limits struct {
	// Connections and PerClient bound the open connections, all and those of one
	// client address.
	Connections, PerClient int
	// Pending and PendingPerClient bound those that no host has been found for yet.
	Pending, PendingPerClient int
	// FirstPacket is how long a client may take to send its connection request.
	FirstPacket time.Duration
	// Dial bounds one attempt to connect to a host.
	Dial time.Duration
	// DialsPerHost bounds the attempts at the same time to one host; 0: by its kind.
	DialsPerHost int
}

// KeepAlive is how TCP finds out that a peer has vanished: after Idle without a
// byte a probe each Interval, and after Count probes unanswered the end.
type KeepAlive struct {
	Idle, Interval time.Duration
	Count          int
}

// Farm is a set of hosts that users are placed on, by one policy.
type Farm struct {
	Name   string
	Policy placement.Policy
	// Wait is how long a connection waits for a slot; 0: not at all.
	Wait time.Duration
	// Reservation is how long a slot is promised to somebody whose session does
	// not appear.
	Reservation time.Duration
	// ReservationsPerClient bounds the slots that are promised to one client
	// address, that of a trusted client excepted, before a session appears.
	ReservationsPerClient int
	// SoftLimit is how long a logoff may take before the next victim is looked
	// for, HardLimit when it counts as stuck. SoftLimit <= HardLimit.
	SoftLimit, HardLimit time.Duration
	// IdleMessage warns users before they are disconnected; "" for the broker's own.
	IdleMessage string
	// Hosts are sorted by name, never empty.
	Hosts []Host
}

// Host is one host and how it is read: exactly one of WinRM, SSH, RPC and XRDP is set.
type Host struct {
	sessions.Host
	WinRM *WinRM
	// SSH is a Windows host that is read through OpenSSH.
	SSH *WindowsSSH
	// RPC is a Windows host that is read through its Terminal Services RPC.
	RPC  *RPC
	XRDP *XRDP
}

// WinRM is how a Windows host is read.
type WinRM struct {
	// URL is the endpoint: https://ts1.contoso.example:5986/wsman. Plain http
	// only where the operator said so.
	URL string
	// User is who logs on there, as DOMAIN\user, user@domain or a local user.
	User     string
	Password Secret
	// Auth is ntlm or basic.
	Auth string
	// Mode is auto, agent or text.
	Mode string
	// CAFile holds the certificates (PEM) that the host's own must come from; ""
	// for the system's.
	CAFile string
	// ServerName is the name that its certificate must bear, "" for that in URL.
	ServerName string
	// Poll is the time from one reading to the next.
	Poll time.Duration
	// Timeout bounds one reading.
	Timeout time.Duration
	// Processes is the time from one look at what runs in sessions to the next, where
	// an agent reads them; 0: never.
	Processes time.Duration
	// TextEviction allows a logoff on what quser prints, where nothing better
	// can be read.
	TextEviction bool
}

// XRDP is how an xrdp host is read.
type XRDP struct {
	// SSH is how commands get there; nil runs them on the broker's own machine.
	SSH *SSH
	// CommandPrefix stands before every command: [sudo, -n].
	CommandPrefix []string
	// Poll is the time from one reading to the next.
	Poll time.Duration
	// Timeout bounds one reading.
	Timeout time.Duration
}

// WindowsSSH is how a Windows host with OpenSSH is read: by the same agent as
// over WinRM.
type WindowsSSH struct {
	SSH
	// Timeout bounds one question.
	Timeout time.Duration
	// Processes is the time from one look at what runs in sessions to the next; 0: never.
	Processes time.Duration
}

// RPC is how a Windows host is read as `query session /server:` does.
type RPC struct {
	// Address is host:port of SMB.
	Address string
	// User is who logs on there, as DOMAIN\user, user@domain or a local user.
	User     string
	Password Secret
	// Auth is ntlm or kerberos.
	Auth string
	// Realm, Krb5Conf and Keytab are for Kerberos; "" for what the system has, and
	// for none.
	Realm, Krb5Conf, Keytab string
	// Poll is the longest time from one reading to the next.
	Poll time.Duration
	// Timeout bounds one reading.
	Timeout time.Duration
}

// SSH is how a host is logged on to.
type SSH struct {
	// Address is host:port.
	Address string
	User    string
	// KeyFile is a private key; "" if a password is used.
	KeyFile  string
	Password Secret
	// KnownHosts is a file in OpenSSH's form that holds the host's key.
	KnownHosts string
}

// Identity is what helps to find out who a caller is.
type Identity struct {
	// Users are accounts that are known before they were ever seen, those of
	// users_file among them.
	Users []sessions.Account
	// Aliases say which account is meant by a name, in lower case.
	Aliases map[string]sessions.Account
	// UPNSuffixes say which domain a UPN suffix, in lower case, stands for.
	UPNSuffixes map[string]string
	// TrustedClients are networks whose word on who they are is believed.
	TrustedClients []netip.Prefix
	// Clients say who sits at an address or in a network.
	Clients map[netip.Prefix]sessions.Account
	// RememberEntries is how many addresses are remembered with their account,
	// RememberFor for how long. 0 entries: none.
	RememberEntries int
	RememberFor     time.Duration
	Tokens          Tokens
}

// Tokens are the routing tokens that are believed.
type Tokens struct {
	// Keys are files with a key in their first line; the first one seals. Empty: no
	// token is believed.
	Keys []string
	// Revoked are the IDs of tokens that count no longer, those of revoked_file
	// among them.
	Revoked []string
	// NotBefore makes the tokens of an account void that were made before a time.
	NotBefore map[sessions.Account]time.Time
}
