package tsts

import (
	"context"
	"errors"
	"fmt"

	"github.com/oiweiwei/go-msrpc/msrpc/tsts"
	icaapi "github.com/oiweiwei/go-msrpc/msrpc/tsts/icaapi/v1"

	"github.com/rdpbroker/rdpbroker/sessions"
)

// Of [MS-TSTS] and [MS-ERREF].
const (
	winStationInformation = 8 // of WINSTATIONINFOCLASS
	statusNoMoreEntries   = 0x8000001A
)

// legacy speaks the interface IcaApi.
type legacy struct {
	*bound
	api    icaapi.IcaAPIClient
	server *tsts.Server
}

func (d *dialer) openLegacy(ctx context.Context) (_ *legacy, err error) {
	b, err := d.open(ctx, pipeLegacy, icaapi.IcaAPISyntaxV1_0)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			b.Close()
		}
	}()
	i, err := b.Interface(0)
	if err != nil {
		return nil, err
	}
	c := &legacy{bound: b}
	if c.api, err = icaapi.NewIcaAPIClient(ctx, i); err != nil {
		return nil, err
	}
	opened, err := c.api.WinStationOpenServer(ctx, &icaapi.WinStationOpenServerRequest{})
	if opened == nil {
		return nil, c.first(err)
	}
	if err = c.first(verdict("RpcWinStationOpenServer", opened.Return, opened.Result)); err != nil {
		return nil, err
	}
	c.server = opened.Server
	return c, nil
}

// verdict is the outcome of a legacy method: TRUE, or FALSE and an NTSTATUS. The
// library's stubs take TRUE for a failure, so their errors count only when there
// is no answer beside them.
func verdict(op string, ok bool, status uint32) error {
	if !ok {
		return &CodeError{op, status}
	}
	return nil
}

// list names all sessions that the account may see, without their details.
func (c *legacy) list(ctx context.Context) ([]sessions.Session, error) {
	const op, batch = "RpcWinStationEnumerate", 64
	var all []sessions.Session
	for index := uint32(0); len(all) <= maxSessions; {
		got, err := c.api.WinStationEnumerate(ctx, &icaapi.WinStationEnumerateRequest{
			Server: c.server, Entries: batch, LogonID: make([]byte, batch*logonIDSize), ByteCount: batch * logonIDSize, Index: index,
		})
		if got == nil {
			return nil, err
		}
		if got.Result == statusNoMoreEntries {
			return all, nil
		}
		if err := verdict(op, got.Return, got.Result); err != nil {
			return nil, err
		}
		part, err := parseLogonIDs(got.LogonID, int(got.Entries))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", op, err)
		}
		if len(part) == 0 {
			return all, nil
		}
		all, index = append(all, part...), got.Index
	}
	return nil, fmt.Errorf("%s: there is no end to it", op)
}

// details is what the host says of one session, and the host's time, a FILETIME.
func (c *legacy) details(ctx context.Context, id int) (sessions.Session, int64, error) {
	const op = "RpcWinStationQueryInformation"
	got, err := c.api.WinStationQueryInformation(ctx, &icaapi.WinStationQueryInformationRequest{
		Server: c.server, LogonID: uint32(id), WinStationInformationClass: winStationInformation,
		WinStationInformation: make([]byte, infoSize), WinStationInformationLength: infoSize,
	})
	if got == nil {
		return sessions.Session{}, 0, err
	}
	if err := verdict(op, got.Return, got.Result); err != nil {
		return sessions.Session{}, 0, err
	}
	s, now, err := parseInformation(got.WinStationInformation)
	if err == nil && s.ID != id {
		err = fmt.Errorf("session %d was asked for, %d came", id, s.ID)
	}
	if err != nil {
		return sessions.Session{}, 0, fmt.Errorf("%s: %w", op, err)
	}
	return s, now, nil
}

// act is lsm.act by the legacy interface, which has no handles of sessions.
func (c *legacy) act(ctx context.Context, id int, o order) error {
	now, _, err := c.details(ctx, id)
	if err != nil {
		return err
	}
	if err := o.check(now); err != nil {
		return err
	}
	return o.legacy(ctx, c, id)
}

// logoff has no softer way than a reset: what logoff.exe and WTSLogoffSession use.
func (c *legacy) logoff(ctx context.Context, id int) error {
	got, err := c.api.WinStationReset(ctx, &icaapi.WinStationResetRequest{Server: c.server, LogonID: uint32(id), Wait: false})
	if got == nil {
		return told(err)
	}
	return told(verdict("RpcWinStationReset", got.Return, got.Result))
}

func (c *legacy) disconnect(ctx context.Context, id int) error {
	got, err := c.api.WinStationDisconnect(ctx, &icaapi.WinStationDisconnectRequest{Server: c.server, LogonID: uint32(id), Wait: false})
	if got == nil {
		return err
	}
	return verdict("RpcWinStationDisconnect", got.Return, got.Result)
}

// errTold: the host was told to log the session off and has not answered in time.
var errTold = errors.New("no answer to the logoff yet")

// told marks a logoff that is perhaps under way: a call that only time ended.
func told(err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%w: %w", errTold, err)
	}
	return err
}
