package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/rdpbroker/rdpbroker/rdpproxy/reach"
)

func probeCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "probe HOST[:PORT]",
		Short: "Tell what a host answers: TCP, X.224, security, certificate; with --user, whether a logon reaches a desktop",
		Long: `Tell what an RDP host, or a broker in front of hosts, answers before anybody logs
on: TCP, X.224, the security it chooses and its certificate.

With --user it runs the separate program rdpprobe, which logs on and tells whether
a desktop is reached. The password comes from --password-file or from the
environment variable RDPPROBE_PASSWORD.`,
		Args: exactly(1, "one host"),
	}
	names := c.Flags().StringSlice("name", nil, "a `name` that users connect to, such as the broker's, which the certificate should carry")
	timeout := c.Flags().Duration("timeout", 20*time.Second, "the time for everything")
	asJSON := c.Flags().Bool("json", false, "print JSON for scripts")
	user := c.Flags().String("user", "", "log on as this `user`")
	domain := c.Flags().String("domain", "", "of this `domain`")
	passwordFile := c.Flags().String("password-file", "", "whose password is the first line of this `file`")
	screenshot := c.Flags().String("screenshot", "", "write the desktop to this PNG `file`")

	c.RunE = func(c *cobra.Command, args []string) error {
		if *user == "" {
			for _, f := range []string{"domain", "password-file", "screenshot"} {
				if c.Flags().Changed(f) {
					return usageError{fmt.Errorf("--%s goes with --user", f)}
				}
			}
			return probeReach(c, args[0], *names, *timeout, *asJSON)
		}
		probe := []string{"--user", *user, "--timeout", timeout.String()}
		if *domain != "" {
			probe = append(probe, "--domain", *domain)
		}
		if *passwordFile != "" {
			probe = append(probe, "--password-file", *passwordFile)
		}
		if *screenshot != "" {
			probe = append(probe, "--screenshot", *screenshot)
		}
		if *asJSON {
			probe = append(probe, "--json")
		}
		return probeLogon(c, append(probe, args[0]), *timeout)
	}
	return c
}

func probeReach(c *cobra.Command, host string, names []string, timeout time.Duration, asJSON bool) error {
	addr := host
	if _, _, err := net.SplitHostPort(host); err != nil {
		addr = net.JoinHostPort(strings.Trim(host, "[]"), "3389")
	}
	ctx, cancel := context.WithTimeout(c.Context(), timeout)
	defer cancel()
	result, err := reach.Check(ctx, addr, reach.Options{Names: names})
	if err != nil && result.ConnectError == "" {
		return err
	}
	// That there is no connection is a finding, with advice, like any other.
	if asJSON {
		enc := json.NewEncoder(c.OutOrStdout())
		enc.SetIndent("", "  ")
		err = enc.Encode(result)
	} else {
		err = result.Summary(c.OutOrStdout())
	}
	if err == nil && result.Worst() == reach.LevelFailure {
		return quietFailure{}
	}
	return err
}

// probeLogon runs rdpprobe, which stands beside this program or on the PATH.
func probeLogon(c *cobra.Command, args []string, timeout time.Duration) error {
	program, err := findProbe()
	if err != nil {
		return err
	}
	// It keeps its own time; this is for a probe that hangs.
	ctx, cancel := context.WithTimeout(c.Context(), timeout+10*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Stdout, cmd.Stderr = c.OutOrStdout(), c.ErrOrStderr()
	err = cmd.Run()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit) && exit.ExitCode() == exitUsage:
		return usageError{errors.New("rdpprobe did not take these arguments")}
	case errors.As(err, &exit):
		return quietFailure{}
	case err != nil:
		return fmt.Errorf("running %s: %w", program, err)
	}
	return nil
}

func findProbe() (string, error) {
	name := "rdpprobe"
	if runtime.GOOS == "windows" {
		name += ".exe"
	}
	if self, err := os.Executable(); err == nil {
		beside := filepath.Join(filepath.Dir(self), name)
		if _, err := os.Stat(beside); !errors.Is(err, fs.ErrNotExist) {
			return beside, nil
		}
	}
	if path, err := exec.LookPath(name); err == nil {
		return path, nil
	}
	return "", errors.New("a logon is tried by the separate program rdpprobe: put it beside rdpbroker (make build makes both)")
}
