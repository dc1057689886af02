//go:build !windows

package main

import (
	"errors"

	"github.com/spf13/cobra"
)

// serviceCommand is for Windows; whoever looks for it elsewhere is told what to use.
func serviceCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "service",
		Short:  "Install the broker as a Windows service",
		Hidden: true,
		RunE: func(*cobra.Command, []string) error {
			return errors.New("this is for Windows; here the service manager starts `rdpbroker serve`: see rdpbroker.service (systemd) and rdpbroker.openrc in the release")
		},
	}
}

// managed reports whether a service manager that wants answers has started the program.
func managed() bool { return false }

func serveManaged(string) error { return errors.New("no service manager") }
