package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/rdpbroker/rdpbroker/broker/config"
	"github.com/rdpbroker/rdpbroker/broker/daemon"
	"github.com/rdpbroker/rdpbroker/broker/lines"
)

const defaultConfig = "broker.yaml"

func configFlag(c *cobra.Command) *string {
	return c.Flags().StringP("config", "c", defaultConfig, "the configuration `file`")
}

func serveCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "serve",
		Short: "Run the broker",
		Long: `Run the broker on a configuration file.

SIGTERM or Ctrl-C  stop accepting; open connections go on until drain_timeout
the same again     end at once
SIGHUP             read the configuration and the lists again; a file with a
                   mistake changes nothing
SIGUSR2 (systemd)  leave open connections to the service manager and end; the
                   next process goes on with them, and nobody notices`,
		Args: exactly(0, "no arguments"),
	}
	file := configFlag(c)
	takeOver := c.Flags().Bool("take-over", false, "go on with the open connections of the broker that runs on this configuration, which ends (Linux)")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if managed() {
			return serveManaged(*file)
		}
		return serve(*file, *takeOver, c.ErrOrStderr())
	}
	return c
}

func serve(file string, takeOver bool, stderr io.Writer) error {
	cfg, err := load(file, stderr)
	if err != nil {
		return err
	}
	log, err := logger(cfg.Log)
	if err != nil {
		return err
	}
	defer func() { _ = log.Sync() }() // what was gathered is written
	// From here on no signal ends the program by itself.
	stop, kill := signals(log)
	left, err := predecessor(cfg, takeOver, log)
	if err != nil {
		return err
	}
	return serveOn(cfg, file, daemon.Options{Log: log, Version: version, Inherited: left}, stop, kill)
}

// serveOn runs the broker until stop ends, and then until its connections have or
// kill ends. file is where cfg comes from, and is read again when a reload is asked for.
func serveOn(cfg *config.Config, file string, o daemon.Options, stop, kill context.Context) error {
	log := o.Log
	// A loop for each core, see rdpproxy/loop, and places for everything else.
	cores := runtime.GOMAXPROCS(0)
	o.Loops, o.DeferAccept = cores, true
	runtime.GOMAXPROCS(cores + max(1, cores/2))
	reload := make(chan os.Signal, 1)
	notifyReload(reload)
	defer signal.Stop(reload)
	o.ReadConfig = func() (*config.Config, error) { return config.Load(file) }
	o.Portable = os.Getenv("RDPBROKER_RELAY") == "portable"
	daemon.SpareMemory(cfg)
	d, err := daemon.New(cfg, o)
	if err != nil {
		return err
	}
	if _, err := d.Listen(); err != nil {
		return err
	}
	go func() {
		for range reload {
			next, err := config.Load(file)
			_ = d.Reload(next, err) // it has told the log
		}
	}()
	asking, asked := context.WithCancel(context.Background())
	var beside sync.WaitGroup
	beside.Go(func() { successors(asking, d, cfg, log) })
	err = d.Run(stop, kill)
	asked()
	beside.Wait()
	return err
}

// signals are two contexts: the first ends with the first signal to stop, the
// second with the second one.
func signals(log *zap.Logger) (stop, kill context.Context) {
	stop, stopNow := context.WithCancel(context.Background())
	kill, killNow := context.WithCancel(context.Background())
	c := make(chan os.Signal, 2)
	signal.Notify(c, os.Interrupt, syscall.SIGTERM)
	go func() {
		s := <-c
		log.Info("stopping: no new connections; the same signal again ends the open ones", zap.Stringer("signal", s))
		stopNow()
		s = <-c
		log.Warn("ending open connections", zap.Stringer("signal", s))
		killNow()
	}()
	return stop, kill
}

// load reads the configuration; what is wrong or risky with it goes to stderr.
func load(file string, stderr io.Writer) (*config.Config, error) {
	cfg, err := config.Load(file)
	var problems config.Problems
	if errors.As(err, &problems) {
		fmt.Fprintln(stderr, problems.Error())
		return nil, quietFailure{}
	}
	if err != nil {
		return nil, err
	}
	for _, w := range cfg.Warnings {
		fmt.Fprintln(stderr, "warning:", w)
	}
	return cfg, nil
}

func logLevel(c config.Log) (zapcore.Level, error) {
	level, err := zapcore.ParseLevel(c.Level)
	if err != nil {
		return level, fmt.Errorf("log.level: %w", err)
	}
	return level, nil
}

func logger(c config.Log) (*zap.Logger, error) {
	level, err := logLevel(c)
	if err != nil {
		return nil, err
	}
	// A line that somebody could have needed is never left out: there is no sampling.
	ec, encoder := zap.NewProductionEncoderConfig(), zapcore.NewJSONEncoder
	ec.EncodeTime = zapcore.RFC3339NanoTimeEncoder
	if c.Format == "console" {
		ec, encoder = zap.NewDevelopmentEncoderConfig(), zapcore.NewConsoleEncoder
	}
	ec.EncodeDuration = zapcore.StringDurationEncoder
	enc := encoder(ec)
	out := lines.New(os.Stderr, func(n int) []byte {
		b, err := enc.EncodeEntry(zapcore.Entry{Level: zapcore.WarnLevel, Time: time.Now(), Message: "whoever reads this log is too slow"}, []zapcore.Field{zap.Int("lines_lost", n)})
		if err != nil {
			return nil
		}
		defer b.Free()
		return bytes.Clone(b.Bytes())
	})
	var options []zap.Option
	if level == zapcore.DebugLevel { // where a line comes from says nothing to an operator
		options = append(options, zap.AddCaller())
	}
	return zap.New(zapcore.NewCore(enc, out, level), options...), nil
}
