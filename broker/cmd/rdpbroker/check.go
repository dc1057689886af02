package main

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/spf13/cobra"

	"github.com/rdpbroker/rdpbroker/broker/daemon"
)

func checkCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "check [FILE]",
		Short: "Tell every mistake in a configuration file",
		Long: `Tell every mistake in a configuration file: file, line, column, key, what is
wrong and what is allowed. Nothing is started and no host is asked.

Exit code 0: the broker would run on it (there may be warnings). 1: it would not.`,
		Args: atMost(1, "one file"),
	}
	file := configFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		if len(args) == 1 {
			if c.Flags().Changed("config") {
				return usageError{fmt.Errorf("name the file once: as an argument or with -c")}
			}
			*file = args[0]
		}
		cfg, err := load(*file, c.ErrOrStderr())
		if err != nil {
			return err
		}
		// A key may be missing on this machine, which is a warning, but not damaged.
		if _, err := daemon.TokenRing(cfg.Identity.Tokens); err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrPermission) {
			return err
		}
		hosts := 0
		for _, f := range cfg.Farms {
			hosts += len(f.Hosts)
		}
		fmt.Fprintf(c.OutOrStdout(), "%s: no mistakes; %s, %s, %s\n", *file,
			counted(len(cfg.Farms), "farm"), counted(hosts, "host"), counted(len(cfg.Listeners), "listener"))
		return nil
	}
	return c
}

func counted(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}
