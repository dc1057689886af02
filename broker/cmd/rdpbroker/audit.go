package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/rdpbroker/rdpbroker/broker/admin/client"
	"github.com/rdpbroker/rdpbroker/broker/audit"
	"github.com/rdpbroker/rdpbroker/broker/config"
	"github.com/rdpbroker/rdpbroker/broker/daemon"
)

// week is how far --would looks back by itself.
const week = 7 * 24 * time.Hour

func auditCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "audit",
		Short: "Show what was decided, and who was logged off",
		Long: `Show what the broker has decided and done, one line each, from its audit files:
those that were moved away and packed among them. A running broker is not needed.

--would sums up what evict mode would have done while the mode was shadow: whose
sessions, on which hosts, for how long disconnected, and what the ceilings in the
configuration would have stopped. It counts everybody who came as somebody who
would have shown a password. Without --since it looks at the last seven days.`,
		Args: exactly(0, "no arguments"),
	}
	var o auditOptions
	o.where = auditFlags(c)
	f := c.Flags()
	f.StringVar(&o.filter.User, "user", "", "only what concerns this `user`, as caller or victim; * and ? stand for any text and character")
	f.StringVar(&o.filter.Host, "host", "", "only what concerns this `host`")
	f.StringVar(&o.filter.Farm, "farm", "", "only this `farm`")
	f.StringVar(&o.filter.Kind, "kind", "", "only this `kind` of event or decision, such as refused, evicted, make-room; a wrong word lists all")
	f.StringVar(&o.since, "since", "", "only what is younger than this: 12h, 7d, or a `time` such as 2026-03-01 or 2026-03-01T08:30")
	f.StringVar(&o.until, "until", "", "only what is older than this `time`")
	f.BoolVar(&o.filter.Evictions, "evictions", false, "only what was, or would have been, done to somebody's session")
	f.BoolVar(&o.follow, "follow", false, "go on with what happens, until Ctrl-C")
	f.BoolVar(&o.would, "would", false, "sum up what evict mode would have done while the mode was shadow")
	f.BoolVar(&o.json, "json", false, "print JSON for scripts, one object a line; of --would one object")
	c.RunE = func(c *cobra.Command, _ []string) error { return o.run(c) }
	c.AddCommand(verifyCommand(), resendCommand())
	return c
}

// auditPlace says where the audit is.
type auditPlace struct{ config, file *string }

func auditFlags(c *cobra.Command) auditPlace {
	return auditPlace{
		config: configFlag(c),
		file:   c.Flags().String("file", "", "the audit `file` (default: the one in the configuration file)"),
	}
}

// path is the newest audit file: the one given, else the one that the
// configuration names, else the default. cfg is the configuration, nil if none
// could be read and none was asked for.
func (p auditPlace) path(c *cobra.Command) (path string, cfg *config.Config, err error) {
	cfg, err = config.Load(*p.config)
	if err != nil && c.Flags().Changed("config") {
		return "", nil, err
	}
	switch {
	case *p.file != "":
		return *p.file, cfg, nil
	case cfg == nil:
		return config.DefaultAuditFile(), nil, nil
	case cfg.Audit.File == "":
		return "", nil, fmt.Errorf("%s has audit.file: '', so there is no audit", *p.config)
	}
	return cfg.Audit.File, cfg, nil
}

// files are the audit's files, oldest first, at least one.
func (p auditPlace) files(c *cobra.Command) (files []string, path string, cfg *config.Config, err error) {
	if path, cfg, err = p.path(c); err != nil {
		return nil, "", nil, err
	}
	if files, err = audit.Files(path); err == nil && len(files) == 0 {
		err = fmt.Errorf("there is no audit file %s; name it with --file, or the configuration with -c", path)
	}
	return files, path, cfg, err
}

type auditOptions struct {
	where               auditPlace
	filter              audit.Filter
	since, until        string
	follow, would, json bool
}

func (o *auditOptions) run(c *cobra.Command) error {
	now := time.Now()
	var err error
	if o.filter.Since, err = moment("since", o.since, now); err != nil {
		return err
	}
	if o.filter.Until, err = moment("until", o.until, now); err != nil {
		return err
	}
	if k := o.filter.Kind; k != "" && !slices.Contains(audit.Kinds(), k) {
		return usageError{fmt.Errorf("--kind %q is not one of %s", k, strings.Join(audit.Kinds(), ", "))}
	}
	if o.follow && o.would {
		return usageError{errors.New("--follow and --would do not go together")}
	}
	files, path, cfg, err := o.where.files(c)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(c.Context(), os.Interrupt)
	defer stop()
	if o.would {
		return o.sumUp(ctx, c.OutOrStdout(), files, cfg, now)
	}
	var last uint64
	show := func(l audit.Line) error {
		last = max(last, l.Seq)
		if !o.filter.Match(&l.Record) {
			return nil
		}
		return o.write(c.OutOrStdout(), &l)
	}
	skipped, err := audit.Read(ctx, files, show)
	if skipped > 0 {
		fmt.Fprintf(c.ErrOrStderr(), "warning: %s of an audit; see rdpbroker audit verify\n", isNot(skipped))
	}
	if err == nil && o.follow {
		err = audit.Follow(ctx, path, last, show)
	}
	if ctx.Err() != nil && c.Context().Err() == nil {
		return nil // Ctrl-C
	}
	return err
}

func isNot(n int) string {
	if n == 1 {
		return "1 line is none"
	}
	return fmt.Sprintf("%d lines are none", n)
}

func (o *auditOptions) write(w io.Writer, l *audit.Line) error {
	if !o.json {
		_, err := fmt.Fprintln(w, client.AuditLine(&l.Record))
		return err
	}
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	if l.Seq == 0 {
		return enc.Encode(l.Record)
	}
	return enc.Encode(l)
}

// shownLogoffs is how many sessions a table of --would names.
const shownLogoffs = 50

func (o *auditOptions) sumUp(ctx context.Context, w io.Writer, files []string, cfg *config.Config, now time.Time) error {
	if o.filter.Since.IsZero() {
		o.filter.Since = now.Add(-week)
	}
	sum := audit.NewSummary(func(farm string) audit.Ceilings {
		if cfg == nil || cfg.Farm(farm) == nil {
			return audit.Ceilings{}
		}
		e := cfg.Farm(farm).Policy.Eviction
		return audit.Ceilings{PerHost: e.PerHostPerHour, PerClient: e.PerClientPerHour, PerFarm: e.PerFarmPerHour, All: e.PerHour}
	})
	_, err := audit.Read(ctx, files, func(l audit.Line) error {
		if o.filter.Match(&l.Record) {
			sum.Add(&l.Record)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if o.json {
		return client.WriteJSON(w, sum.Would())
	}
	return client.WriteWould(w, sum.Would(), shownLogoffs)
}

// timeOf reads a time, in this machine's zone where it tells none.
func timeOf(s string) (time.Time, bool) {
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04:05", "2006-01-02T15:04", "2006-01-02 15:04", "2006-01-02"} {
		if t, err := time.ParseInLocation(layout, s, time.Local); err == nil {
			return t, true
		}
	}
	return time.Time{}, false
}

// moment is what a flag says of a time: how long ago, or when; "" is the zero time.
func moment(flag, s string, now time.Time) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	if d, err := config.ParseDuration(s); err == nil {
		return now.Add(-d), nil
	}
	if t, ok := timeOf(s); ok {
		return t, nil
	}
	return time.Time{}, usageError{fmt.Errorf("--%s %q is neither how long ago (12h, 7d) nor a time (2026-03-01, 2026-03-01T08:30)", flag, s)}
}

func verifyCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "verify [FILES]",
		Short: "Tell the first line of the audit that is not as it was written",
		Long: `Look for the first line of the audit that was taken out, changed or moved, in the
files that there are, packed ones among them, or in FILES, the oldest first.

Each line holds the hash of the one before. That lines are missing at the end shows
by the head that the broker keeps beside the file. The chain has no key: whoever can
write all these files could make a new one. So keep the head that this command prints
somewhere else from time to time, and give it with --head: the lines must lead
through it.

Exit code 0: all is as it was written. 1: it is not, or could not be read.`,
	}
	where := auditFlags(c)
	heads := c.Flags().StringArray("head", nil, "a `head` that this command has printed before, NUMBER:HASH; may be given several times")
	asJSON := c.Flags().Bool("json", false, "print JSON for scripts")
	c.RunE = func(c *cobra.Command, args []string) error {
		check := audit.Check{Files: args}
		for _, s := range *heads {
			h, err := audit.ParseHead(s)
			if err != nil {
				return usageError{fmt.Errorf("--head: %w", err)}
			}
			check.Heads = append(check.Heads, h)
		}
		if len(args) == 0 {
			path, _, err := where.path(c)
			if err != nil {
				return err
			}
			// Before the files: the broker may be writing.
			kept, err := audit.KeptHead(path)
			if err != nil {
				return err
			}
			check.Heads = append(check.Heads, kept)
			if check.Files, _, _, err = where.files(c); err != nil {
				return err
			}
			check.Whole = true
		}
		v, err := audit.Verify(c.Context(), check)
		if err != nil {
			return err
		}
		return tellVerdict(c, v, *asJSON)
	}
	return c
}

func resendCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "resend",
		Short: "Send the webhook's undelivered messages again",
		Long: `Send the messages again that audit.webhook in the configuration has not taken, the
oldest first, once each. They bear the ids they had, so that the receiver can tell
what it has seen. What is not taken stays in the file. The broker may run.

Exit code 0: all were taken. 1: some were not.`,
		Args: exactly(0, "no arguments"),
	}
	file := configFlag(c)
	asJSON := c.Flags().Bool("json", false, "print JSON for scripts")
	c.RunE = func(c *cobra.Command, _ []string) error {
		cfg, err := config.Load(*file)
		if err != nil {
			return err
		}
		if cfg.Audit.Webhook == nil || cfg.Audit.Webhook.Undelivered == "" {
			return fmt.Errorf("%s has no audit.webhook with a file for undelivered messages", *file)
		}
		ctx, stop := signal.NotifyContext(c.Context(), os.Interrupt)
		defer stop()
		done, err := daemon.Resend(ctx, cfg, version)
		out := c.OutOrStdout()
		if *asJSON {
			err = errors.Join(err, client.WriteJSON(out, done))
		} else {
			fmt.Fprintf(out, "%d delivered, %d still undelivered\n", done.Delivered, done.Kept)
			if done.Spoilt > 0 {
				fmt.Fprintf(out, "%s in %s that no broker wrote\n", counted(done.Spoilt, "line"), cfg.Audit.Webhook.Undelivered)
			}
			if done.Last != "" {
				fmt.Fprintln(out, "the last error:", done.Last)
			}
		}
		if err == nil && done.Kept+done.Spoilt > 0 {
			err = quietFailure{}
		}
		return err
	}
	return c
}

func tellVerdict(c *cobra.Command, v audit.Verdict, asJSON bool) error {
	out := c.OutOrStdout()
	if asJSON {
		if err := client.WriteJSON(out, v); err != nil {
			return err
		}
	} else {
		for _, n := range v.Notes {
			fmt.Fprintln(out, "note:", n)
		}
		if v.Unchained > 0 {
			fmt.Fprintf(out, "note: %s from before there was a chain, which nothing protects\n", counted(v.Unchained, "line"))
		}
	}
	if v.Broken != nil {
		if !asJSON {
			fmt.Fprintln(out, v.Broken)
		}
		return quietFailure{}
	}
	if !asJSON && v.Head.Seq > 0 {
		fmt.Fprintf(out, "all is as it was written: lines %d to %d\nhead: %s\n", v.First, v.Head.Seq, v.Head)
	} else if !asJSON {
		fmt.Fprintln(out, "there is no line with a hash")
	}
	return nil
}
