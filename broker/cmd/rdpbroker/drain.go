package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/rdpbroker/rdpbroker/broker/admin"
	"github.com/rdpbroker/rdpbroker/broker/admin/client"
)

// drainLook is how often drain --wait looks who is left, and drainTold how often it
// says so although nothing has changed.
const (
	drainLook = time.Second
	drainTold = time.Minute
)

func drainCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "drain HOST",
		Short: "Let a host take no new sessions; those who have one there still get back to it",
		Long: `Let a host take no new sessions; those who have one there still get back to it.
It outlives a reload and a restart of the broker.

With --wait the command goes on until nobody has a session there any more, and says
who is left. Exit code 0: the host is empty. 1: it is not, and --timeout is over.`,
		Args: exactly(1, "one host"),
	}
	a := actFlags(c, false)
	wait := c.Flags().Bool("wait", false, "go on until nobody has a session there")
	timeout := c.Flags().Duration("timeout", 0, "with --wait: give up after this time (default: never)")
	message := c.Flags().String("message", "", "a `text` to show to all who are active there")
	c.RunE = func(c *cobra.Command, args []string) error {
		if *timeout != 0 && !*wait || *timeout < 0 {
			return usageError{fmt.Errorf("--timeout goes with --wait, and is not negative")}
		}
		if err := a.act(c, askTimeout, func(ctx context.Context, b *client.Client) (admin.Done, error) { return b.Drain(ctx, args[0], true) }); err != nil {
			return err
		}
		if *message != "" {
			err := a.act(c, askTimeout+20*time.Second, func(ctx context.Context, b *client.Client) (admin.Done, error) {
				return b.Message(ctx, client.Target{Host: args[0]}, "", *message)
			})
			if err != nil {
				return err
			}
		}
		if !*wait {
			return nil
		}
		return a.waitEmpty(c, args[0], *timeout)
	}
	return c
}

func undrainCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "undrain HOST",
		Short: "Let a host take new sessions again",
		Args:  exactly(1, "one host"),
	}
	a := actFlags(c, false)
	c.RunE = func(c *cobra.Command, args []string) error {
		return a.act(c, askTimeout, func(ctx context.Context, b *client.Client) (admin.Done, error) { return b.Drain(ctx, args[0], false) })
	}
	return c
}

// waitEmpty waits until nobody has a session on host.
func (a acting) waitEmpty(c *cobra.Command, host string, timeout time.Duration) error {
	broker, err := a.client(c)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(c.Context(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	told, last, next := time.Time{}, client.Left{}, time.NewTicker(drainLook)
	defer next.Stop()
	for {
		fresh, err := left(ctx, broker, host)
		if err != nil && ctx.Err() == nil {
			return err
		}
		if err == nil {
			if fresh.Empty() {
				_, err := fmt.Fprintf(c.OutOrStdout(), "%s is empty\n", host)
				return err
			}
			if fresh.Left != last.Left || time.Since(told) >= drainTold {
				fmt.Fprintf(c.OutOrStdout(), "%s: %s\n", host, fresh)
				told, last = time.Now(), fresh
			}
		}
		select {
		case <-next.C:
		case <-ctx.Done():
			return fmt.Errorf("%s is not empty yet, and stays drained", host)
		}
	}
}

// left is who is left on host now.
func left(ctx context.Context, b *client.Client, host string) (client.Left, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	hosts, err := b.Hosts(ctx) // before the sessions: whoever comes between is counted twice
	if err != nil {
		return client.Left{}, err
	}
	list, err := b.Sessions(ctx, admin.Filter{Host: host})
	if err != nil {
		return client.Left{}, err
	}
	return client.LeftOn(host, hosts, list), nil
}
