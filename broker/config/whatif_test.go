package config

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/rdpbroker/rdpbroker/broker/placement"
)

const tried = `
listen: [{address: ':3389', farm: office}, {address: ':3390', farm: lab}]
farms:
  office:
    eviction:
      min_disconnected: 30m
      protect: [boss]
    hosts: [{name: ts1, slots: 1, winrm: {user: u, password_file: p}}]
  lab: {hosts: [{name: ts2, slots: 1, winrm: {user: u, password_file: p}}]}
`

func TestWhatIf(t *testing.T) {
	cfg, err := Parse("broker.yaml", []byte(tried))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		farm    string
		changes []string
		change  func(e *placement.Policy) // of farm
	}{
		{"office", nil, func(*placement.Policy) {}},
		{"office", []string{"eviction.min_disconnected=5m"}, func(p *placement.Policy) { p.Eviction.MinDisconnected = 5 * time.Minute }},
		{"lab", []string{"eviction.min_disconnected=5m", "eviction.mode=evict"}, func(p *placement.Policy) {
			p.Eviction.MinDisconnected, p.Eviction.Mode = 5*time.Minute, placement.Evict
		}},
		{"lab", []string{"farms.office.eviction.min_disconnected=5m"}, func(*placement.Policy) {}},
		{"lab", []string{"farms.lab.eviction.mode = off", "farms.lab.balance=fill-first"}, func(p *placement.Policy) {
			p.Eviction.Mode, p.Balance = placement.Off, placement.FillFirst
		}},
		{"lab", []string{"eviction.protect=[carol, 'svc-*']"}, func(p *placement.Policy) { p.Eviction.Protect = []string{"carol", "svc-*"} }},
		{"lab", []string{`eviction.min_disconnected_for.'CONTOSO\x.y'=8h`, `eviction.min_disconnected_for."bob"=9h`}, func(p *placement.Policy) {
			p.Eviction.MinDisconnectedFor = []placement.Grace{{Pattern: `CONTOSO\x.y`, For: 8 * time.Hour}, {Pattern: "bob", For: 9 * time.Hour}}
		}},
		{"lab", []string{"eviction.mode=off", "eviction.mode=evict"}, func(p *placement.Policy) { p.Eviction.Mode = placement.Evict }},
	} {
		got, err := cfg.WhatIf(c.farm, c.changes)
		if err != nil {
			t.Errorf("%q: %v", c.changes, err)
			continue
		}
		want := cfg.Farm(c.farm).Policy
		c.change(&want)
		diff(t, want, got.Farm(c.farm).Policy)
	}
	again, err := Parse("broker.yaml", []byte(tried))
	if err != nil || !reflect.DeepEqual(cfg, again) {
		t.Errorf("trying has changed the configuration (%v)", err)
	}
}

// The errors are those of the file, and name the change.
func TestWhatIfNot(t *testing.T) {
	cfg, err := Parse("broker.yaml", []byte(tried))
	if err != nil {
		t.Fatal(err)
	}
	for change, want := range map[string]string{
		"eviction.min_disconnected=5x":   `what-if: eviction.min_disconnected: "5x" is not a duration; a duration such as 30s, 10m, 8h or 2d`,
		"eviction.min_disconected=5m":    `what-if: eviction.min_disconected: is not a known key; did you mean min_disconnected?`,
		"eviction.mode=maybe":            `what-if: eviction.mode: "maybe" is not allowed; one of off, shadow, evict`,
		"eviction.protect=['[']":         `what-if: eviction.protect[0]: "[" is not a pattern`,
		"farms.office.balance=best":      `what-if: farms.office.balance: "best" is not allowed`,
		"farms.offfice.eviction.mode=of": `farms.offfice`,
		"eviction.hard_limit=10s":        `what-if: eviction.hard_limit: hard_limit is shorter than soft_limit`,
		"eviction.mode":                  `what-if: "eviction.mode" changes nothing; such as eviction.min_disconnected=5m`,
		"eviction=off":                   `is not about policy`,
		"admin.socket=/tmp/x":            `is not about policy; keys of eviction: and of farms.NAME:, but for hosts`,
		"farms.office.hosts=[]":          `is not about policy`,
		"eviction.protect=[a":            `has no value that could stand in the file`,
		"eviction..mode=off":             `is not a change`,
		"=":                              `is not about policy`,
		"eviction.mode=off\nlisten: []":  `is not a change`,
		"eviction.mode=&a off":           `anchors and aliases are not read`,
	} {
		_, err := cfg.WhatIf("office", []string{change})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q gives %v\nwant %s", change, err, want)
		}
		if _, ok := err.(Problems); !ok {
			t.Errorf("%q: the error is %T", change, err)
		}
	}
	if _, err := cfg.WhatIf("office", make([]string, maxChanges+1)); err == nil {
		t.Error("no bound")
	}
}

func FuzzWhatIf(f *testing.F) {
	for _, s := range []string{"eviction.min_disconnected=5m", "farms.office.pins={a: ts1}", "eviction.'x'.\"y\"=[1, {a: b}]", "farms.x.eviction.mode=off", "eviction.hours={evict: ['22:00-06:00']}", "eviction.a.b=1"} {
		f.Add(s)
	}
	cfg, err := Parse("broker.yaml", []byte(tried))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := cfg.WhatIf("office", []string{s})
		if ps, ok := err.(Problems); err != nil && (!ok || len(ps) == 0) || err == nil && (got == nil || len(got.Farms) < 2) {
			t.Errorf("%q: %+v, %v", s, got, err)
		}
	})
}
