package doctor

import (
	"context"

	"github.com/rdpbroker/rdpbroker/broker/placement"
	"github.com/rdpbroker/rdpbroker/sessions"
)

// Host is one host to be examined: what is configured, and how it is read.
type Host struct {
	sessions.Host
	// Eviction is the farm's mode: what a reading has to be good for.
	Eviction   placement.Mode
	Management Management
	// Reader reads the host as the broker would. Required.
	Reader Reader
}

// Reader takes one reading of one host: the first that the host's driver
// publishes. It logs on at most once.
type Reader interface {
	Read(ctx context.Context) (sessions.Report, error)
}

// ReaderFunc is a function as a Reader.
type ReaderFunc func(ctx context.Context) (sessions.Report, error)

// Read implements Reader.
func (f ReaderFunc) Read(ctx context.Context) (sessions.Report, error) { return f(ctx) }

// Kind is how a host is managed.
type Kind uint8

// The kinds.
const (
	WinRM       Kind = iota // Windows, over WinRM
	WindowsSSH              // Windows, over OpenSSH
	WindowsRPC              // Windows, over its Terminal Services RPC
	XRDPOverSSH             // xrdp, over ssh
	XRDPLocal               // xrdp, on the broker's own machine
)

func (k Kind) windows() bool { return k <= WindowsRPC }
func (k Kind) ssh() bool     { return k == WindowsSSH || k == XRDPOverSSH }

// Management says where a host is managed, for the checks that come before a
// reading. They explain what the reading would only fail with.
type Management struct {
	Kind Kind
	// Addr is host:port; unused for XRDPLocal.
	Addr string
	// User is the account, for the texts.
	User string
	// Credential tells one account with its password from another: hosts with
	// the same one share the account. "" where there is no password that could be
	// tried too often.
	Credential string

	// PlainHTTP: WinRM without TLS.
	PlainHTTP bool
	// CAFile holds the certificates that WinRM's must come from; "" for the system's.
	CAFile string
	// ServerName is the name that it must bear; "" for that in Addr.
	ServerName string

	// KnownHosts is the file with the host's key, for the kinds over ssh.
	KnownHosts string
}
