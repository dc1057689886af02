package tsts

import (
	"context"
	"errors"
	"time"

	mststs "github.com/oiweiwei/go-msrpc/msrpc/tsts"
	icaapi "github.com/oiweiwei/go-msrpc/msrpc/tsts/icaapi/v1"
	notification "github.com/oiweiwei/go-msrpc/msrpc/tsts/termsrvnotification/v1"
	"go.uber.org/zap"
)

const (
	// listenLimit is how long a wait for events stands before its connection is
	// made anew: one that died without a word would wait for ever.
	listenLimit = 10 * time.Minute
	// listenRetry is the pause after a wait that failed. The poll goes on.
	listenRetry = 30 * time.Second
)

// errOver is the cause when listenLimit ended a wait.
var errOver = errors.New("the wait was long enough")

// listen puts a value into changed whenever the host reports that something
// happened to a session, until ctx ends. It has connections of its own: waits
// block, and closing the connection is the way to end one.
func (d *Driver) listen(ctx context.Context, old bool, changed chan<- struct{}) {
	wake := func() {
		select {
		case changed <- struct{}{}:
		default:
		}
	}
	for ctx.Err() == nil {
		limited, cancel := context.WithTimeoutCause(ctx, listenLimit, errOver)
		err := d.listenOnce(limited, old, wake)
		cancel()
		if errors.Is(err, errOver) {
			wake() // what happened while nobody listened is seen now, not at the next poll
			continue
		}
		if ctx.Err() == nil {
			d.log.Debug("no live events, the poll goes on", zap.String("addr", d.dialer.t.addr), zap.Error(err))
			sleep(ctx, listenRetry)
		}
	}
}

// listenOnce waits for events on one connection until it fails or ctx ends.
func (d *Driver) listenOnce(ctx context.Context, old bool, wake func()) error {
	var wait func() error
	err := d.limit(ctx, func(short context.Context) error {
		var err error
		if old {
			wait, err = d.dialer.systemEvents(short, ctx)
		} else {
			wait, err = d.dialer.notifications(short, ctx)
		}
		return err
	})
	for err == nil {
		if err = wait(); err == nil {
			wake()
		}
	}
	return err
}

// notifications registers for events of all sessions. The function that it
// returns blocks until there is one; it ends with ctx and closes the connection
// when it fails.
func (d *dialer) notifications(short, ctx context.Context) (wait func() error, err error) {
	b, err := d.open(short, pipeLSM, notification.TerminateServerNotificationSyntaxV1_0)
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
	c, err := notification.NewTerminateServerNotificationClient(short, i)
	if err != nil {
		return nil, err
	}
	const all = -1 // sessions
	reg, err := c.RegisterAsyncNotification(short, &notification.RegisterAsyncNotificationRequest{SessionID: all, Mask: uint32(mststs.WTSNotifyAll)})
	if err = b.first(result("RpcRegisterAsyncNotification", err)); err != nil {
		return nil, err
	}
	return func() error {
		_, err := c.WaitAsyncNotification(ctx, &notification.WaitAsyncNotificationRequest{Notify: reg.Notify})
		if err != nil {
			b.Close()
		}
		return result("RpcWaitAsyncNotification", err)
	}, nil
}

// systemEvents is notifications by the legacy interface.
func (d *dialer) systemEvents(short, ctx context.Context) (wait func() error, err error) {
	c, err := d.openLegacy(short)
	if err != nil {
		return nil, err
	}
	const all = 0x7FFFFFFF // WEVENT_ALL
	return func() error {
		got, err := c.api.WinStationWaitSystemEvent(ctx, &icaapi.WinStationWaitSystemEventRequest{Server: c.server, EventMask: all})
		if got != nil {
			err = verdict("RpcWinStationWaitSystemEvent", got.Return, got.Result)
		}
		if err != nil {
			c.Close()
		}
		return err
	}, nil
}
