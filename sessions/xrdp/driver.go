package xrdp

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/rdpbroker/rdpbroker/sessions"
)

// Config says how a host is read.
type Config struct {
	// Runner runs commands on the host as root: a [Local] or an [SSH]. Required.
	// The driver's Close closes it if it can be closed.
	Runner Runner
	// Poll is the time from the end of a reading to the next; 0 means 5 s.
	Poll time.Duration
	// Timeout is how long one command may take; 0 means 20 s.
	Timeout time.Duration
	// Settle is how long a new session that nobody was seen on is taken for
	// unfinished (Init) rather than Disconnected; 0 means 30 s.
	Settle time.Duration
	// SesmanINI, SesmanLog and SocketDir are where xrdp keeps its settings, log
	// and sockets on the host; "" means /etc/xrdp/sesman.ini,
	// /var/log/xrdp-sesman.log and /run/xrdp.
	SesmanINI, SesmanLog, SocketDir string
}

func (c Config) withDefaults() Config {
	c.Poll = cmp.Or(max(c.Poll, 0), 5*time.Second)
	c.Timeout = cmp.Or(max(c.Timeout, 0), 20*time.Second)
	c.Settle = cmp.Or(max(c.Settle, 0), 30*time.Second)
	c.SesmanINI = cmp.Or(c.SesmanINI, "/etc/xrdp/sesman.ini")
	c.SesmanLog = cmp.Or(c.SesmanLog, "/var/log/xrdp-sesman.log")
	c.SocketDir = cmp.Or(c.SocketDir, "/run/xrdp")
	return c
}

// Driver reads one host's sessions and ends them on demand. Its methods may be
// used at the same time.
type Driver struct {
	cfg     Config
	log     *zap.Logger
	refresh chan struct{}
	turn    chan struct{} // holds one token: readings are taken one after the other

	mu     sync.Mutex
	notes  notes
	warned []string // what the log was told last
}

// New makes a driver. It connects to nothing until it is used. log may be nil.
func New(cfg Config, log *zap.Logger) (*Driver, error) {
	if cfg.Runner == nil {
		return nil, errors.New("xrdp driver: no Runner")
	}
	cfg = cfg.withDefaults()
	for _, p := range []string{cfg.SesmanINI, cfg.SesmanLog, cfg.SocketDir} {
		if !strings.HasPrefix(p, "/") {
			return nil, fmt.Errorf("xrdp driver: path %q is not absolute", p)
		}
	}
	if log == nil {
		log = zap.NewNop()
	}
	return &Driver{cfg: cfg, log: log, refresh: make(chan struct{}, 1), turn: make(chan struct{}, 1),
		notes: notes{}}, nil
}

// Watch reads the host every Poll and publishes what it found, until ctx ends or
// a reading fails. A host whose session manager does not run is an error.
func (d *Driver) Watch(ctx context.Context, h sessions.Host, publish func(sessions.Report)) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-d.refresh:
		case <-timer.C:
		}
		report, _, err := d.read(ctx, h)
		if err != nil {
			return err
		}
		publish(report)
		timer.Reset(d.cfg.Poll)
	}
}

// Refresh asks Watch for a reading now. It does not wait for it. A Runner that can
// be refreshed is told as well.
func (d *Driver) Refresh() {
	if r, ok := d.cfg.Runner.(interface{ Refresh() }); ok {
		r.Refresh()
	}
	select {
	case d.refresh <- struct{}{}:
	default: // one is asked for already
	}
}

// Close closes the Runner if it can be closed. Call it when Watch has returned.
func (d *Driver) Close() error {
	if c, ok := d.cfg.Runner.(io.Closer); ok {
		return c.Close()
	}
	return nil
}

// read takes one reading.
func (d *Driver) read(ctx context.Context, h sessions.Host) (sessions.Report, []view, error) {
	select {
	case d.turn <- struct{}{}:
		defer func() { <-d.turn }()
	case <-ctx.Done():
		return sessions.Report{}, nil, ctx.Err()
	}
	report := sessions.Report{ReadAt: time.Now(), Source: "xrdp", CountsDisconnected: sessions.Yes, CountsSource: "xrdp counts every session"}
	ctx, cancel := context.WithTimeout(ctx, d.cfg.Timeout)
	defer cancel()
	lines, err := runScript(ctx, d.cfg.Runner, readScript, d.cfg.SesmanINI, d.cfg.SesmanLog, d.cfg.SocketDir)
	if err != nil {
		return sessions.Report{}, nil, fmt.Errorf("read xrdp host %s: %w", h.Name, err)
	}
	r, err := parseReading(lines)
	if err != nil {
		return sessions.Report{}, nil, fmt.Errorf("read xrdp host %s: %w", h.Name, err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	var views []view
	views, d.notes = judge(r, d.notes, d.cfg.Settle)
	for _, v := range views {
		report.Sessions = append(report.Sessions, v.session)
	}
	report.HostTime, report.OS, report.Warnings = r.now, r.os, r.warnings(h.Slots)
	if report.Limit = r.limit; r.limit > 0 {
		report.LimitSource = "MaxSessions in " + d.cfg.SesmanINI
	}
	d.tell(h, report.Warnings)
	return report, views, nil
}

// warnings are what an operator ought to know about a host: settings that work
// against a broker, and what is not known. slots is the configured session limit, 0
// if there is none.
func (r *reading) warnings(slots int) []string {
	var w []string
	switch _, unreadable := r.ini["unreadable"]; {
	case slots > 0: // it does not matter
	case unreadable:
		w = append(w, "sesman.ini cannot be read, so the session limit is not known: set slots for the host")
	case r.limit == 0:
		w = append(w, "MaxSessions is not set in sesman.ini, so the session limit is not known: set slots for the host")
	}
	switch r.ini["killdisconnected"] {
	case "1", "true", "yes", "on":
		w = append(w, "the host ends disconnected sessions by itself (KillDisconnected in sesman.ini)")
	}
	for key, does := range map[string]string{"disconnectedtimelimit": "ends disconnected sessions", "idletimelimit": "disconnects idle sessions"} {
		if v := r.ini[key]; v != "" && v != "0" {
			w = append(w, fmt.Sprintf("the host %s by itself after %s s (%s in sesman.ini)", does, v, key))
		}
	}
	if len(r.orphan) > 0 {
		w = append(w, fmt.Sprintf("sessions of an earlier xrdp-sesman are running, to which nobody can get back (pids %v)", r.orphan))
	}
	slices.Sort(w)
	return w
}

// tell logs the warnings of a reading that the one before did not have.
func (d *Driver) tell(h sessions.Host, warnings []string) {
	for _, w := range warnings {
		if !slices.Contains(d.warned, w) {
			d.log.Warn(w, zap.String("host", h.Name))
		}
	}
	d.warned = warnings
}
