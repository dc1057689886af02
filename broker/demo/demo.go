// Package demo is a farm on one machine: simulated Windows hosts that speak the
// real protocols, and the broker in front of them, in one process.
package demo

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/rdpbroker/rdpbroker/broker/config"
	"github.com/rdpbroker/rdpbroker/broker/daemon"
)

// Options are what can be chosen about the demo. The zero value listens on free
// loopback ports.
type Options struct {
	// Listen is where RDP clients connect; "" means a free loopback port.
	Listen string
	// Admin is where /metrics, /healthz and /readyz are; "" means a free loopback port.
	Admin string
	// Page is where the page is; "" means a free loopback port.
	Page string
	// Socket is the broker's admin socket for the commands; "" puts it into a temporary folder, and prints it.
	Socket string
	// WithoutBroker leaves the broker out: clients meet a full host.
	WithoutBroker bool
	// Out gets what a person reads; nil means standard output.
	Out io.Writer
	// Log gets the broker's own log lines; nil means none.
	Log     *zap.Logger
	Version string
}

// Run runs the demo until stop ends and clients have gone, or kill ends.
func Run(stop, kill context.Context, o Options) error {
	if o.Out == nil {
		o.Out = os.Stdout
	}
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	for _, addr := range []*string{&o.Listen, &o.Admin, &o.Page} {
		if *addr == "" {
			*addr = "127.0.0.1:0"
		}
	}
	dir, err := os.MkdirTemp("", "rdpbroker-demo-")
	if err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	defer os.RemoveAll(dir)
	if o.Socket == "" {
		o.Socket = filepath.Join(dir, "admin.sock")
	}

	out := &screen{w: o.Out}
	password := rand.Text()
	farm, err := newFarm(password, out, o)
	if err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	defer farm.close()
	if o.WithoutBroker {
		return farm.runBare(kill, stop, out)
	}
	return farm.runWithBroker(stop, kill, dir, password, out, o)
}

// runBare runs the hosts alone.
func (f *farm) runBare(kill, stop context.Context, out *screen) error {
	ctx, cancel := context.WithCancel(stop)
	defer cancel()
	context.AfterFunc(kill, cancel)
	out.bare(f)
	return f.run(ctx)
}

// runWithBroker runs the hosts and the broker in front of them. The hosts stay
// until the broker has ended, so that open connections can be drained.
func (f *farm) runWithBroker(stop, kill context.Context, dir, password string, out *screen, o Options) error {
	yaml, err := f.config(dir, password, o)
	if err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	cfg, err := config.Parse("demo.yaml", []byte(yaml))
	if err != nil {
		return fmt.Errorf("demo: its own configuration: %w", err)
	}
	d, err := daemon.New(cfg, daemon.Options{Log: o.Log, Version: o.Version, OnRecord: out.record})
	if err != nil {
		return err
	}
	addrs, err := d.Listen()
	if err != nil {
		return err
	}
	out.welcome(f, addrs[0], d, o.Socket)

	hosts, stopHosts := context.WithCancel(context.Background())
	defer stopHosts()
	var g errgroup.Group
	g.Go(func() error { return f.run(hosts) })
	g.Go(func() error {
		defer stopHosts()
		return d.Run(stop, kill)
	})
	return g.Wait()
}

// listen opens a listener; an address in use gets an error that says what to do.
func listen(addr string) (net.Listener, error) {
	ln, err := net.Listen("tcp", addr)
	var op *net.OpError
	if errors.As(err, &op) {
		return nil, fmt.Errorf("cannot listen on %s: %w; choose another with --listen", addr, op.Err)
	}
	return ln, err
}
