package main

import (
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

// manCommand writes the manual from the same texts that --help prints.
func manCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "man DIR",
		Short: "Write the manual pages of all commands into a folder",
		Long: `Write the manual pages of all commands into a folder, which is made if need be.
Their date is that of SOURCE_DATE_EPOCH, if that is set, so that the same program
writes the same pages.`,
		Args:   exactly(1, "one folder"),
		Hidden: true, // for those who make packages
		RunE: func(c *cobra.Command, args []string) error {
			date, err := sourceDate(os.Getenv("SOURCE_DATE_EPOCH"), time.Now())
			if err != nil {
				return err
			}
			if err := os.MkdirAll(args[0], 0o755); err != nil {
				return err
			}
			root := c.Root()
			root.DisableAutoGenTag = true
			root.InitDefaultCompletionCmd()
			return doc.GenManTree(root, &doc.GenManHeader{
				Section: "1", Date: &date, Source: "rdpbroker " + version, Manual: "RDP connection broker",
			}, args[0])
		},
	}
}

// sourceDate is the date that documents bear: that of the sources, else now.
func sourceDate(epoch string, now time.Time) (time.Time, error) {
	if epoch == "" {
		return now.UTC(), nil
	}
	seconds, err := strconv.ParseInt(epoch, 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("SOURCE_DATE_EPOCH is no number of seconds: %q", epoch)
	}
	return time.Unix(seconds, 0).UTC(), nil
}
