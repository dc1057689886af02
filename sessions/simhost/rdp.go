package simhost

import (
	"context"
	"errors"
	"fmt"
	"image"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rdpbroker/rdpbroker/rdpproxy/rdpserver"
	"go.uber.org/zap"
)

// serveRDP accepts clients until ctx ends, and returns when all have left.
func (h *Host) serveRDP(ctx context.Context, ln net.Listener) error {
	defer context.AfterFunc(ctx, func() { ln.Close() })()
	var clients sync.WaitGroup
	defer clients.Wait()
	pause := time.Duration(0)
	for {
		nc, err := ln.Accept()
		switch {
		case err == nil:
			pause = 0
			clients.Go(func() { h.client(ctx, nc) })
			continue
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("serve RDP on %s: %w", ln.Addr(), err)
		}
		pause = min(max(2*pause, 5*time.Millisecond), time.Second) // out of file descriptors, say
		h.log.Warn("accept failed", zap.Error(err), zap.Duration("pause", pause))
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
	}
}

// leaveTimeout is how long a client may take to leave that was told to.
const leaveTimeout = 3 * time.Second

// client serves one client from its first packet to its last, and logs it.
func (h *Host) client(ctx context.Context, nc net.Conn) {
	conn, err := rdpserver.Handshake(ctx, nc, rdpserver.Config{
		TLS:           h.tls,
		Security:      h.security(),
		CheckPassword: h.checkPassword(),
		LeaveTimeout:  leaveTimeout,
		Log:           h.log,
	})
	if err != nil {
		h.log.Debug("RDP client did not get as far as its name", zap.Stringer("client", nc.RemoteAddr()), zap.Error(err))
		return
	}
	if err := conn.Activate(ctx); err != nil {
		conn.Close()
		h.log.Debug("RDP client did not become active", zap.Stringer("client", nc.RemoteAddr()), zap.Error(err))
		return
	}
	d := &display{conn: conn, painter: newPainter(h.types, conn.Info().Width, conn.Info().Height), left: make(chan struct{})}
	go d.read(ctx)
	defer func() {
		conn.Close() // waits for a client that was told to leave
		<-d.left
	}()
	how, err := h.logOn(ctx, d)
	h.log.Info("RDP client is gone", zap.Stringer("client", nc.RemoteAddr()), zap.String("how", how), zap.Error(err))
}

// checkPassword is nil if no account needs a password.
func (h *Host) checkPassword() func(user, domain string, password []byte) bool {
	if h.cfg.RDP.Password == nil {
		return nil
	}
	return func(user, domain string, password []byte) bool {
		want, needed := h.cfg.RDP.Password(h.account(domain, user))
		return !needed || want == string(password)
	}
}

// display is a client's screen, what was last drawn on it, and its input.
type display struct {
	conn    *rdpserver.Conn
	painter *painter
	shown   *image.RGBA
	onInput atomic.Pointer[func(rdpserver.Event)] // nil: input is dropped
	left    chan struct{}                         // closed when the client has left, or the host stops
}

// read passes the client's input on until it leaves.
func (d *display) read(ctx context.Context) {
	defer close(d.left)
	_ = d.conn.Run(ctx, func(e rdpserver.Event) { // why it left makes no difference
		if f := d.onInput.Load(); f != nil {
			(*f)(e)
		}
	})
}

// show draws what has changed.
func (d *display) show(img *image.RGBA) error {
	for _, r := range changes(d.shown, img) {
		if err := d.conn.Draw(img.SubImage(r), r.Min); err != nil {
			return err
		}
	}
	d.shown = img
	return nil
}

// logOn lets the client's user in, or tells why not. how is what became of it.
func (h *Host) logOn(ctx context.Context, d *display) (how string, err error) {
	info := d.conn.Info()
	account := h.account(info.Domain, info.User)
	if account.IsZero() {
		return "no user name", h.turnAway(ctx, d, rdpserver.ErrorFreshCredentials,
			"This host has no logon screen. Connect again with a user name.")
	}
	if h.cfg.RDP.Password != nil && !info.PasswordOK {
		if _, needed := h.cfg.RDP.Password(account); needed {
			h.model.passwordRefused(account, info.Remote.Addr().Unmap())
			return "wrong password", h.turnAway(ctx, d, rdpserver.ErrorFreshCredentials, TextPassword)
		}
	}
	a, err := h.model.Logon(account, info.ClientName, info.Remote.Addr().Unmap(), info.Program)
	if refused := (*LogonError)(nil); errors.As(err, &refused) {
		return string(refused.Reason), h.turnAway(ctx, d, rdpserver.ErrorDenied, refused.Text)
	}
	if err != nil {
		return "no logon", err
	}
	defer a.Disconnect() // closing the window keeps the session
	if err := d.conn.LoggedOn(account.Domain, account.User, uint32(a.Session.ID)); err != nil {
		return "client gone", err
	}
	return h.desktop(ctx, d, a)
}

// turnAway shows a text for a while and disconnects the client.
func (h *Host) turnAway(ctx context.Context, d *display, code rdpserver.ErrorCode, text string) error {
	for left := h.cfg.RDP.NoticeFor; left > 0; left -= time.Second {
		n := notice{host: h.cfg.Name, accent: h.cfg.RDP.Accent, title: "Logon Message", text: text, left: left}
		if err := d.show(d.painter.notice(n)); err != nil {
			return err
		}
		select {
		case <-time.After(min(left, time.Second)):
		case <-d.left:
			return nil
		case <-ctx.Done():
			return d.conn.ErrorInfo(rdpserver.ErrorShutdown)
		}
	}
	return d.conn.ErrorInfo(code)
}

// desktop shows a user the desktop until the client or the session goes.
func (h *Host) desktop(ctx context.Context, d *display, a *Attachment) (how string, err error) {
	since := h.model.HostTime()
	var button atomic.Pointer[image.Rectangle]
	input := func(e rdpserver.Event) {
		a.Input()
		if b := button.Load(); b != nil && wantsLogoff(e, *b) {
			a.Logoff()
		}
	}
	d.onInput.Store(&input)
	changed, stop := h.model.Watch()
	defer stop()
	refresh := time.NewTicker(h.cfg.RDP.Refresh)
	defer refresh.Stop()
	for {
		img, at := d.painter.desktop(h.scene(a, since))
		button.Store(&at)
		if err := d.show(img); err != nil {
			return "connection broke", err
		}
		select {
		case <-changed:
		case <-refresh.C:
		case <-a.Done():
			return string(a.Cause()), d.conn.ErrorInfo(leaveCode(a.Cause()))
		case <-d.left:
			if ctx.Err() != nil {
				return "shutdown", d.conn.ErrorInfo(rdpserver.ErrorShutdown)
			}
			return "client left", nil
		}
	}
}

// wantsLogoff is true for the key L and for a click on the button.
func wantsLogoff(e rdpserver.Event, button image.Rectangle) bool {
	const keyL = 0x26
	switch e := e.(type) {
	case rdpserver.Key:
		return e.Down && e.Scancode == keyL && !e.Extended && !e.Extended1
	case rdpserver.Char:
		return e.Down && (e.Unit == 'l' || e.Unit == 'L')
	case rdpserver.Mouse:
		const click = rdpserver.PointerDown | rdpserver.PointerLeftButton
		return !e.Extra && e.Flags&click == click && image.Pt(e.X, e.Y).In(button)
	}
	return false
}

// leaveCode tells a client why its session has gone from it.
func leaveCode(c Cause) rdpserver.ErrorCode {
	switch c {
	case CauseTakeover:
		return rdpserver.ErrorOtherConnection
	case CauseManagement:
		return rdpserver.ErrorLoggedOffByAdmin
	case CausePolicy:
		return rdpserver.ErrorIdleTimeout
	case CauseShutdown:
		return rdpserver.ErrorShutdown
	}
	return rdpserver.ErrorLoggedOffByUser
}

// scene is what a's desktop shows now.
func (h *Host) scene(a *Attachment, since time.Time) scene {
	o := h.model.Overview()
	s := scene{
		host: h.cfg.Name, accent: h.cfg.RDP.Accent, now: o.HostTime,
		session: a.Session, kind: a.Kind, since: since,
		sessions: o.Sessions, used: o.Used, slots: o.Options.Slots,
	}
	if a.Room != nil {
		room := *a.Room
		room.At = room.At.Add(o.Options.ClockSkew)
		s.room = &room
	}
	return s
}
