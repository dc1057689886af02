package config

import (
	"maps"
	"slices"
	"strings"
	"time"
	_ "time/tzdata" // so that a container or Windows without zones has them

	"github.com/rdpbroker/rdpbroker/broker/placement"
)

var modes = map[string]placement.Mode{
	placement.Off.String():    placement.Off,
	placement.Shadow.String(): placement.Shadow,
	placement.Evict.String():  placement.Evict,
}

var proofs = map[string]placement.Proof{
	placement.KnownUser.String():   placement.KnownUser,
	placement.Credentials.String(): placement.Credentials,
}

// refuse is the value of without_nla for which nobody is logged off.
const refuse = "refuse"

// sharedEviction checks the eviction keys for all farms and reads their list.
func (b *builder) sharedEviction() {
	k := &b.keys.Eviction
	k.Protect = append(k.Protect, b.patterns("eviction.protect_list", k.ProtectList)...)
	b.checkEviction(k, "eviction")
	b.checkGraces(k, k.MinDisconnected, "eviction")
}

// farmEviction are the eviction keys of one farm: its own over those for all.
// What they protect adds up, so that a farm's list never takes protection away.
func (b *builder) farmEviction(p path, f *farmKeys) evictionKeys {
	shared := b.keys.Eviction
	under := shared
	under.Protect, under.ProtectProcesses, under.ProtectList, under.MinDisconnectedFor = nil, nil, "", nil
	own := f.Eviction.over(b.decoder, under)
	own.ProtectProcesses = slices.Concat(shared.ProtectProcesses, own.ProtectProcesses)
	own.Protect = slices.Concat(shared.Protect, own.Protect, b.patterns(p.key("protect_list"), own.ProtectList))
	if f.Eviction.given() {
		b.checkEviction(&own, p, "eviction")
		b.checkGraces(&own, own.MinDisconnected, p)
	}
	both := maps.Clone(shared.MinDisconnectedFor)
	for pattern, g := range own.MinDisconnectedFor {
		if both == nil {
			both = map[string]time.Duration{}
		}
		both[pattern] = max(g, both[pattern])
	}
	own.MinDisconnectedFor = both
	return own
}

// checkEviction checks k, whose keys come from the first of blocks that has them.
func (b *builder) checkEviction(k *evictionKeys, blocks ...path) {
	if k.HardLimit < k.SoftLimit {
		key := "hard_limit"
		if !b.given(b.source(key, blocks...)) {
			key = "soft_limit"
		}
		b.bad(b.source(key, blocks...), "hard_limit is shorter than soft_limit", "")
	}
	if d := k.IdleActive; d > 0 && d < 10*time.Minute {
		b.bad(b.source("evict_idle_active", blocks...), "is too short: a telephone call would disconnect its user", "10m at least, or 0 for never")
	}
	if len(k.IdleMessage) > 1000 || strings.ContainsFunc(k.IdleMessage, func(r rune) bool { return unprintable(r) && r != '\n' }) {
		b.bad(b.source("idle_message", blocks...), "is not a message", "up to 1000 bytes of text")
	}
	if modes[k.Mode] != placement.Evict {
		return
	}
	if k.PerHostPerHour == 0 {
		b.warn(b.source("per_host_per_hour", blocks...), "0 is no ceiling: a mistake in the rules could log everybody off")
	}
	if k.PerClientPerHour == 0 {
		b.warn(b.source("per_client_per_hour", blocks...), "0 is no ceiling: one client could have everybody logged off")
	}
	if k.MinDisconnected == 0 {
		b.warn(b.source("min_disconnected", blocks...), "0 lets a session go the moment that its connection is lost")
	}
}

// checkGraces checks what stands in block for some accounts, where least holds for
// all.
func (b *builder) checkGraces(k *evictionKeys, least time.Duration, block path) {
	for text, g := range k.MinDisconnectedFor {
		p := block.key("min_disconnected_for").key(text)
		var who pattern
		if err := who.UnmarshalText([]byte(text)); err != nil {
			b.illegible(p, text, err)
		} else if g <= least && !b.failed[p] {
			b.warn(p, "is not longer than min_disconnected, and changes nothing")
		}
	}
}

// hours are the times that k names, which comes from the first of blocks that has it.
func (b *builder) hours(k hoursKeys, blocks ...path) placement.Hours {
	if len(k.Evict) == 0 {
		return placement.Hours{}
	}
	zone, err := time.LoadLocation(k.Timezone)
	if err != nil || k.Timezone == "" {
		b.bad(b.source("timezone", blocks...), quote(k.Timezone)+" is not a time zone", "such as Europe/Berlin, UTC, or Local for that of this machine")
		zone = time.UTC
	}
	h := placement.Hours{Location: zone}
	for _, w := range k.Evict {
		h.Windows = append(h.Windows, placement.Window(w))
	}
	return h
}

// eviction is what k says, in the words of a policy. Its keys come from the first of
// blocks that has them.
func (b *builder) eviction(k evictionKeys, blocks ...path) placement.Eviction {
	given := func(key string) bool { return b.given(b.source(key, blocks...)) }
	under := func(key string) (ps []path) {
		for _, p := range blocks {
			ps = append(ps, p.key(key))
		}
		return ps
	}
	e := placement.Eviction{
		Mode:             modes[k.Mode],
		Proof:            proofs[k.Proof],
		RefuseUnproven:   k.WithoutNLA == refuse,
		MinDisconnected:  k.MinDisconnected,
		PerHostPerHour:   k.PerHostPerHour,
		PerClientPerHour: k.PerClientPerHour,
		PerFarmPerHour:   k.PerFarmPerHour,
		PerHour:          k.PerHour,
		Hours:            b.hours(k.Hours, under("hours")...),
		BusyCPU:          float64(k.BusyCPU) / 100,
		BusyIO:           float64(k.BusyIO),
		// Whoever asks for it by name wants to be sure.
		CPUMustBeKnown: k.BusyCPU > 0 && given("busy_cpu"),
		IOMustBeKnown:  k.BusyIO > 0 && given("busy_io"),
		Headroom:       k.Headroom,
		IdleActive:     k.IdleActive,
		IdleWarning:    k.IdleWarning,
		HonourKeepMark: k.HonourKeepMarker,
		KeepMarkMax:    k.KeepMarkerMax,
	}
	for _, text := range slices.Sorted(maps.Keys(k.MinDisconnectedFor)) {
		e.MinDisconnectedFor = append(e.MinDisconnectedFor, placement.Grace{Pattern: text, For: k.MinDisconnectedFor[text]})
	}
	for _, p := range k.Protect {
		e.Protect = append(e.Protect, string(p))
	}
	for _, p := range k.ProtectProcesses {
		e.ProtectProcesses = append(e.ProtectProcesses, string(p))
	}
	return e
}
