package daemon

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/rdpbroker/rdpbroker/broker"
	"github.com/rdpbroker/rdpbroker/broker/admin"
	"github.com/rdpbroker/rdpbroker/broker/config"
	"github.com/rdpbroker/rdpbroker/broker/identity"
)

// state answers the admin rooms' questions.
type state struct{ d *Daemon }

// Status implements admin.State.
func (s state) Status() admin.Status {
	st, cfg := s.d.broker.Status(), s.d.config()
	out := admin.Status{
		Now: time.Now(), Version: s.d.opts.Version, StartedAt: s.d.startedAt,
		Snapshot: s.d.Snapshot(), Leaving: st.Leaving, Stuck: st.Stuck, Connections: s.d.connections(st),
	}
	for _, f := range cfg.Farms {
		farm := admin.Farm{Name: f.Name, Mode: s.d.broker.Mode(f.Name).String()}
		if st.Mode != "" {
			farm.Configured = f.Policy.Eviction.Mode.String()
		}
		out.Farms = append(out.Farms, farm)
	}
	for _, k := range st.Kept {
		out.Kept = append(out.Kept, admin.Kept{Session: k.Session, Until: k.Until, By: k.By})
	}
	for _, r := range st.Reservations {
		c := r.Claim()
		out.Reservations = append(out.Reservations, admin.Reservation{
			ID: r.ID, Farm: r.Farm, Host: r.Host, Account: r.Account, Client: r.Client, Kind: r.Decision.Kind,
			Own: c.Own, Victim: c.Victim, Seen: r.Seen, MadeAt: r.MadeAt, ExpiresAt: r.ExpiresAt,
		})
	}
	for _, w := range st.Waiting {
		out.Waiting = append(out.Waiting, admin.Waiting{Farm: w.Farm, Identity: w.Identity, Since: w.Since, Reason: w.Reason})
	}
	return out
}

// Explain implements admin.State.
func (s state) Explain(q admin.Question) (admin.Explanation, error) {
	cfg := s.d.config()
	if q.Farm == "" {
		if len(cfg.Farms) > 1 {
			return admin.Explanation{}, &admin.NotFoundError{What: fmt.Sprintf("there are several farms (%s), name one; a farm without a name", farmNames(cfg))}
		}
		q.Farm = cfg.Farms[0].Name
	}
	if cfg.Farm(q.Farm) == nil {
		return admin.Explanation{}, &admin.NotFoundError{What: fmt.Sprintf("farm %q", q.Farm)}
	}
	supposed, policy := broker.Supposition{At: q.At}, cfg.Farm(q.Farm).Policy
	if len(q.WhatIf) > 0 {
		tried, err := cfg.WhatIf(q.Farm, q.WhatIf)
		if err != nil {
			return admin.Explanation{}, &admin.InvalidError{Why: err.Error()}
		}
		settings := farms(tried).Farms[q.Farm]
		supposed.Farm, policy = &settings, settings.Policy
	}
	id := s.d.resolver.Load().Resolve(identity.Hint{Client: q.From, Cookie: q.User}, s.d.Snapshot())
	e := admin.Explanation{
		Now: time.Now(), At: q.At, WhatIf: q.WhatIf, Farm: q.Farm, Identity: id,
		Decision: s.d.broker.ExplainIf(q.Farm, id, supposed),
		Mode:     s.d.broker.ModeIf(q.Farm, supposed).String(),
	}
	if policy.Eviction.Headroom > 0 {
		d := s.d.broker.HeadroomIf(q.Farm, supposed)
		e.Headroom = &d
	}
	return e, nil
}

func farmNames(cfg *config.Config) string {
	var names []string
	for _, f := range cfg.Farms {
		names = append(names, f.Name)
	}
	return strings.Join(names, ", ")
}

// Ready implements admin.State: one host that was read lately is enough.
func (s state) Ready() error {
	now := time.Now()
	hosts := s.d.Snapshot().Hosts
	for i := range hosts {
		if hosts[i].Fresh(now) {
			return nil
		}
	}
	return errors.New("no host has been read lately")
}
