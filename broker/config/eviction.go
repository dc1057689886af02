package config

import (
	"slices"

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
}

// farmEviction are the eviction keys of one farm: its own over those for all.
// What they protect adds up, so that a farm's list never takes protection away.
func (b *builder) farmEviction(p path, f *farmKeys) evictionKeys {
	shared := b.keys.Eviction
	under := shared
	under.Protect, under.ProtectProcesses, under.ProtectList = nil, nil, ""
	own := f.Eviction.over(b.decoder, under)
	own.ProtectProcesses = slices.Concat(shared.ProtectProcesses, own.ProtectProcesses)
	own.Protect = slices.Concat(shared.Protect, own.Protect, b.patterns(p.key("protect_list"), own.ProtectList))
	if f.Eviction.given() {
		b.checkEviction(&own, p, "eviction")
	}
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

// eviction is what k says, in the words of a policy.
func (b *builder) eviction(k evictionKeys) placement.Eviction {
	e := placement.Eviction{
		Mode:             modes[k.Mode],
		Proof:            proofs[k.Proof],
		RefuseUnproven:   k.WithoutNLA == refuse,
		MinDisconnected:  k.MinDisconnected,
		PerHostPerHour:   k.PerHostPerHour,
		PerClientPerHour: k.PerClientPerHour,
	}
	for _, p := range k.Protect {
		e.Protect = append(e.Protect, string(p))
	}
	for _, p := range k.ProtectProcesses {
		e.ProtectProcesses = append(e.ProtectProcesses, string(p))
	}
	return e
}
