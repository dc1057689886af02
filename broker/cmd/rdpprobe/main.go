// SPDX-License-Identifier: GPL-3.0-only

// Command rdpprobe logs a user on to an RDP host, or to a broker in front of
// hosts, and tells whether a desktop was reached. It prints what happened, for
// people or as JSON, and writes the picture as PNG.
//
// It is a program of its own, and not a verb of rdpbroker, because it is under
// the GPL: see rdpproxy/probe/LICENSE. rdpbroker runs it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/rdpbroker/rdpbroker/rdpproxy/probe"
)

// The exit codes.
const (
	exitDesktop   = 0
	exitNoDesktop = 1
	exitUsage     = 2
)

// passwordVariable is the environment variable with the password. There is no
// flag for it: every user of a machine can read the flags of all programs.
const passwordVariable = "RDPPROBE_PASSWORD"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Getenv, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run is main with its surroundings as arguments.
func run(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) int {
	c, err := parseFlags(args, getenv, stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return exitDesktop
	case err != nil:
		fmt.Fprintf(stderr, "rdpprobe: %v\n", err)
		return exitUsage
	}
	result := probe.Run(ctx, c.options)
	if err := c.screenshot(result); err != nil {
		fmt.Fprintf(stderr, "rdpprobe: %v\n", err)
	}
	if err := c.print(result, stdout); err != nil {
		fmt.Fprintf(stderr, "rdpprobe: %v\n", err)
		return exitNoDesktop
	}
	if !result.Desktop {
		return exitNoDesktop
	}
	return exitDesktop
}

// command is what the flags ask for.
type command struct {
	options probe.Options
	picture string // where to write it; "" nowhere
	json    bool
}

const usage = `rdpprobe logs a user on to an RDP host and tells whether a desktop was reached.

usage: rdpprobe --user U [flags] HOST[:PORT]

The password comes from --password-file or from the environment variable
RDPPROBE_PASSWORD. The session stays on the host, disconnected, and may hold one
of its slots; log it off if it is not wanted.

Exit codes: 0 a desktop was reached, 1 none was, 2 wrong usage.

flags:
`

// parseFlags reads the command line. Errors are the caller's to print.
func parseFlags(args []string, getenv func(string) string, stderr io.Writer) (command, error) {
	var c command
	o := &c.options
	flags := flag.NewFlagSet("rdpprobe", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	var passwordFile, size string
	flags.StringVar(&o.User, "user", "", `account: user, user@dom.example or DOM\user`)
	flags.StringVar(&o.Domain, "domain", "", "domain of the account")
	flags.StringVar(&passwordFile, "password-file", "", "file with the password in its first line")
	flags.DurationVar(&o.Timeout, "timeout", 20*time.Second, "limit for all of the probe")
	flags.DurationVar(&o.Settle, "settle", time.Second, "take the picture when the screen was quiet for so long, or after four times as long")
	flags.StringVar((*string)(&o.Security), "security", string(probe.SecurityAuto), "what to offer: auto, nla, tls or rdp")
	flags.StringVar(&o.Cookie, "cookie", "", `name for "Cookie: mstshash=", or a whole routing token, instead of the user's name`)
	flags.StringVar(&size, "size", "1024x768", "desktop to ask for")
	flags.IntVar(&o.Depth, "depth", 32, "bits per pixel to ask for: 15, 16, 24 or 32")
	flags.StringVar(&o.ClientName, "client-name", "rdpprobe", "name that the host shows for the client")
	flags.BoolVar(&o.AcceptUnconfirmed, "accept-unconfirmed", false, "count a picture even if the host never said that the user is logged on")
	flags.StringVar(&c.picture, "screenshot", "", "write the picture to this PNG file")
	flags.BoolVar(&c.json, "json", false, "print the result as one JSON object")

	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			fmt.Fprint(stderr, usage)
			flags.SetOutput(stderr)
			flags.PrintDefaults()
		}
		return c, err
	}
	if flags.NArg() != 1 {
		return c, errors.New("give one HOST[:PORT] after the flags; --help explains them")
	}
	o.Addr = withPort(flags.Arg(0))
	if o.User == "" {
		return c, errors.New("--user is missing; --help explains it")
	}
	if _, err := fmt.Sscanf(size+" ", "%dx%d ", &o.Width, &o.Height); err != nil {
		return c, fmt.Errorf("--size %q: want WIDTHxHEIGHT", size)
	}
	if o.Timeout <= 0 {
		return c, fmt.Errorf("--timeout %s: must be positive", o.Timeout)
	}
	var err error
	if o.Password, err = password(passwordFile, getenv); err != nil {
		return c, err
	}
	return c, o.Validate()
}

// password is the first line of the file, or else the environment variable.
func password(file string, getenv func(string) string) (string, error) {
	if file == "" {
		p := getenv(passwordVariable)
		if p == "" {
			return "", fmt.Errorf("no password: set %s or use --password-file", passwordVariable)
		}
		return p, nil
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("the password: %w", err)
	}
	line, _, _ := strings.Cut(string(b), "\n")
	return strings.TrimSuffix(line, "\r"), nil
}

// withPort adds the port of RDP if there is none. IPv6 addresses may come with
// or without brackets.
func withPort(host string) string {
	if _, _, err := net.SplitHostPort(host); err == nil {
		return host
	}
	return net.JoinHostPort(strings.Trim(host, "[]"), "3389")
}
