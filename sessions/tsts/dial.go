package tsts

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"

	"github.com/oiweiwei/go-msrpc/dcerpc"
	"github.com/oiweiwei/go-msrpc/ssp"
	"github.com/oiweiwei/go-msrpc/ssp/credential"
	"github.com/oiweiwei/go-msrpc/ssp/gssapi"
	"github.com/oiweiwei/go-smb2.fork"

	"github.com/rdpbroker/rdpbroker/sessions/lockout"
	"github.com/rdpbroker/rdpbroker/sessions/tsts/internal/rpc"
)

// The pipes, [MS-TSTS] 2.1.
const (
	pipeLSM    = "LSM_API_service"
	pipeLegacy = "Ctx_WinStation_API_service"
)

// dialer makes authenticated connections to one host.
type dialer struct {
	t    *target
	gate *lockout.Gate[string] // of passwords
}

// bound is a connection to some interfaces of the host.
type bound struct {
	*rpc.Conn
	d        *dialer
	password string
	proven   atomic.Bool // the host has shown that it accepted the logon
}

// open connects to a pipe of the host and binds the interfaces. The caller
// closes. An error that is fs.ErrNotExist: there is no such pipe.
func (d *dialer) open(ctx context.Context, pipe string, interfaces ...*dcerpc.SyntaxID) (*bound, error) {
	password := ""
	if d.t.Password != nil && d.t.Keytab == "" {
		var err error
		if password, err = d.t.Password(); err != nil {
			return nil, fmt.Errorf("the password of %s: %w", d.t.User, err)
		}
	}
	if err := d.gate.Pass(password); err != nil {
		return nil, err
	}
	b, err := d.connect(ctx, pipe, password, interfaces)
	if err != nil {
		return nil, d.gate.Shut(password, lockout.Pause, d.refusal(err))
	}
	return b, nil
}

func (d *dialer) connect(ctx context.Context, pipe, password string, interfaces []*dcerpc.SyntaxID) (*bound, error) {
	auth, err := d.auth(ctx, password)
	if err != nil {
		return nil, err
	}
	nc, err := (&net.Dialer{}).DialContext(ctx, "tcp", d.t.addr)
	if err != nil {
		return nil, err
	}
	b := &bound{d: d, password: password}
	rwc := io.ReadWriteCloser(nc)
	if !d.t.tcp {
		if rwc, err = openPipe(ctx, nc, d.t.host, pipe, auth); err != nil {
			return nil, err
		}
		b.accepted() // the SMB session stands
	}
	if b.Conn, err = rpc.Bind(ctx, rwc, auth, interfaces...); err != nil {
		return nil, err
	}
	return b, nil
}

// auth is the account in the form of the library.
func (d *dialer) auth(ctx context.Context, password string) (rpc.Auth, error) {
	host, file := "host/"+d.t.host, "cifs/"+d.t.host
	if d.t.Auth == Kerberos {
		services := []string{host}
		if !d.t.tcp {
			services = append(services, file)
		}
		tickets, err := d.tickets(ctx, password, services...)
		return rpc.Auth{Mechanism: ssp.KRB5, Options: tickets, TargetName: host}, err
	}
	account := credential.NewFromPassword(d.t.User, password)
	return rpc.Auth{Mechanism: ssp.NTLM, TargetName: host, Options: []gssapi.ContextOption{
		gssapi.NewCredential("", nil, gssapi.InitiateOnly, account)}}, nil
}

// refusal turns the errors by which a logon is refused into an *AuthError.
func (d *dialer) refusal(err error) error {
	var smb *smb2.ResponseError
	if errors.As(err, &smb) {
		if why := logonStatus(smb.Code); why != "" {
			return &AuthError{Addr: d.t.addr, Reason: why}
		}
	}
	if d.t.Auth == Kerberos {
		if code := kdcRefusal(err); code != "" {
			return &AuthError{Addr: d.t.addr, Reason: "the KDC refuses " + d.t.User + ": " + code}
		}
	}
	return err
}

// logonStatus says why a logon was refused, by the NTSTATUS of [MS-ERREF], or "".
func logonStatus(code uint32) string {
	switch code {
	case 0xC000006D, 0xC000006A, 0xC0000064: // STATUS_LOGON_FAILURE, STATUS_WRONG_PASSWORD, STATUS_NO_SUCH_USER
		return "unknown user or wrong password"
	case 0xC0000234: // STATUS_ACCOUNT_LOCKED_OUT
		return "the account is locked out"
	case 0xC0000071, 0xC0000224: // STATUS_PASSWORD_EXPIRED, STATUS_PASSWORD_MUST_CHANGE
		return "the password has expired"
	case 0xC0000072, 0xC0000193: // STATUS_ACCOUNT_DISABLED, STATUS_ACCOUNT_EXPIRED
		return "the account is disabled or has expired"
	case 0xC000006E, 0xC000006F, 0xC0000070, 0xC000015B: // ACCOUNT_RESTRICTION, INVALID_LOGON_HOURS, INVALID_WORKSTATION, LOGON_TYPE_NOT_GRANTED
		return "the account may not log on to this host over the network now"
	}
	return ""
}

// accepted notes that the host has let us in.
func (b *bound) accepted() {
	if !b.proven.Swap(true) {
		b.d.gate.Open()
	}
}

// first is for the error of the first call on a connection. Over TCP nobody
// answers the logon itself, and a refused one shows as this fault.
func (b *bound) first(err error) error {
	var fault *rpc.Fault
	if !b.proven.Load() && errors.As(err, &fault) && fault.Status == rpc.FaultAccessDenied {
		b.Close()
		return b.d.gate.Shut(b.password, lockout.Pause, &AuthError{Addr: b.d.t.addr, Reason: "the host refused the logon, or any call by this account"})
	}
	if _, ok := answered(err); err == nil || ok {
		b.accepted()
	}
	return err
}
