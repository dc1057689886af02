package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/kardianos/service"
	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"github.com/rdpbroker/rdpbroker/broker/daemon"
)

const (
	serviceName = "rdpbroker"
	// programData is where configuration, socket and audit file lie by default.
	programData = `C:\ProgramData\rdpbroker`
)

// stopWithin is how long open connections have got when Windows stops the service,
// and a fraction of what it waits for one (20 s by default).
const stopWithin = 10 * time.Second

func serviceCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "service",
		Short: "Install the broker as a Windows service, start, stop and remove it",
		Long: `Install the broker as a Windows service, start, stop and remove it. Run it as an
administrator. What the service has to say is in the event log (Application,
source rdpbroker).`,
	}
	install := &cobra.Command{
		Use:   "install",
		Short: "Register the service; it starts with Windows",
		Args:  exactly(0, "no arguments"),
	}
	file := install.Flags().StringP("config", "c", programData+`\broker.yaml`, "the configuration `file`")
	account := install.Flags().String("account", `NT AUTHORITY\NetworkService`, "the `account` that it runs as; it must be able to read the configuration and what that names")
	install.RunE = func(c *cobra.Command, _ []string) error {
		path, err := filepath.Abs(*file)
		if err != nil {
			return err
		}
		if _, err := load(path, c.ErrOrStderr()); err != nil {
			return err
		}
		s, err := newService(path, *account, nil)
		if err != nil {
			return err
		}
		if err := s.Install(); err != nil {
			return fmt.Errorf("installing the service: %w", err)
		}
		fmt.Fprintf(c.OutOrStdout(), "The service %s is installed, for %s. `rdpbroker service start` starts it.\n", serviceName, path)
		return nil
	}
	c.AddCommand(install)
	for _, v := range []struct {
		use, short, done string
		do               func(service.Service) error
	}{
		{"start", "Start the service", "started", service.Service.Start},
		{"stop", "Stop the service; open connections have got 10 seconds", "stopped", service.Service.Stop},
		{"remove", "Take the service out; configuration and audit file stay", "removed", service.Service.Uninstall},
	} {
		c.AddCommand(&cobra.Command{
			Use: v.use, Short: v.short, Args: exactly(0, "no arguments"),
			RunE: func(c *cobra.Command, _ []string) error {
				s, err := newService("", "", nil)
				if err != nil {
					return err
				}
				if err := v.do(s); err != nil {
					return fmt.Errorf("the service was not %s: %w", v.done, err)
				}
				fmt.Fprintf(c.OutOrStdout(), "The service %s is %s.\n", serviceName, v.done)
				return nil
			},
		})
	}
	return c
}

func newService(file, account string, run service.Interface) (service.Service, error) {
	if run == nil {
		run = &program{}
	}
	return service.New(run, &service.Config{
		Name: serviceName, DisplayName: "RDP connection broker",
		Description: "Sends RDP users to their own session or to a free slot.",
		Arguments:   []string{"serve", "-c", file},
		UserName:    account,
		Option: service.KeyValue{
			service.StartType: "automatic", "DelayedAutoStart": true,
			service.OnFailure: service.OnFailureRestart, service.OnFailureDelayDuration: "1s", service.OnFailureResetPeriod: 60,
		},
	})
}

// managed reports whether Windows has started the program as a service.
func managed() bool { return !service.Interactive() }

// serveManaged is serve under the service manager of Windows.
func serveManaged(file string) error {
	p := &program{file: file, done: make(chan error, 1)}
	s, err := newService(file, "", p)
	if err != nil {
		return err
	}
	p.events, err = s.Logger(nil)
	if err != nil {
		return fmt.Errorf("opening the event log: %w", err)
	}
	return s.Run()
}

// program is the broker as Windows starts and stops it.
type program struct {
	file   string
	events service.Logger

	stop, kill context.CancelFunc
	done       chan error
}

// Start implements service.Interface: it may not block.
func (p *program) Start(s service.Service) error {
	var stop, kill context.Context
	stop, p.stop = context.WithCancel(context.Background())
	kill, p.kill = context.WithCancel(context.Background())
	go func() {
		err := p.run(stop, kill)
		if err != nil {
			_ = p.events.Error(err.Error()) // nowhere else to tell it
		}
		p.done <- err
		if stop.Err() == nil { // nobody asked for it
			os.Exit(exitFailure) // the manager restarts it
		}
	}()
	return nil
}

func (p *program) run(stop, kill context.Context) error {
	var complaints bytes.Buffer
	cfg, err := load(p.file, &complaints)
	if err != nil {
		return errors.Join(errors.New(complaints.String()), err)
	}
	level, err := logLevel(cfg.Log)
	if err != nil {
		return err
	}
	return serveOn(cfg, p.file, daemon.Options{Log: zap.New(newEventCore(level, p.events)), Version: version}, stop, kill)
}

// Stop implements service.Interface.
func (p *program) Stop(service.Service) error {
	p.stop()
	select {
	case err := <-p.done:
		return err
	case <-time.After(stopWithin):
	}
	p.kill()
	return <-p.done
}
