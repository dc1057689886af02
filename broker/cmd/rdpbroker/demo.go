package main

import (
	"os"

	"github.com/spf13/cobra"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/rdpbroker/rdpbroker/broker/config"
	"github.com/rdpbroker/rdpbroker/broker/demo"
)

func demoCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "demo",
		Short: "Run two simulated Windows hosts and the broker in front, in one process",
		Args:  exactly(0, "no arguments"),
	}
	o := demo.Options{Version: version}
	c.Flags().StringVar(&o.Listen, "listen", "", "where RDP clients connect, `host:port` (default: a free loopback port)")
	c.Flags().StringVar(&o.Admin, "admin", "", "where /metrics and /healthz are, `host:port` (default: a free loopback port)")
	c.Flags().StringVar(&o.Page, "page", "", "where the page is, `host:port` (default: a free loopback port)")
	c.Flags().StringVar(&o.Socket, "socket", "", "the admin socket's `path` (default: in a temporary folder)")
	c.Flags().BoolVar(&o.WithoutBroker, "without-broker", false, "let the client meet a full host directly")
	logLevel := c.Flags().String("log", "", "also print the broker's own log at this `level` (debug, info, warn, error)")
	c.RunE = func(c *cobra.Command, _ []string) error {
		o.Out = os.Stdout
		o.Log = zap.NewNop()
		if *logLevel != "" {
			if _, err := zapcore.ParseLevel(*logLevel); err != nil {
				return usageError{err}
			}
			var err error
			if o.Log, err = logger(config.Log{Level: *logLevel, Format: "console"}); err != nil {
				return err
			}
			defer func() { _ = o.Log.Sync() }() // what was gathered is written
		}
		stop, kill := signals(o.Log)
		return demo.Run(stop, kill, o)
	}
	return c
}
