package main

import (
	"context"
	"errors"
	"net"
	"os"
	"os/signal"
	"runtime"
	"syscall"

	"go.uber.org/zap"

	"github.com/rdpbroker/rdpbroker/broker/admin/site"
	"github.com/rdpbroker/rdpbroker/broker/config"
	"github.com/rdpbroker/rdpbroker/broker/daemon"
	"github.com/rdpbroker/rdpbroker/broker/handover"
)

// predecessor is what the process before has left: with the service manager, or, if
// takeOver, whatever broker runs on the same configuration. It is nil if there is nothing.
func predecessor(cfg *config.Config, takeOver bool, log *zap.Logger) (*handover.Bundle, error) {
	b, ok, err := handover.Stored(os.Getenv, os.Getpid())
	for _, key := range []string{"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"} {
		_ = os.Unsetenv(key) // not for children
	}
	switch {
	case err != nil:
		log.Error("what the service manager has kept is of no use", zap.Error(err))
	case ok:
		// It holds the sockets too; as long as it does, no connection can end.
		if err := handover.ManagerOf(os.Getenv).Forget(); err != nil {
			b.Close()
			return nil, err
		}
		return &b, nil
	}
	if !takeOver {
		return nil, nil
	}
	path := handoverSocket(cfg)
	if path == "" {
		return nil, errors.New("--take-over needs admin.socket: the running broker is asked beside it")
	}
	b, ok, err = handover.TakeFrom(path)
	if err != nil {
		return nil, err
	}
	if !ok {
		log.Info("no broker runs that could be taken over", zap.String("socket", path))
		return nil, nil
	}
	return &b, nil
}

// handoverSocket is where a running broker may be asked for all it has, "" if nowhere.
func handoverSocket(cfg *config.Config) string {
	if cfg.Admin.Socket == "" {
		return ""
	}
	return cfg.Admin.Socket + ".handover"
}

// successors has d handed over when the next process asks for it, or when SIGUSR2 says
// that the service manager starts one. It returns when ctx ends.
func successors(ctx context.Context, d *daemon.Daemon, cfg *config.Config, log *zap.Logger) {
	manager := handover.ManagerOf(os.Getenv)
	if err := manager.Notify("READY=1"); err != nil {
		log.Warn("the service manager was not told", zap.Error(err))
	}
	restart := make(chan os.Signal, 1)
	signal.Notify(restart, syscall.SIGUSR2)
	defer signal.Stop(restart)

	next := make(chan *net.UnixConn)
	if path := handoverSocket(cfg); path != "" {
		ln, err := site.ListenUnix(path)
		if err != nil {
			log.Warn("no other process can take over from this one", zap.Error(err))
		} else {
			defer ln.Close()
			go accept(ctx, ln, next, log)
		}
	}
	// Of the first one to ask; see TakeFrom. It is closed by the end of this process.
	var successor *net.UnixConn
	defer func() { runtime.KeepAlive(successor) }()
	for {
		select {
		case <-ctx.Done():
			return
		case <-restart:
			if !manager.There() {
				log.Warn("SIGUSR2 is for service managers that keep open connections over a restart (systemd); elsewhere start `rdpbroker serve --take-over`")
				continue
			}
			log.Info("restarting: the service manager keeps what is open")
			d.HandOver(manager.Store)
		case c := <-next:
			if successor != nil {
				_ = c.Close() // too late
				continue
			}
			log.Info("another process takes over")
			successor = c
			d.HandOver(func(b handover.Bundle) error { return handover.Send(c, b) })
		}
	}
}

// accept passes those on who may have everything.
func accept(ctx context.Context, ln net.Listener, next chan<- *net.UnixConn, log *zap.Logger) {
	for {
		c, err := ln.Accept()
		if err != nil {
			return // closed
		}
		unix := c.(*net.UnixConn)
		if err := handover.SameUser(unix); err != nil {
			log.Warn("refused", zap.Error(err))
			_ = c.Close()
			continue
		}
		select {
		case next <- unix:
		case <-ctx.Done():
			_ = c.Close()
			return
		}
	}
}
