package simhost

import (
	"context"
	"crypto/tls"
	"fmt"
	"image/color"
	"net"
	"strings"
	"time"

	"github.com/rdpbroker/rdpbroker/sessions"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"
)

// Config describes a simulated host. Name is all that must be set.
type Config struct {
	// Name is the computer's name: on its desktops, in its answers and in its
	// certificate.
	Name string
	// Domain is the domain of accounts that log on without one, or with one of
	// that name in any form (CONTOSO, contoso.example). "" leaves names alone.
	Domain string
	// Options are the behaviour switches to begin with.
	Options Options
	// Clock is the time before Options.ClockSkew; nil is time.Now.
	Clock func() time.Time
	// OnEvent is told what happens, see NewModel. May be nil.
	OnEvent func(Event)

	// WinRM is the management endpoint.
	WinRM WinRM
	// RDP is the RDP server.
	RDP RDP
	// Log gets a line per connection and what went wrong. Nil: none.
	Log *zap.Logger
}

// RDP configures the RDP server of a host.
type RDP struct {
	// TLS is its certificate; nil makes a self-signed one for the host's name,
	// localhost, 127.0.0.1, ::1 and Names.
	TLS *tls.Config
	// Names are more DNS names and addresses for the self-signed certificate.
	Names []string
	// NLA is whether the password is asked for before RDP begins.
	NLA NLA
	// Password returns the password of an account. ok is false if the account
	// needs none; with NLA it is let in by none then. Nil: nobody needs one, or,
	// with NLA, nobody has one.
	Password func(account sessions.Account) (password string, ok bool)
	// Accent is the host's colour on its desktops; zero picks one by name.
	Accent color.RGBA
	// NoticeFor is how long a user reads why there is no desktop before the
	// connection is closed; 0 is 8 s.
	NoticeFor time.Duration
	// Refresh is how often desktops are brought up to date when nothing
	// happens; 0 is 1 s.
	Refresh time.Duration
}

// Host is a simulated Windows host: its sessions, its WinRM endpoint and its
// RDP server. New makes one, Run runs it.
type Host struct {
	cfg   Config
	model *Model
	winrm *winrmServer
	types *typeface
	tls   *tls.Config
	log   *zap.Logger
}

// New makes a host. Nothing runs, but its model can be used and seeded at once.
func New(cfg Config) (*Host, error) {
	if cfg.Name == "" {
		return nil, fmt.Errorf("simulated host without a name")
	}
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = zap.NewNop()
	}
	if cfg.RDP.NoticeFor == 0 {
		cfg.RDP.NoticeFor = 8 * time.Second
	}
	if cfg.RDP.Refresh == 0 {
		cfg.RDP.Refresh = time.Second
	}
	if cfg.RDP.Accent == (color.RGBA{}) {
		cfg.RDP.Accent = accentOf(cfg.Name)
	}
	types, err := newTypeface()
	if err != nil {
		return nil, fmt.Errorf("simulated host %s: %w", cfg.Name, err)
	}
	h := &Host{cfg: cfg, types: types, tls: cfg.RDP.TLS, log: cfg.Log.With(zap.String("host", cfg.Name))}
	if h.tls == nil {
		if h.tls, err = SelfSigned(cfg.Clock(), append([]string{cfg.Name, "localhost", "127.0.0.1", "::1"}, cfg.RDP.Names...)...); err != nil {
			return nil, fmt.Errorf("simulated host %s: %w", cfg.Name, err)
		}
	}
	h.model = NewModel(cfg.Options, cfg.Clock, cfg.OnEvent)
	h.winrm = newWinRM(cfg.WinRM, cfg.Name, h.model, h.log)
	return h, nil
}

// Certificate is the RDP server's certificate, in PEM; nil if Config brought a
// TLS configuration that computes it.
func (h *Host) Certificate() []byte { return certificatePEM(h.tls) }

// Model is the host's sessions.
func (h *Host) Model() *Model { return h.model }

// tickEvery is how late things that are due may happen while a host runs.
const tickEvery = 100 * time.Millisecond

// Run serves RDP and WinRM until ctx ends, and returns when every connection is
// over; nil then. It closes both listeners. A nil listener leaves that part out.
// A host runs once.
func (h *Host) Run(ctx context.Context, rdp, winrm net.Listener) error {
	g, ctx := errgroup.WithContext(ctx)
	if rdp != nil {
		g.Go(func() error { return h.serveRDP(ctx, rdp) })
	}
	if winrm != nil {
		g.Go(func() error { return h.winrm.serve(ctx, winrm) })
	}
	g.Go(func() error {
		ticker := time.NewTicker(tickEvery)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				h.model.Tick()
			case <-ctx.Done():
				return nil
			}
		}
	})
	if err := g.Wait(); err != nil {
		return fmt.Errorf("simulated host %s: %w", h.cfg.Name, err)
	}
	return nil
}

// account is who logs on as user in domain, in the one form that the host has
// for an account.
func (h *Host) account(domain, user string) sessions.Account {
	a := sessions.ParseAccount(user)
	if a.Domain == "" {
		a.Domain = domain
	}
	if h.cfg.Domain == "" {
		return a
	}
	if same := (sessions.Account{Domain: h.cfg.Domain, User: a.User}); a.Domain == "" || strings.EqualFold(a.Domain, ".") || a.Matches(same) {
		return same
	}
	return a
}
