package main

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/rdpbroker/rdpbroker/broker/admin/auth"
	"github.com/rdpbroker/rdpbroker/broker/config"
)

// minPassword is the shortest password that is taken, in characters.
const minPassword = 10

func adminCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "admin",
		Short: "Say who may log in to the page and use the API over the network",
		Long: `Say who may log in to the page and use the API over the network: the commands
change the file admin.people_file, which the running broker reads anew by itself.

viewer    sees everything and changes nothing
helpdesk  may also send messages, log off disconnected sessions, and keep sessions
admin     may also drain hosts, set the eviction mode, and reload`,
		Args: exactly(0, "a command"),
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(passwdCommand(), machineCommand(), removeCommand(), listCommand())
	return c
}

// peopleFlags is where the file of people is.
type peopleFlags struct{ config, file *string }

func peopleFlagsOf(c *cobra.Command) peopleFlags {
	return peopleFlags{config: configFlag(c), file: c.Flags().String("file", "", "the `file` of people (default: admin.people_file of the configuration)")}
}

func (p peopleFlags) path() (string, error) {
	if *p.file != "" {
		return *p.file, nil
	}
	cfg, err := config.Load(*p.config)
	switch {
	case err != nil:
		return "", err
	case cfg.Admin.PeopleFile == "":
		return "", fmt.Errorf("%s has no admin.people_file; set it, or name the file with --file", *p.config)
	}
	return cfg.Admin.PeopleFile, nil
}

// edit changes the file at path: it is written beside and put in its place, so that
// nobody ever reads half of it.
func edit(path string, change func(text []byte) ([]byte, error)) error {
	_, text, err := auth.ReadPeople(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	out, err := change(text)
	if err != nil {
		return err
	}
	if _, err := auth.ParsePeople(out); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	mode, tmp := fs.FileMode(0o600), filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".new")
	if info, err := os.Stat(path); err == nil {
		mode = info.Mode().Perm()
	}
	if err := os.WriteFile(tmp, out, mode); err != nil {
		return err
	}
	keepOwner(path, tmp)
	if err := os.Rename(tmp, path); err != nil {
		_ = os.Remove(tmp)
		return err
	}
	return nil
}

func roleFlag(c *cobra.Command) *string {
	return c.Flags().String("role", "viewer", "viewer, helpdesk or admin")
}

func passwdCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "passwd NAME",
		Short: "Give a person a password and a role",
		Long: `Give a person a password and a role. The password is asked for, or is the first
line of standard input where that is no terminal. With --no-password the person is
known by what a trusted proxy says only (admin.trusted_header).`,
		Args: exactly(1, "one name"),
	}
	p, role := peopleFlagsOf(c), roleFlag(c)
	without := c.Flags().Bool("no-password", false, "known by a trusted proxy only")
	c.RunE = func(c *cobra.Command, args []string) error {
		r, err := auth.ParseRole(*role)
		if err != nil {
			return usageError{err}
		}
		path, err := p.path()
		if err != nil {
			return err
		}
		password := ""
		if !*without {
			if password, err = newPassword(c); err != nil {
				return err
			}
		}
		e, err := auth.NewPerson(args[0], r, password)
		if err != nil {
			return err
		}
		if err := edit(path, func(text []byte) ([]byte, error) { return auth.Put(text, e), nil }); err != nil {
			return err
		}
		fmt.Fprintf(c.OutOrStdout(), "%s may log in as %s (%s)\n", e.Name, e.Role, path)
		return nil
	}
	return c
}

// newPassword asks for a password, twice where a person is asked.
func newPassword(c *cobra.Command) (string, error) {
	in, isFile := c.InOrStdin().(*os.File)
	if isFile && term.IsTerminal(int(in.Fd())) {
		var said [2]string
		for i, prompt := range []string{"Password: ", "The same again: "} {
			fmt.Fprint(c.ErrOrStderr(), prompt)
			b, err := term.ReadPassword(int(in.Fd()))
			fmt.Fprintln(c.ErrOrStderr())
			if err != nil {
				return "", err
			}
			said[i] = string(b)
		}
		if said[0] != said[1] {
			return "", errors.New("the two are not the same")
		}
		return goodPassword(said[0])
	}
	line, err := bufio.NewReader(c.InOrStdin()).ReadString('\n')
	if err != nil && line == "" {
		return "", fmt.Errorf("reading the password from standard input: %w", err)
	}
	return goodPassword(strings.TrimRight(line, "\r\n"))
}

func goodPassword(s string) (string, error) {
	if n := len([]rune(s)); n < minPassword {
		return "", fmt.Errorf("the password has %d characters; it needs %d", n, minPassword)
	}
	return s, nil
}

func machineCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "token NAME",
		Short: "Give a machine a token and a role, and print the token once",
		Args:  exactly(1, "one name"),
	}
	p, role := peopleFlagsOf(c), roleFlag(c)
	life := durationValue(365 * 24 * time.Hour)
	c.Flags().Var(&life, "for", "how long the token is good, such as 90d; 0s: without end")
	c.RunE = func(c *cobra.Command, args []string) error {
		r, err := auth.ParseRole(*role)
		if err != nil {
			return usageError{err}
		}
		path, err := p.path()
		if err != nil {
			return err
		}
		var until time.Time
		if life > 0 {
			until = time.Now().Add(time.Duration(life))
		}
		e, token, err := auth.NewMachine(args[0], r, until)
		if err != nil {
			return err
		}
		if err := edit(path, func(text []byte) ([]byte, error) { return auth.Put(text, e), nil }); err != nil {
			return err
		}
		fmt.Fprintln(c.OutOrStdout(), token)
		return nil
	}
	return c
}

func removeCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "remove NAME",
		Short: "Let a person, or a machine, in no more; whoever is logged in is out at once",
		Args:  exactly(1, "one name"),
	}
	p := peopleFlagsOf(c)
	machine := c.Flags().Bool("machine", false, "NAME is a machine")
	c.RunE = func(c *cobra.Command, args []string) error {
		path, err := p.path()
		if err != nil {
			return err
		}
		return edit(path, func(text []byte) ([]byte, error) {
			e := auth.Entry{Machine: *machine, Name: args[0]}
			out, removed := auth.Remove(text, e)
			if !removed {
				return nil, fmt.Errorf("%s has no %s %s", path, e.Kind(), args[0])
			}
			return out, nil
		})
	}
	return c
}

func listCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "list",
		Short: "List who may log in",
		Args:  exactly(0, "no arguments"),
	}
	p := peopleFlagsOf(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		path, err := p.path()
		if err != nil {
			return err
		}
		people, _, err := auth.ReadPeople(path)
		if err != nil {
			return err
		}
		entries := slices.Clone(people.Entries())
		slices.SortStableFunc(entries, func(a, b auth.Entry) int { return strings.Compare(a.Name, b.Name) })
		for _, e := range entries {
			fmt.Fprintf(c.OutOrStdout(), "%-8s %-9s %s%s\n", e.Kind(), e.Role, e.Name, howKnown(e))
		}
		return nil
	}
	return c
}

// howKnown is how an entry is known, as the end of a line.
func howKnown(e auth.Entry) string {
	switch {
	case e.Machine && e.Until.IsZero():
		return " (token without end)"
	case e.Machine:
		return " (token until " + e.Until.Format("2006-01-02") + ")"
	case !e.HasPassword():
		return " (by a trusted proxy only)"
	}
	return ""
}
