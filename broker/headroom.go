package broker

import (
	"time"

	"github.com/rdpbroker/rdpbroker/broker/audit"
	"github.com/rdpbroker/rdpbroker/broker/placement"
	"github.com/rdpbroker/rdpbroker/sessions"
)

// headroomPatience is for how long a farm must have had too few free slots before
// somebody is logged off for it: a user who comes and goes, or who is just being
// placed, costs nobody a session.
const headroomPatience = 30 * time.Second

// ahead is what a farm does to have slots free before they are needed.
type ahead struct {
	// since is when there were first too few; zero while there are enough.
	since time.Time
	// going is the session that was told to log off for it, until it is gone or stuck;
	// one at a time. zero: none.
	going sessions.Ref
	// would is the one that shadow mode has last told of, so that it does so once.
	would sessions.Ref
}

// keepFree logs somebody off if the farm has had too few free slots for a while. It
// is called at every new picture. The caller holds mu.
func (b *Broker) keepFree(farmName string, now time.Time) {
	settings := b.settings(farmName)
	f := b.farm(farmName)
	if b.closed || settings.Policy.Eviction.Headroom <= 0 || settings.Policy.Eviction.Mode == placement.Off {
		f.ahead.since = time.Time{}
		return
	}
	if ref := f.ahead.going; b.leaving[ref] && b.untouchable[ref].why == "" {
		return
	}
	f.ahead.going = sessions.Ref{}
	view, _, err := b.view(f, sessions.Identity{}, "", now)
	if err != nil {
		return // the ledger is asked again with the next picture
	}
	view.Brief = true
	d := placement.Headroom(view, settings.Policy)
	switch {
	case d.Class == placement.ClassEnough:
		f.ahead.since, f.ahead.would = time.Time{}, sessions.Ref{}
		return
	case f.ahead.since.IsZero():
		f.ahead.since = now
	}
	if now.Sub(f.ahead.since) < headroomPatience || d.Victim == nil && d.Would == nil {
		return
	}
	view.Brief = false // whoever reads the audit wants to know why
	d = placement.Headroom(view, settings.Policy)
	if w := d.Would; w != nil {
		if f.ahead.would != w.Ref() {
			f.ahead.would = w.Ref()
			b.record(audit.Record{Time: now, Event: audit.Decided, Farm: farmName, Decision: d})
		}
		return
	}
	f.ahead.going = d.Victim.Ref()
	b.record(audit.Record{Time: now, Event: audit.Decided, Farm: farmName, Decision: d})
	slim := d
	slim.Candidates = nil
	b.start(&eviction{
		victim: *d.Victim, host: b.snapshot.Host(d.Host).Host,
		record:  audit.Record{Farm: farmName, Decision: slim},
		stamp:   &evictionStamp{farm: farmName, host: d.Host, at: now},
		settled: func(error) {}, // the marks say it all
	}, settings, now)
}
