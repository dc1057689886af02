package broker

import (
	"context"
	"time"

	"github.com/rdpbroker/rdpbroker/broker/placement"
	"github.com/rdpbroker/rdpbroker/sessions"
)

// Supposition is what a question about a decision supposes. The zero value
// supposes nothing: it asks for now, and for what is in force.
type Supposition struct {
	// At is when the caller comes; zero for now. Nothing is supposed to happen until
	// then but that time goes by: sessions stay as they are, and what is promised or
	// counted for a time is so until that is over.
	At time.Time
	// Farm are other settings of the farm; nil for its own. A mode that they leave as
	// it is configured is the one in force, which an operator may have set.
	Farm *Farm
}

// Explain is the decision that id would get in farm now, made as it is made for
// callers; to what was looked at for it the other hosts and sessions are added, and
// what is to be said of them. Nothing is reserved and nobody is logged off.
func (b *Broker) Explain(farmName string, id sessions.Identity) placement.Decision {
	return b.ExplainIf(farmName, id, Supposition{})
}

// ExplainIf is Explain under the supposition s.
func (b *Broker) ExplainIf(farmName string, id sessions.Identity, s Supposition) placement.Decision {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	view, _, err := b.view(b.farm(farmName), id, id.Key(), now)
	if err == nil && !s.At.IsZero() {
		view, err = b.viewAt(view, id, now, s.At)
	}
	if err != nil {
		return placement.Decision{Kind: placement.WaitForSlot, Class: placement.ClassInternal, Reason: err.Error()}
	}
	policy := b.supposed(farmName, s).Policy
	d := placement.Decide(view, id, policy)
	looked := map[string]bool{}
	for _, c := range d.Candidates {
		looked[c.As] = true
	}
	for _, c := range placement.Look(view, id, policy) {
		if !looked[c.As] {
			d.Candidates = append(d.Candidates, c)
		}
	}
	if policy.Eviction.IdleActive > 0 && d.Own == nil && d.Kind != placement.Place {
		// Who may be disconnected, and who not, is a part of the story.
		b.addCannotDisconnect(&view)
		for _, c := range placement.DisconnectIdle(view, policy).Candidates {
			c.Chosen = false // it is not this caller's decision
			d.Candidates = append(d.Candidates, c)
		}
	}
	return d
}

// HeadroomIf is what farm does under the supposition s so that slots are free ahead
// of need, made as it is made in earnest; nothing is done.
func (b *Broker) HeadroomIf(farm string, s Supposition) placement.Decision {
	b.mu.Lock()
	defer b.mu.Unlock()
	now, id := time.Now(), sessions.Identity{}
	view, _, err := b.view(b.farm(farm), id, "", now)
	if err == nil && !s.At.IsZero() {
		view, err = b.viewAt(view, id, now, s.At)
	}
	if err != nil {
		return placement.Decision{Kind: placement.KeepFree, Class: placement.ClassInternal, Reason: err.Error()}
	}
	return placement.Headroom(view, b.supposed(farm, s).Policy)
}

// ModeIf is the eviction mode in force in farm under the supposition s.
func (b *Broker) ModeIf(farm string, s Supposition) placement.Mode {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.supposed(farm, s).Policy.Eviction.Mode
}

// supposed are the settings of farm under the supposition s.
func (b *Broker) supposed(farm string, s Supposition) Farm {
	inForce := b.settings(farm)
	if s.Farm == nil {
		return inForce
	}
	tried := s.Farm.withDefaults()
	if tried.Policy.Eviction.Mode == b.config.Farms[farm].Policy.Eviction.Mode {
		tried.Policy.Eviction.Mode = inForce.Policy.Eviction.Mode
	}
	return tried
}

// viewAt is v, which was made at now for the caller id, as it would be at another
// time. Nothing is forgotten for it. The caller holds mu.
func (b *Broker) viewAt(v placement.View, id sessions.Identity, now, at time.Time) (placement.View, error) {
	v.Now, v.Snapshot = at, v.Snapshot.Shifted(at.Sub(now))
	all, err := b.deps.Ledger.Changes(context.Background(), v.Farm, 0, now)
	if err != nil {
		return v, err
	}
	v.Claims = &placement.Claims{}
	for _, r := range all.Live {
		if r.Key != id.Key() && at.Before(r.ExpiresAt) {
			v.Claims.Add(r.Claim())
		}
	}
	v.Unreachable = map[string]string{}
	for name, m := range b.unreachable {
		if at.Before(m.until) {
			v.Unreachable[name] = m.why
		}
	}
	v.Untouchable = b.sparedNow(at)
	then := newCeilings()
	for _, e := range b.evictions.stamps {
		if at.Sub(e.at) < ceilingWindow {
			then.add(e)
		}
	}
	then.fill(&v, id)
	return v, nil
}

// sparedNow are the sessions that must not be victims at now, and why. The caller
// holds mu.
func (b *Broker) sparedNow(now time.Time) map[sessions.Ref]string {
	spared := make(map[sessions.Ref]string, len(b.kept)+len(b.untouchable))
	for ref, k := range b.kept {
		if now.Before(k.Until) {
			spared[ref] = k.why()
		}
	}
	for ref, m := range b.untouchable {
		spared[ref] = m.why
	}
	return spared
}
