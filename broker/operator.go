package broker

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/rdpbroker/rdpbroker/broker/audit"
	"github.com/rdpbroker/rdpbroker/broker/placement"
	"github.com/rdpbroker/rdpbroker/sessions"
)

// What an operator's order may name in vain.
var (
	ErrNoSession = errors.New("there is no such session")
	ErrNoHost    = errors.New("there is no such host")
)

// Kept is a session that an operator has kept: it is no victim until then.
type Kept struct {
	Session sessions.Ref     `json:"session"`
	Account sessions.Account `json:"account"`
	Until   time.Time        `json:"until"`
	// By is the operator.
	By string `json:"by,omitempty"`
}

func (k Kept) why() string {
	why := "kept"
	if k.By != "" {
		why += " by " + k.By
	}
	return why + " until " + k.Until.UTC().Format("2006-01-02 15:04 MST")
}

// Orders are what operators have ordered and a restart must not undo.
type Orders struct {
	// Kept are the sessions that are kept, by host and ID.
	Kept []Kept `json:"kept"`
	// Draining is their word on draining, by host.
	Draining map[string]bool `json:"draining"`
}

// Restore takes up what Deps.Remember was last given. Call it before Run.
func (b *Broker) Restore(o Orders) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, k := range o.Kept {
		b.kept[k.Session] = k
	}
	maps.Copy(b.drains, o.Draining)
	b.snapshot = b.observed.WithDraining(b.drains)
}

// SetEviction overrides the eviction mode of all farms, for operator by: Off is
// the kill switch. nil gives it back to the configuration. It outlives a reload,
// not a restart. Logoffs that have begun go on; those that wait for proof do not
// begin any more when mode forbids it.
func (b *Broker) SetEviction(mode *placement.Mode, by string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now, setting := time.Now(), audit.Configured
	if b.mode = nil; mode != nil {
		m := *mode
		b.mode, setting = &m, m.String()
	}
	b.record(audit.Record{Time: now, Event: audit.ModeSet, By: by, Setting: setting})
	b.pumpAll(now)
}

// Mode is the eviction mode in force in farm.
func (b *Broker) Mode(farm string) placement.Mode {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.settings(farm).Policy.Eviction.Mode
}

// Keep sees to it that the session ref is no victim until then, whatever policy
// says, for operator by. Keeping it again replaces the time. It ends with the
// session. The error wraps ErrNoSession if there is none, and is
// *sessions.RefusedError if it has been told to log off already; any other error
// says that it is kept, but only until a restart.
func (b *Broker) Keep(ref sessions.Ref, until time.Time, by string) error {
	return b.order(func(now time.Time) error {
		s, ok := b.snapshot.Find(ref)
		switch {
		case !ok || !s.HasUser():
			return fmt.Errorf("%s: %w", ref, ErrNoSession)
		case !until.After(now):
			return fmt.Errorf("keeping %s until %s: that time is over", ref, until.UTC().Format(time.RFC3339))
		case b.leaving[ref]:
			return &sessions.RefusedError{Ref: ref, Why: "it is being logged off already, and cannot be kept"}
		}
		b.kept[ref] = Kept{Session: ref, Account: s.Account, Until: until, By: by}
		b.record(audit.Record{
			Time: now, Event: audit.KeepSet, Farm: b.farmOf(ref.Host), By: by, Session: &ref, Account: s.Account, Until: until,
		})
		return nil
	})
}

// Unkeep ends what Keep began, for operator by. The error wraps ErrNoSession if
// the session is not kept; any other says that a restart would bring it back.
func (b *Broker) Unkeep(ref sessions.Ref, by string) error {
	return b.order(func(now time.Time) error {
		k, ok := b.kept[ref]
		if !ok || !now.Before(k.Until) {
			return fmt.Errorf("%s is not kept: %w", ref, ErrNoSession)
		}
		delete(b.kept, ref)
		b.record(audit.Record{Time: now, Event: audit.KeepEnded, Farm: b.farmOf(ref.Host), By: by, Session: &ref, Account: k.Account})
		return nil
	})
}

// Kept are the sessions that are kept now, by host and ID.
func (b *Broker) Kept() []Kept {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.keptNow(time.Now())
}

// Drain overrides whether host takes newcomers, for operator by: true drains it,
// false has it take them although the configuration drains it (not against the
// host's own word), nil leaves it to the configuration. It outlives reload and
// restart. The error wraps ErrNoHost if there is no such host; any other says
// that it holds, but only until a restart.
func (b *Broker) Drain(host string, on *bool, by string) error {
	return b.order(func(now time.Time) error {
		_, overridden := b.drains[host]
		if b.snapshot.Host(host) == nil && !(overridden && on == nil) {
			return fmt.Errorf("%s: %w", host, ErrNoHost)
		}
		r := audit.Record{Time: now, Event: audit.DrainSet, Farm: b.farmOf(host), By: by, Host: host, Setting: audit.Configured}
		switch delete(b.drains, host); {
		case on == nil:
		case *on:
			b.drains[host], r.Setting = true, "on"
		default:
			b.drains[host], r.Setting = false, "off"
		}
		b.snapshot = b.observed.WithDraining(b.drains)
		b.record(r)
		return nil
	})
}

// Drains is operators' word on draining, by host.
func (b *Broker) Drains() map[string]bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return maps.Clone(b.drains)
}

// order carries out one operator's order, which do makes or refuses with mu held,
// and has it remembered.
func (b *Broker) order(do func(now time.Time) error) error {
	b.ordering.Lock()
	defer b.ordering.Unlock()
	b.mu.Lock()
	now := time.Now()
	if err := do(now); err != nil {
		b.mu.Unlock()
		return err
	}
	b.pumpAll(now)
	o := Orders{Kept: b.keptNow(now), Draining: maps.Clone(b.drains)}
	b.mu.Unlock()
	if err := b.deps.Remember(o); err != nil {
		return fmt.Errorf("done, but a restart will undo it: %w", err)
	}
	return nil
}

// keptNow are the sessions that are kept at now. The caller holds mu.
func (b *Broker) keptNow(now time.Time) []Kept {
	var out []Kept
	for _, k := range b.kept {
		if now.Before(k.Until) {
			out = append(out, k)
		}
	}
	slices.SortFunc(out, func(a, b Kept) int { return byHostAndID(a.Session, b.Session) })
	return out
}

// farmOf is the farm that host belongs to, "" if there is no such host.
func (b *Broker) farmOf(host string) string {
	if h := b.snapshot.Host(host); h != nil {
		return h.Host.Farm
	}
	return ""
}

// Logoff logs a disconnected session off by the order of operator by, through
// compare-and-evict: whatever the mode, ceilings and protection of policy, and
// never one that is not disconnected, is kept, or whose user is on the way back.
// It returns when the session is gone, or ctx ends, after which the logoff goes on.
//
// The error wraps ErrNoSession, or is *sessions.RefusedError if nothing was
// touched, *sessions.StuckError if it was told to go and stays, ErrClosed while
// shutting down; after any other the outcome is not known.
func (b *Broker) Logoff(ctx context.Context, ref sessions.Ref, by string) error {
	b.mu.Lock()
	gone, err := b.logoff(ref, by, time.Now())
	b.mu.Unlock()
	if err != nil {
		return err
	}
	select {
	case err := <-gone:
		return err
	case <-ctx.Done():
		return fmt.Errorf("logging off %s goes on: %w", ref, ctx.Err())
	}
}

// logoff sets an operator's logoff off, and returns where it is told how that
// ended. The caller holds mu.
func (b *Broker) logoff(ref sessions.Ref, by string, now time.Time) (<-chan error, error) {
	if b.closed {
		return nil, ErrClosed
	}
	h := b.snapshot.Host(ref.Host)
	s, ok := b.snapshot.Find(ref)
	if !ok || !s.HasUser() {
		return nil, fmt.Errorf("%s: %w", ref, ErrNoSession)
	}
	if why := b.mustStay(h, s, ref, now); why != "" {
		return nil, &sessions.RefusedError{Ref: ref, Why: why}
	}
	v := placement.Victim{Host: ref.Host, Session: s}
	v.DisconnectedFor, _ = h.Report.DisconnectedFor(s, now)
	done := make(chan error, 1)
	b.start(&eviction{
		victim: v, host: h.Host,
		record: audit.Record{
			Farm: h.Host.Farm, By: by,
			Decision: placement.Decision{Host: ref.Host, Victim: &v, Reason: "an operator's order"},
		},
		settled: func(err error) { done <- err },
	}, b.settings(h.Host.Farm), now)
	return done, nil
}

// mustStay is why an operator cannot have s logged off, "" if they can. The
// caller holds mu.
func (b *Broker) mustStay(h *sessions.HostState, s sessions.Session, ref sessions.Ref, now time.Time) string {
	if s.State != sessions.StateDisconnected {
		return "it is not disconnected: " + s.State.String()
	}
	if k, kept := b.kept[ref]; kept && now.Before(k.Until) {
		return k.why()
	}
	if b.leaving[ref] && b.untouchable[ref].why == "" { // a stuck one may be told again
		return "it is being logged off already"
	}
	if h.Report.NoEvict != "" {
		return h.Report.NoEvict
	}
	if b.deps.Evictor(ref.Host) == nil {
		return noEvictor
	}
	for _, l := range b.farm(h.Host.Farm).logons {
		own := l.res.Decision.Own
		if l.res.Seen == nil && now.Before(l.res.ExpiresAt) && (own != nil && *own == ref || l.res.Account.Matches(s.Account)) {
			return "its user is on the way back"
		}
	}
	return ""
}
