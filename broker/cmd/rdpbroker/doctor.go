package main

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/rdpbroker/rdpbroker/broker/config"
	"github.com/rdpbroker/rdpbroker/broker/daemon"
	"github.com/rdpbroker/rdpbroker/broker/doctor"
	"github.com/rdpbroker/rdpbroker/sessions"
)

func doctorCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "doctor [HOST]",
		Short: "Examine the configured hosts: what is wrong with each, and what to do",
		Long: `Examine every configured host, or one, the way the broker will use it: names,
RDP and its certificate, the management channel (reach, trust, logon, rights),
and what the host's settings mean for the broker. No setting and no session is
changed anywhere.

A wrong password is tried once: as long as no host has let an account in, the
hosts that share it are asked one after the other, and after a refusal no more.

Exit code 0: no failures (there may be warnings). 1: failures. 2: usage.`,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usageError{fmt.Errorf("%s takes one host, or none for all (see %[1]s --help)", c.CommandPath())}
			}
			return nil
		},
	}
	file := configFlag(c)
	names := c.Flags().StringSlice("name", nil, "a `name` that users connect to, the broker's, which every host's certificate should carry")
	asJSON := c.Flags().Bool("json", false, "print JSON for scripts")
	quiet := c.Flags().BoolP("quiet", "q", false, "print only what is not in order")
	parallel := c.Flags().Int("parallel", 0, "how many hosts at the same time (default 8)")
	timeout := c.Flags().Duration("timeout", 0, "the time for one reading of a host (default 1m30s)")
	c.RunE = func(c *cobra.Command, args []string) error {
		if *parallel < 0 || *timeout < 0 {
			return usageError{fmt.Errorf("--parallel and --timeout take no negative values")}
		}
		cfg, err := load(*file, c.ErrOrStderr())
		if err != nil {
			return err
		}
		hosts, err := patients(cfg, args)
		if err != nil {
			return usageError{err}
		}
		ctx, stop := signal.NotifyContext(c.Context(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		fmt.Fprintf(c.ErrOrStderr(), "examining %d hosts\n", len(hosts))
		d := doctor.New(doctor.Config{Names: *names, Parallel: *parallel, ReadTimeout: *timeout})
		result := d.Run(ctx, hosts, func(r doctor.Report) { fmt.Fprintln(c.ErrOrStderr(), r.Line()) })
		if *asJSON {
			err = result.JSON(c.OutOrStdout())
		} else {
			fmt.Fprintln(c.ErrOrStderr())
			err = result.Text(c.OutOrStdout(), *quiet)
			if len(*names) == 0 {
				fmt.Fprintln(c.ErrOrStderr(), "whether the certificates carry the broker's name was not looked at: --name BROKER")
			}
		}
		if err == nil && result.Failures > 0 {
			return quietFailure{}
		}
		return err
	}
	return c
}

// patients are the hosts to be examined: all, or the one that args name.
func patients(cfg *config.Config, args []string) ([]doctor.Host, error) {
	var hosts []doctor.Host
	var names []string
	for _, f := range cfg.Farms {
		for _, h := range f.Hosts {
			names = append(names, h.Name)
			if len(args) == 0 || strings.EqualFold(args[0], h.Name) {
				hosts = append(hosts, patient(f, h))
			}
		}
	}
	if len(hosts) == 0 {
		return nil, fmt.Errorf("there is no host %q in the configuration; there are %s", args[0], strings.Join(names, ", "))
	}
	return hosts, nil
}

func patient(f config.Farm, h config.Host) doctor.Host {
	return doctor.Host{
		Host:       h.Host,
		Eviction:   f.Policy.Eviction.Mode,
		Management: management(h),
		Reader: doctor.ReaderFunc(func(ctx context.Context) (sessions.Report, error) {
			return daemon.ReadHost(ctx, h, nil)
		}),
	}
}

// management is how the host is managed, in the doctor's words.
func management(h config.Host) doctor.Management {
	switch {
	case h.WinRM != nil:
		w := h.WinRM
		u, err := url.Parse(w.URL)
		if err != nil { // config has parsed it
			u = &url.URL{}
		}
		return doctor.Management{
			Kind: doctor.WinRM, Addr: u.Host, User: w.User, Credential: credential(w.User, w.Password),
			PlainHTTP: u.Scheme == "http", CAFile: w.CAFile, ServerName: w.ServerName,
		}
	case h.RPC != nil:
		r := h.RPC
		return doctor.Management{Kind: doctor.WindowsRPC, Addr: r.Address, User: r.User, Credential: credential(r.User, r.Password)}
	case h.SSH != nil:
		return overSSH(doctor.WindowsSSH, &h.SSH.SSH)
	case h.XRDP.SSH != nil:
		return overSSH(doctor.XRDPOverSSH, h.XRDP.SSH)
	}
	return doctor.Management{Kind: doctor.XRDPLocal}
}

func overSSH(k doctor.Kind, s *config.SSH) doctor.Management {
	return doctor.Management{Kind: k, Addr: s.Address, User: s.User, Credential: credential(s.User, s.Password), KnownHosts: s.KnownHosts}
}

// credential tells one account with its password from another; "" without a
// password, since a key locks nobody out.
func credential(user string, password config.Secret) string {
	if password.IsZero() {
		return ""
	}
	return strings.ToLower(user) + " by " + password.String()
}
