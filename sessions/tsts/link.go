package tsts

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	session "github.com/oiweiwei/go-msrpc/msrpc/tsts/termsrvsession/v1"
	"go.uber.org/zap"

	"github.com/rdpbroker/rdpbroker/sessions"
	"github.com/rdpbroker/rdpbroker/sessions/tsts/internal/rpc"
)

// link is one reader's connections to a host. They are made when needed and made
// again when they broke. Only one goroutine may use it, which closes it.
type link struct {
	d   *dialer
	log *zap.Logger

	lsm     *lsm
	legacy  *legacy
	clients clients
	old     bool // the host has no session manager to speak to, only the legacy interface
}

func (l *link) close() {
	if l.lsm != nil {
		l.lsm.Close()
	}
	if l.legacy != nil {
		l.legacy.Close()
	}
	l.lsm, l.legacy = nil, nil
}

// connect gives a connection to the session manager, or finds that the host is old.
func (l *link) connect(ctx context.Context) error {
	if l.lsm != nil && l.lsm.Err() != nil {
		l.lsm.Close()
		l.lsm = nil
	}
	if l.old || l.lsm != nil {
		return nil
	}
	c, err := l.d.openLSM(ctx)
	if isMissing(err) {
		l.setOld(err)
		return nil
	}
	if err != nil {
		return fmt.Errorf("connect to the session manager: %w", err)
	}
	l.lsm = c
	return nil
}

// legacyConn gives a connection to the legacy interface.
func (l *link) legacyConn(ctx context.Context) (*legacy, error) {
	if l.legacy != nil && l.legacy.Err() != nil {
		l.legacy.Close()
		l.legacy = nil
	}
	if l.legacy == nil {
		c, err := l.d.openLegacy(ctx)
		if err != nil {
			return nil, fmt.Errorf("connect to the legacy interface: %w", err)
		}
		l.legacy = c
	}
	return l.legacy, nil
}

func (l *link) setOld(why error) {
	l.log.Info("only the legacy interface is spoken", zap.String("addr", l.d.t.addr), zap.NamedError("because", why))
	l.old = true
	if l.lsm != nil {
		l.lsm.Close()
		l.lsm = nil
	}
}

// isMissing reports whether err says that a pipe, an interface or a method does
// not exist on the host.
func isMissing(err error) bool {
	var bind *rpc.BindError
	var fault *rpc.Fault
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return true
	case errors.As(err, &bind):
		return bind.Interface
	case errors.As(err, &fault):
		return fault.Status == rpc.FaultOpRange || fault.Status == rpc.FaultUnknownIf
	}
	return false
}

// read lists all sessions of the host with their details.
func (l *link) read(ctx context.Context) (*reading, error) {
	if err := l.connect(ctx); err != nil {
		return nil, err
	}
	var r *reading
	var err error
	if !l.old {
		if r, err = l.readLSM(ctx); isMissing(err) {
			l.setOld(err)
		}
	}
	if l.old {
		r, err = l.readLegacy(ctx)
	}
	if err != nil {
		return nil, err
	}
	l.clients.fill(ctx, l.legacy, r.sessions)
	return r, nil
}

func (l *link) readLSM(ctx context.Context) (*reading, error) {
	r := &reading{begun: time.Now()}
	list, err := l.lsm.list(ctx)
	if err != nil {
		return nil, err
	}
	if err := r.take(list, func(id int) (sessions.Session, error) { return l.lsm.details(ctx, id) }); err != nil {
		return nil, err
	}
	r.noClock = l.clock(ctx, r)
	return r, nil
}

// clock asks the legacy interface for the host's time: of the session manager's
// methods none tells it. The error says why it is not known.
func (l *link) clock(ctx context.Context, r *reading) error {
	c, err := l.legacyConn(ctx)
	if err != nil {
		return err
	}
	err = errors.New("no session to ask for it")
	for _, s := range r.sessions {
		if s.State == sessions.StateListen {
			continue
		}
		var now int64
		if _, now, err = c.details(ctx, s.ID); err == nil {
			return r.setClock(now)
		}
		if k, ok := answered(err); !ok || k != kindGone {
			return err // another session would answer no better
		}
	}
	return err
}

func (l *link) readLegacy(ctx context.Context) (*reading, error) {
	r := &reading{begun: time.Now()}
	c, err := l.legacyConn(ctx)
	if err != nil {
		return nil, err
	}
	list, err := c.list(ctx)
	if err != nil {
		return nil, err
	}
	r.noClock = errors.New("no session told it")
	return r, r.take(list, func(id int) (sessions.Session, error) {
		s, now, err := c.details(ctx, id)
		if err == nil && r.noClock != nil {
			r.noClock = r.setClock(now)
		}
		return s, err
	})
}

// order is something to be done to a session.
type order struct {
	check  func(sessions.Session) error // what objects to the session as it is now, or nil
	lsm    func(ctx context.Context, c *lsm, s *session.Session) error
	legacy func(ctx context.Context, c *legacy, id int) error
}

// act does o to a session unless its check objects to it as it is now.
func (l *link) act(ctx context.Context, id int, o order) error {
	if err := l.connect(ctx); err != nil {
		return err
	}
	if !l.old {
		err := l.lsm.act(ctx, id, o)
		if !isMissing(err) {
			return err
		}
		l.setOld(err)
	}
	c, err := l.legacyConn(ctx)
	if err != nil {
		return err
	}
	return c.act(ctx, id, o)
}
