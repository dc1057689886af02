package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/rdpbroker/rdpbroker/broker/admin"
	"github.com/rdpbroker/rdpbroker/broker/admin/client"
	"github.com/rdpbroker/rdpbroker/sessions"
)

// logoffTimeout bounds the wait for a logoff; the broker gives up before.
const logoffTimeout = 2*time.Hour + 2*time.Minute

// acting are the flags of the commands that have something done.
type acting struct {
	asking
	yes *bool
}

func actFlags(c *cobra.Command, asks bool) acting {
	a := acting{asking: askFlags(c), yes: new(bool)}
	if asks {
		c.Flags().BoolVarP(a.yes, "yes", "y", false, "do not ask whether it is meant")
	}
	return a
}

// act has one thing done and says what was.
func (a acting) act(c *cobra.Command, limit time.Duration, do func(context.Context, *client.Client) (admin.Done, error)) error {
	broker, err := a.client(c)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(c.Context(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	done, err := do(ctx, broker)
	if err != nil {
		return err
	}
	if *a.json {
		return client.WriteJSON(c.OutOrStdout(), done)
	}
	return client.WriteDone(c.OutOrStdout(), done)
}

// errNotMeant says that whoever was asked has not said yes.
var errNotMeant = errors.New("nothing was done")

// confirm asks whether what is meant, unless --yes says so. A program that cannot
// be asked must say --yes.
func (a acting) confirm(c *cobra.Command, what string) error {
	if *a.yes {
		return nil
	}
	in, isFile := c.InOrStdin().(*os.File)
	if !isFile || !term.IsTerminal(int(in.Fd())) {
		return usageError{fmt.Errorf("%s Say --yes to have that done without being asked", what)}
	}
	fmt.Fprintf(c.ErrOrStderr(), "%s [y/N] ", what)
	line, err := bufio.NewReader(in).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if answer := strings.ToLower(strings.TrimSpace(line)); answer != "y" && answer != "yes" {
		return errNotMeant
	}
	return nil
}

// target is what HOST or HOST/ID names; a session as the broker sees it now.
func target(ctx context.Context, b *client.Client, s string) (client.Target, *admin.Session, error) {
	host, number, one := strings.Cut(s, "/")
	if !one {
		return client.Target{Host: host}, nil, nil
	}
	id, err := strconv.Atoi(number)
	if err != nil || host == "" {
		return client.Target{}, nil, usageError{fmt.Errorf("%q is not HOST/ID, such as ts1/3", s)}
	}
	list, err := b.Sessions(ctx, admin.Filter{Host: host})
	if err != nil {
		return client.Target{}, nil, err
	}
	for i := range list.Sessions {
		if x := &list.Sessions[i]; x.ID == id {
			return client.Target{Host: host, Session: true, ID: id, Key: x.Key}, x, nil
		}
	}
	return client.Target{}, nil, fmt.Errorf("there is no session %s; rdpbroker sessions --host %s lists them", s, host)
}

// sessionTarget is target for what must be a session.
func sessionTarget(ctx context.Context, b *client.Client, s string) (client.Target, *admin.Session, error) {
	t, x, err := target(ctx, b, s)
	if err == nil && x == nil {
		err = usageError{fmt.Errorf("%q is not HOST/ID, such as ts1/3", s)}
	}
	return t, x, err
}

func messageCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "message HOST[/ID] TEXT",
		Short: "Show a message to the user of a session, or to all who are active on a host",
		Args:  exactly(2, "a host or a session, and a text"),
	}
	a := actFlags(c, false)
	title := c.Flags().String("title", "", "the `title` of the window")
	c.RunE = func(c *cobra.Command, args []string) error {
		return a.act(c, askTimeout+20*time.Second, func(ctx context.Context, b *client.Client) (admin.Done, error) {
			t, _, err := target(ctx, b, args[0])
			if err != nil {
				return admin.Done{}, err
			}
			return b.Message(ctx, t, *title, args[1])
		})
	}
	return c
}

func logoffCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "logoff HOST/ID",
		Short: "Log off a disconnected session; its user loses what they had not saved",
		Long: `Log off a disconnected session; its user loses what they had not saved. The host
looks once more and refuses unless it is still the same session and still
disconnected. The command ends when the session is gone.`,
		Args: exactly(1, "one session"),
	}
	a := actFlags(c, true)
	c.RunE = func(c *cobra.Command, args []string) error {
		return a.act(c, logoffTimeout, func(ctx context.Context, b *client.Client) (admin.Done, error) {
			t, x, err := sessionTarget(ctx, b, args[0])
			if err != nil {
				return admin.Done{}, err
			}
			if x.State != sessions.StateDisconnected {
				return admin.Done{}, fmt.Errorf("session %s of %s is %s: only a disconnected session is logged off", args[0], client.Account(x), x.State)
			}
			if err := a.confirm(c, fmt.Sprintf("%s, disconnected for %s, loses what they had not saved in session %s.", client.Account(x), admin.Age(x.DisconnectedFor), args[0])); err != nil {
				return admin.Done{}, err
			}
			return b.Logoff(ctx, t)
		})
	}
	return c
}

func keepCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "keep HOST/ID",
		Short: "Keep a session from being logged off for some time, whoever needs its slot",
		Args:  exactly(1, "one session"),
	}
	a := actFlags(c, false)
	how := durationValue(8 * time.Hour)
	c.Flags().Var(&how, "for", "how long, 30d at most")
	off := c.Flags().Bool("off", false, "keep it no longer")
	c.MarkFlagsMutuallyExclusive("for", "off")
	c.RunE = func(c *cobra.Command, args []string) error {
		return a.act(c, askTimeout, func(ctx context.Context, b *client.Client) (admin.Done, error) {
			t, _, err := sessionTarget(ctx, b, args[0])
			if err != nil {
				return admin.Done{}, err
			}
			if *off {
				return b.Unkeep(ctx, t)
			}
			return b.Keep(ctx, t, time.Duration(how))
		})
	}
	return c
}

func evictionCommand() *cobra.Command {
	c := &cobra.Command{
		Use:       "eviction off|shadow|on|config",
		Short:     "Overrule for all farms whether anybody is logged off to make room",
		ValidArgs: []string{"off", "shadow", "on", "config"},
		Long: `Overrule for all farms whether anybody is logged off to make room:

off     nobody is, at once: the kill switch
shadow  who would be is decided and recorded, and nobody is
on      disconnected sessions are logged off where somebody needs their slot
config  as the configuration says again

It outlives a reload, not a restart.`,
		Args: exactly(1, "off, shadow, on or config"),
	}
	a := actFlags(c, true)
	c.RunE = func(c *cobra.Command, args []string) error {
		switch args[0] {
		case "off", "shadow", "config":
		case "on":
			if err := a.confirm(c, "Users will be logged off in every farm, whatever the configuration says."); err != nil {
				return err
			}
		default:
			return usageError{fmt.Errorf("%s takes off, shadow, on or config, and not %q", c.CommandPath(), args[0])}
		}
		return a.act(c, askTimeout, func(ctx context.Context, b *client.Client) (admin.Done, error) {
			return b.SetEviction(ctx, args[0])
		})
	}
	return c
}

func reloadCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "reload",
		Short: "Let the running broker read its configuration anew, and tell what changes",
		Long: `Let the running broker read its configuration anew, and tell what changes: hosts
that are gone, slots that are lost, keys that need a restart. Sessions, connections,
reservations and the queue stay. A file with a mistake changes nothing.

Users lose something by some changes; then it is asked first whether they are meant.`,
		Args: exactly(0, "no arguments"),
	}
	a := actFlags(c, true)
	dry := c.Flags().Bool("dry-run", false, "only tell what would change")
	c.RunE = func(c *cobra.Command, _ []string) error {
		broker, err := a.client(c)
		if err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(c.Context(), 3*askTimeout)
		defer cancel()
		would, err := broker.Reload(ctx, true)
		if err != nil {
			return err
		}
		tell := func(x admin.Changes) error {
			if *a.json {
				return client.WriteJSON(c.OutOrStdout(), x)
			}
			return client.WriteChanges(c.OutOrStdout(), x)
		}
		if *dry {
			return tell(would)
		}
		if would.Loses() && !*a.yes {
			if err := client.WriteChanges(c.ErrOrStderr(), would); err != nil {
				return err
			}
			if err := a.confirm(c, "Users lose something by this."); err != nil {
				return err
			}
		}
		done, err := broker.Reload(ctx, false)
		if err != nil {
			return err
		}
		return tell(done)
	}
	return c
}

func connectionsCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "connections",
		Short: "List the connections that the running broker relays",
		Args:  exactly(0, "no arguments"),
	}
	a := askFlags(c)
	host := c.Flags().String("host", "", "only those to this `host`")
	c.RunE = func(c *cobra.Command, _ []string) error {
		return ask(c, a, func(ctx context.Context, b *client.Client) (admin.Connections, error) {
			return b.Connections(ctx, *host)
		}, client.WriteConnections)
	}
	return c
}

func waitingCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "waiting",
		Short: "List the people who wait for a slot",
		Args:  exactly(0, "no arguments"),
	}
	a := askFlags(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		return ask(c, a, func(ctx context.Context, b *client.Client) (admin.WaitingList, error) { return b.Waiting(ctx) }, client.WriteWaiting)
	}
	return c
}

func pageCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "page",
		Short: "Make a link to the page that logs one browser in, once, within five minutes",
		Long: `Make a link to the page that logs one browser in, once, within five minutes, as
whoever runs this command, with the role admin. It asks for admin.listen.`,
		Args: exactly(0, "no arguments"),
	}
	a := askFlags(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		return ask(c, a, func(ctx context.Context, b *client.Client) (admin.Link, error) { return b.Link(ctx) },
			func(w io.Writer, l admin.Link) error { _, err := fmt.Fprintln(w, l.URL); return err })
	}
	return c
}
