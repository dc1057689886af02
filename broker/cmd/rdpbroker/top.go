package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/rdpbroker/rdpbroker/broker/admin"
	"github.com/rdpbroker/rdpbroker/broker/admin/client"
)

func topCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "top",
		Short: "Show the farm as it changes: hosts, who waits, what was decided last",
		Long: `Show the farm as it changes: hosts, who waits, what was decided last. Ctrl-C ends
it. Where the output is no terminal, or with --once, it is shown once.`,
		Args: exactly(0, "no arguments"),
	}
	a := askFlags(c)
	once := c.Flags().Bool("once", false, "show it once")
	every := c.Flags().Duration("every", 2*time.Second, "how often to look")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if *every < 100*time.Millisecond {
			return usageError{fmt.Errorf("--every takes 100ms or more")}
		}
		broker, err := a.client(c)
		if err != nil {
			return err
		}
		out, isFile := c.OutOrStdout().(*os.File)
		if *a.json || *once || !isFile || !term.IsTerminal(int(out.Fd())) {
			x, err := look(c.Context(), broker)
			if err != nil {
				return err
			}
			if *a.json {
				return client.WriteJSON(c.OutOrStdout(), x)
			}
			return client.WriteTop(c.OutOrStdout(), x)
		}
		return watch(c.Context(), broker, out, *every)
	}
	return c
}

// look is what top shows.
func look(ctx context.Context, b *client.Client) (x client.Top, err error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	if x.Status, err = b.Status(ctx); err != nil {
		return x, err
	}
	if x.Hosts, err = b.Hosts(ctx); err != nil {
		return x, err
	}
	var d admin.Decisions
	d, err = b.Decisions(ctx, 50)
	x.Records = d.Records
	return x, err
}

// What a terminal is told: another screen, no cursor, and both back (xterm control
// sequences); home, and the rest of a line or of the screen cleared.
const (
	enterScreen = "\x1b[?1049h\x1b[?25l"
	leaveScreen = "\x1b[?25h\x1b[?1049l"
	home        = "\x1b[H"
	clearLine   = "\x1b[K"
	clearBelow  = "\x1b[J"
)

// watch shows it again and again until it is interrupted.
func watch(ctx context.Context, b *client.Client, out *os.File, every time.Duration) error {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	fmt.Fprint(out, enterScreen)
	defer fmt.Fprint(out, leaveScreen)
	next := time.NewTicker(every)
	defer next.Stop()
	for {
		var text bytes.Buffer
		x, err := look(ctx, b)
		if err == nil {
			err = client.WriteTop(&text, x)
		}
		if err != nil && ctx.Err() == nil {
			fmt.Fprintln(&text, err) // it may come back
		}
		if err := frame(out, text.String()); err != nil {
			return err
		}
		select {
		case <-next.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// frame draws text over what the terminal showed, cut to its size.
func frame(out *os.File, text string) error {
	width, height, err := term.GetSize(int(out.Fd()))
	if err != nil {
		width, height = 80, 24
	}
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	if len(lines) > height {
		lines = lines[:height]
	}
	var b strings.Builder
	b.WriteString(home)
	for i, l := range lines {
		if r := []rune(l); len(r) > width {
			l = string(r[:width])
		}
		b.WriteString(l + clearLine)
		if i < len(lines)-1 {
			b.WriteString("\r\n")
		}
	}
	b.WriteString(clearBelow)
	_, err = io.WriteString(out, b.String())
	return err
}
