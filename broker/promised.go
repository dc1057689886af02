package broker

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/rdpbroker/rdpbroker/broker/placement"
	"github.com/rdpbroker/rdpbroker/sessions"
)

// promised are a farm's reservations as its decisions see them. They are kept up
// with the ledger by what has changed there: in the morning there are thousands,
// and a hundred decisions a second.
type promised struct {
	version uint64 // of the ledger, up to which changes are in
	claims  placement.Claims
	byKey   map[string]placement.Claim // what is in claims
	// ended are this broker's logons that have expired, and whose caller may have
	// logged on at the last moment, by host. Thousands may end at once.
	ended map[string]map[*logon]bool
	// judged is the reading by which those on a host were last looked at.
	judged map[string]*sessions.Report
}

func newPromised() promised {
	return promised{
		byKey: map[string]placement.Claim{}, ended: map[string]map[*logon]bool{}, judged: map[string]*sessions.Report{},
	}
}

func (p *promised) set(key string, c placement.Claim) {
	p.unset(key)
	p.byKey[key] = c
	p.claims.Add(c)
}

func (p *promised) unset(key string) {
	if c, there := p.byKey[key]; there {
		p.claims.Remove(c)
		delete(p.byKey, key)
	}
}

// claimed are the claims for whoever has key, whose own is left out, and the
// version of the ledger that they are from. The caller holds mu, and must not let
// go of it while they are looked at.
func (b *Broker) claimed(f *farm, key string, now time.Time) (*placement.Claims, uint64, error) {
	c, err := b.deps.Ledger.Changes(context.Background(), f.name, f.version, now)
	if err != nil {
		return nil, 0, fmt.Errorf("reading the reservations: %w", err)
	}
	gone := c.Gone
	if c.All {
		gone = slices.Collect(maps.Keys(f.byKey))
		for key := range f.logons {
			gone = append(gone, key)
		}
	}
	for _, key := range gone {
		f.unset(key)
	}
	for _, r := range c.Live {
		if l := f.logons[r.Key]; l != nil { // if it has ended, somebody on another broker has followed
			f.forget(l)
		}
		f.set(r.Key, r.Claim())
	}
	f.version = c.Version
	for _, key := range gone {
		if _, live := f.byKey[key]; live {
			continue
		}
		if l := f.logons[key]; l != nil { // not released: expired
			b.endedUnseen(f, l, now)
		}
	}
	b.judgeEnded(f, now)
	if mine, any := f.byKey[key]; any {
		return f.claims.Without(mine), f.version, nil
	}
	return &f.claims, f.version, nil
}

// endedUnseen is for l, which has expired: it still has a claim if its caller may have
// logged on at the last moment, until a reading tells, which is asked for. The caller
// holds mu.
func (b *Broker) endedUnseen(f *farm, l *logon, now time.Time) {
	if !b.mayHaveArrived(l, now) {
		b.drop(l)
		return
	}
	f.set(l.res.Key, l.res.Claim())
	put(f.ended, l.host.Name, l)
	b.deps.Refresh(l.host.Name)
}

// judgeEnded drops those that have ended and have not logged on as it turns out, or
// whose host is not read any more. The caller holds mu.
func (b *Broker) judgeEnded(f *farm, now time.Time) {
	for name, ls := range f.ended {
		h := b.snapshot.Host(name)
		if h != nil && h.Fresh(now) && h.Report == f.judged[name] {
			continue // nothing new
		}
		for l := range ls {
			if !b.mayHaveArrived(l, now) {
				b.drop(l)
			}
		}
		if len(f.ended[name]) > 0 { // so that there is a fresh reading, begun too early to tell
			f.judged[name] = h.Report
			b.deps.Refresh(name)
		}
	}
}

// forget takes l out of those that have ended, and reports whether it was there.
func (f *farm) forget(l *logon) bool {
	name := l.host.Name
	if !f.ended[name][l] {
		return false
	}
	if take(f.ended, name, l); len(f.ended[name]) == 0 {
		delete(f.judged, name)
	}
	return true
}

// add takes l in. The caller holds mu.
func (f *farm) add(l *logon) {
	f.logons[l.res.Key] = l
	put(f.byHost, l.host.Name, l)
	put(f.byClient, l.res.Client, l)
}

// remove takes l out, if it is there. The caller holds mu.
func (f *farm) remove(l *logon) {
	if f.logons[l.res.Key] != l {
		return
	}
	delete(f.logons, l.res.Key)
	take(f.byHost, l.host.Name, l)
	take(f.byClient, l.res.Client, l)
	if f.forget(l) {
		f.unset(l.res.Key)
	}
}

func put[K comparable](m map[K]map[*logon]bool, key K, l *logon) {
	if m[key] == nil {
		m[key] = map[*logon]bool{}
	}
	m[key][l] = true
}

func take[K comparable](m map[K]map[*logon]bool, key K, l *logon) {
	if delete(m[key], l); len(m[key]) == 0 {
		delete(m, key)
	}
}

// seen is what confirm has looked at on a host.
type seen struct {
	report *sessions.Report
	host   sessions.Host
}

// unread are the hosts of f's logons of which there is a reading that confirm has
// not looked at, in order. The caller holds mu.
func (b *Broker) unread(f *farm) []string {
	var names []string
	for name := range f.byHost {
		h := b.snapshot.Host(name)
		if h == nil {
			continue
		}
		if now := (seen{h.Report, h.Host}); f.looked[name] != now {
			f.looked[name] = now
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}
