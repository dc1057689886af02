package main

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/rdpbroker/rdpbroker/broker/admin"
	"github.com/rdpbroker/rdpbroker/broker/admin/client"
	"github.com/rdpbroker/rdpbroker/broker/config"
)

// askTimeout bounds a question to the running broker; it answers from memory.
const askTimeout = 10 * time.Second

// asking are the flags of the commands that ask the running broker.
type asking struct {
	config, socket *string
	json           *bool
}

func askFlags(c *cobra.Command) asking {
	return asking{
		config: configFlag(c),
		socket: c.Flags().String("socket", "", "the `path` of the broker's admin socket (default: the one in the configuration file)"),
		json:   c.Flags().Bool("json", false, "print JSON for scripts"),
	}
}

// client is the running broker's socket: the one given, else the one that the
// configuration names, else the default.
func (a asking) client(c *cobra.Command) (*client.Client, error) {
	if *a.socket != "" {
		return client.NewClient(*a.socket), nil
	}
	cfg, err := config.Load(*a.config)
	switch {
	case err == nil && cfg.Admin.Socket != "":
		return client.NewClient(cfg.Admin.Socket), nil
	case err == nil:
		return nil, fmt.Errorf("%s has no admin.socket, so a running broker cannot be asked", *a.config)
	case c.Flags().Changed("config"):
		return nil, err
	}
	return client.NewClient(config.DefaultSocket()), nil
}

// ask runs one question and prints the answer as a table or as JSON.
func ask[T any](c *cobra.Command, a asking, question func(context.Context, *client.Client) (T, error), table func(io.Writer, T) error) error {
	broker, err := a.client(c)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(c.Context(), askTimeout)
	defer cancel()
	answer, err := question(ctx, broker)
	if err != nil {
		return err
	}
	if *a.json {
		return client.WriteJSON(c.OutOrStdout(), answer)
	}
	return table(c.OutOrStdout(), answer)
}

func hostsCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "hosts",
		Short: "List the hosts of the running broker with their slots",
		Args:  exactly(0, "no arguments"),
	}
	a := askFlags(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		return ask(c, a, func(ctx context.Context, b *client.Client) (admin.Hosts, error) { return b.Hosts(ctx) }, client.WriteHosts)
	}
	return c
}

func sessionsCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "sessions",
		Short: "List the sessions that the running broker sees",
		Args:  exactly(0, "no arguments"),
	}
	a := askFlags(c)
	var f admin.Filter
	c.Flags().StringVar(&f.Host, "host", "", "only those on this `host`")
	c.Flags().StringVar(&f.User, "user", "", "only those of this `user`")
	c.RunE = func(c *cobra.Command, _ []string) error {
		return ask(c, a, func(ctx context.Context, b *client.Client) (admin.Sessions, error) { return b.Sessions(ctx, f) }, client.WriteSessions)
	}
	return c
}

func explainCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "explain USER",
		Short: "Tell where a user would go now, and why",
		Long: `Tell where a user would go if they connected now, with every host and session
that was looked at and why it lost. Nothing is reserved and nobody is logged off.

USER is what the client would say: a name, whole or cut to nine characters. With
"" it is a client that says none.

With --at they come at another time, as if nothing happened until then. With
--what-if the policy is another one, such as eviction.min_disconnected=5m: a key of
eviction: or of farms.NAME: with the value that it would have in broker.yaml.`,
		Args: exactly(1, "one user"),
	}
	a := askFlags(c)
	from := c.Flags().String("from", "", "the client's `address`")
	farm := c.Flags().String("farm", "", "the `farm`, where there are several")
	at := c.Flags().String("at", "", "when they would come: +2h, 18:30, or a `time` such as 2026-03-02T09:00")
	whatIf := c.Flags().StringArray("what-if", nil, "another policy: `KEY=VALUE` as in broker.yaml; may be given several times")
	c.RunE = func(c *cobra.Command, args []string) error {
		q := admin.Question{User: args[0], Farm: *farm, WhatIf: *whatIf}
		var err error
		if q.At, err = coming(*at, time.Now()); err != nil {
			return err
		}
		if *from != "" {
			addr, err := netip.ParseAddr(*from)
			if err != nil {
				return usageError{fmt.Errorf("--from takes an IP address: %w", err)}
			}
			q.From = addr
		}
		return ask(c, a, func(ctx context.Context, b *client.Client) (admin.Explanation, error) { return b.Explain(ctx, q) }, client.WriteExplanation)
	}
	return c
}

// coming is what --at says of a time: in how long, at what o'clock next, or when; ""
// is the zero time, for now.
func coming(s string, now time.Time) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	if after, ok := strings.CutPrefix(s, "+"); ok {
		if d, err := config.ParseDuration(after); err == nil {
			return now.Add(d), nil
		}
	}
	if o, err := time.Parse("15:04", s); err == nil {
		year, month, day := now.Date()
		at := time.Date(year, month, day, o.Hour(), o.Minute(), 0, 0, now.Location())
		if at.Before(now) {
			at = time.Date(year, month, day+1, o.Hour(), o.Minute(), 0, 0, now.Location())
		}
		return at, nil
	}
	if t, ok := timeOf(s); ok {
		return t, nil
	}
	return time.Time{}, usageError{fmt.Errorf("--at %q is neither in how long (+2h), nor a time of day (18:30), nor a time (2026-03-02T09:00)", s)}
}
