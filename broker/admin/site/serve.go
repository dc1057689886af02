package site

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"go.uber.org/zap"

	"github.com/rdpbroker/rdpbroker/broker/admin/auth"
)

// Limits of one server, but for the time that streams take. The questions are small and the answers come from
// memory, so that whoever takes longer is not asking.
const (
	maxBody       = 64 << 10 // bytes
	maxHeader     = 16 << 10 // bytes
	readTimeout   = 10 * time.Second
	writeTimeout  = 30 * time.Second
	idleTimeout   = time.Minute
	shutdownLimit = 2 * time.Second
)

// DefaultConnections is how many connections a server has open at most.
const DefaultConnections = 64

// Options are the settings of one server. The zero value is usable.
type Options struct {
	// Connections bounds the open connections; 0 means DefaultConnections.
	Connections int
	// TLS, if set, is what is spoken.
	TLS *tls.Config
	// Log is told of what clients do wrong, at level debug; nil: nobody is.
	Log *zap.Logger
}

// Serve answers on ln with h until ctx ends: then streams end, and other answers
// under way may finish within a few seconds. It closes ln. The error is nil after
// an orderly end.
func Serve(ctx context.Context, ln net.Listener, h http.Handler, o Options) error {
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	errorLog, err := zap.NewStdLogAt(o.Log, zap.DebugLevel)
	if err != nil {
		return fmt.Errorf("serving on %s: %w", ln.Addr(), err)
	}
	srv := &http.Server{
		Handler:           http.MaxBytesHandler(h, maxBody),
		ReadHeaderTimeout: readTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          errorLog,
		ConnContext:       auth.ConnContext,
		BaseContext:       func(net.Listener) context.Context { return ctx },
	}
	accepting := limit(ln, cmp.Or(o.Connections, DefaultConnections))
	if o.TLS != nil {
		cfg := o.TLS.Clone()
		cfg.NextProtos = []string{"h2", "http/1.1"}
		accepting = tls.NewListener(accepting, cfg)
	}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(accepting) }()
	select {
	case err := <-served:
		return fmt.Errorf("serving on %s: %w", ln.Addr(), err)
	case <-ctx.Done():
	}
	ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownLimit)
	defer cancel()
	if err := srv.Shutdown(ending); err != nil {
		_ = srv.Close() // whoever is still there has had their time
	}
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serving on %s: %w", ln.Addr(), err)
	}
	return nil
}
