package tsts

import (
	"context"
	"fmt"

	enumeration "github.com/oiweiwei/go-msrpc/msrpc/tsts/termsrvenumeration/v1"
	session "github.com/oiweiwei/go-msrpc/msrpc/tsts/termsrvsession/v1"

	"github.com/rdpbroker/rdpbroker/sessions"
)

// lsm speaks to the local session manager: TermSrvEnumeration and TermSrvSession
// on one connection.
type lsm struct {
	*bound
	enum    enumeration.TerminateServerEnumerationClient
	session session.TerminateServerSessionClient
}

func (d *dialer) openLSM(ctx context.Context) (_ *lsm, err error) {
	b, err := d.open(ctx, pipeLSM, enumeration.TerminateServerEnumerationSyntaxV1_0, session.TerminateServerSessionSyntaxV1_0)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			b.Close()
		}
	}()
	c := &lsm{bound: b}
	if i, err := b.Interface(0); err != nil {
		return nil, err
	} else if c.enum, err = enumeration.NewTerminateServerEnumerationClient(ctx, i); err != nil {
		return nil, err
	}
	if i, err := b.Interface(1); err != nil {
		return nil, err
	} else if c.session, err = session.NewTerminateServerSessionClient(ctx, i); err != nil {
		return nil, err
	}
	return c, nil
}

// list names all sessions that the account may see, without their details.
func (c *lsm) list(ctx context.Context) ([]sessions.Session, error) {
	opened, err := c.enum.OpenEnum(ctx, &enumeration.OpenEnumRequest{})
	if err = c.first(result("RpcOpenEnum", err)); err != nil {
		return nil, err
	}
	got, err := c.enum.GetEnumResult(ctx, &enumeration.GetEnumResultRequest{Enum: opened.Enum, Level: 1})
	if err = result("RpcGetEnumResult", err); err != nil {
		return nil, err
	}
	// The handle is the host's memory: one left open on each reading would add up.
	if _, err := c.enum.CloseEnum(ctx, &enumeration.CloseEnumRequest{Enum: opened.Enum}); err != nil {
		return nil, result("RpcCloseEnum", err)
	}
	if int(got.Entries) != len(got.SessionEnumResult) {
		return nil, fmt.Errorf("RpcGetEnumResult: %d entries of %d", len(got.SessionEnumResult), got.Entries)
	}
	var list []sessions.Session
	for _, e := range got.SessionEnumResult {
		one, ok := e.Data.GetValue().(*enumeration.SessionEnumLevel1)
		if !ok {
			return nil, fmt.Errorf("RpcGetEnumResult: an entry of level %d", e.Level)
		}
		list = append(list, sessions.Session{ID: int(one.SessionID), Name: text(one.Name), State: stateOf(one.State)})
	}
	return list, nil
}

// details is what the host says of one session.
func (c *lsm) details(ctx context.Context, id int) (sessions.Session, error) {
	const op = "RpcGetSessionInformationEx"
	got, err := c.session.GetSessionInformationEx(ctx, &session.GetSessionInformationExRequest{SessionID: int32(id), Level: 1})
	if err != nil {
		return sessions.Session{}, result(op, err)
	}
	info, ok := got.LSMSessionInfoEx.Data.GetValue().(*session.LSMSessionInfoExLevel1)
	if !ok {
		return sessions.Session{}, fmt.Errorf("%s: level %d", op, got.LSMSessionInfoEx.Level)
	}
	s := sessions.Session{
		ID:             id,
		Name:           text(info.SessionName),
		State:          stateOf(info.SessionState),
		Account:        sessions.Account{Domain: text(info.DomainName), User: text(info.UserName)},
		LogonAt:        timeOf(info.LogonTime),
		DisconnectedAt: timeOf(info.DisconnectTime),
		LastInputAt:    timeOf(info.LastInputTime),
		Incarnation:    incarnationOf(info.LogonTime),
	}
	if s.Account.User == "" {
		s.Account = sessions.Account{}
	}
	return s, nil
}

// act does o to a session unless its check, which sees it as it is now, objects.
// The handle is opened before the check: should the session end and its ID be
// given to another in between, the handle is of the one that ended.
func (c *lsm) act(ctx context.Context, id int, o order) error {
	opened, err := c.session.OpenSession(ctx, &session.OpenSessionRequest{SessionID: int32(id)})
	if err = c.first(result("RpcOpenSession", err)); err != nil {
		return err
	}
	now, err := c.details(ctx, id)
	if err != nil {
		return err
	}
	if err := o.check(now); err != nil {
		return err
	}
	return o.lsm(ctx, c, opened.Session)
}

func (c *lsm) logoff(ctx context.Context, s *session.Session) error {
	_, err := c.session.Logoff(ctx, &session.LogoffRequest{Session: s})
	return told(result("RpcLogoff", err))
}

func (c *lsm) disconnect(ctx context.Context, s *session.Session) error {
	_, err := c.session.Disconnect(ctx, &session.DisconnectRequest{Session: s})
	return result("RpcDisconnect", err)
}

// message shows a box that stays until it is closed, and does not wait for that.
func (c *lsm) message(ctx context.Context, s *session.Session, title, text string) error {
	const information = 0x40 // MB_ICONINFORMATION, with OK alone
	i, err := c.Interface(1)
	if err != nil {
		return err
	}
	box := &messageBox{in: session.ShowMessageBoxRequest{Session: s, Title: title, Message: text, Style: information, DoNotWait: true}}
	if err := i.Invoke(ctx, box); err != nil {
		return result("RpcShowMessageBox", err)
	}
	if box.out.Return != 0 {
		return &CodeError{"RpcShowMessageBox", uint32(box.out.Return)}
	}
	return nil
}
