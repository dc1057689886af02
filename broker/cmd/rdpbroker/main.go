// Command rdpbroker is a connection broker for Windows terminal servers and xrdp
// hosts: users point their RDP client at it and get a desktop.
package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"
)

// version is set when a release is built.
var version = "development"

// Exit codes. Scripts depend on them.
const (
	exitOK      = 0
	exitFailure = 1 // it was tried and did not work, or a check found something
	exitUsage   = 2 // the command line is wrong
)

func main() { os.Exit(run(os.Args[1:])) }

// run is the whole program with these arguments; the result is its exit code.
func run(args []string) int {
	root := rootCommand()
	root.SetArgs(args)
	err := root.Execute()
	if _, _, unknown := root.Find(args); unknown != nil {
		err = usageError{unknown} // no command of this name
	}
	var usage usageError
	var quiet quietFailure
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &quiet):
		return exitFailure
	case errors.As(err, &usage):
		fmt.Fprintln(os.Stderr, "rdpbroker:", err)
		return exitUsage
	}
	fmt.Fprintln(os.Stderr, "rdpbroker:", err)
	return exitFailure
}

// rootCommand is the program without a command, and all its commands.
func rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:           "rdpbroker",
		Short:         "A connection broker for terminal servers: nobody meets a full host again",
		SilenceUsage:  true,
		SilenceErrors: true,
		Version:       version,
	}
	root.SetVersionTemplate("rdpbroker {{.Version}}\n")
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return usageError{fmt.Errorf("%w (see %s --help)", err, c.CommandPath())}
	})
	root.AddCommand(
		serveCommand(),
		demoCommand(),
		checkCommand(),
		doctorCommand(),
		hostsCommand(),
		sessionsCommand(),
		connectionsCommand(),
		waitingCommand(),
		topCommand(),
		explainCommand(),
		drainCommand(),
		undrainCommand(),
		messageCommand(),
		logoffCommand(),
		keepCommand(),
		evictionCommand(),
		reloadCommand(),
		pageCommand(),
		adminCommand(),
		auditCommand(),
		tokenCommand(),
		probeCommand(),
		serviceCommand(),
		manCommand(),
		versionCommand(),
	)
	return root
}

// usageError is a mistake on the command line.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// quietFailure ends the program with exit code 1; what there is to say was said.
type quietFailure struct{}

func (quietFailure) Error() string { return "failed" }

// exactly and atMost are cobra's checks of arguments, as usage errors.
func exactly(n int, what string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) != n {
			return usageError{fmt.Errorf("%s takes %s (see %s --help)", c.CommandPath(), what, c.CommandPath())}
		}
		return nil
	}
}

func atMost(n int, what string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) > n {
			return usageError{fmt.Errorf("%s takes %s at most (see %[1]s --help)", c.CommandPath(), what)}
		}
		return nil
	}
}

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  exactly(0, "no arguments"),
		Run:   func(c *cobra.Command, _ []string) { fmt.Fprintln(c.OutOrStdout(), "rdpbroker", version) },
	}
}
