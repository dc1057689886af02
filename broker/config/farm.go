package config

import (
	"maps"
	"slices"
	"strings"

	"github.com/rdpbroker/rdpbroker/broker/placement"
	"github.com/rdpbroker/rdpbroker/sessions"
)

var balances = map[string]placement.Balance{
	"least-sessions": placement.LeastSessions,
	"weighted":       placement.Weighted,
	"fill-first":     placement.FillFirst,
}

// farms are all farms by name, and their hosts by name. A host name is unique
// in the whole file, and so is an address: slots must not be promised twice.
func (b *builder) farms() []Farm {
	var out []Farm
	names, addresses := make(map[string]path), make(map[string]path)
	for _, name := range slices.Sorted(maps.Keys(b.keys.Farms)) {
		k, p := b.keys.Farms[name], path("farms").key(name)
		b.name(p, name)
		f := Farm{Name: name, Wait: k.Wait, Reservation: k.Reservation, ReservationsPerClient: k.ReservationsPerClient}
		f.Policy.Balance = balances[k.Balance]
		f.Policy.TakeOverActive = k.TakeOverActive
		f.Policy.Reserve = b.reserve(p.key("reserve"), k.Reserve)
		ev := b.farmEviction(p.key("eviction"), &k)
		f.IdleMessage = ev.IdleMessage
		f.Policy.Eviction, f.SoftLimit, f.HardLimit = b.eviction(ev, p.key("eviction"), "eviction"), ev.SoftLimit, ev.HardLimit
		for i, hk := range k.Hosts {
			hp := p.key("hosts").index(i)
			h := b.host(hp, &hk, name)
			b.once(names, hp.key("name"), h.Name, "is used twice")
			if b.given(hp) && h.Addr != "" {
				b.once(addresses, hp.key("address"), h.Addr, "is the address of two hosts")
			}
			if f.Policy.Eviction.Mode == placement.Evict && h.WinRM != nil && h.WinRM.Mode == "text" && !h.WinRM.TextEviction {
				b.warn(b.source("text_eviction", hp.key("winrm"), sharedWinRM), "without it nobody is ever logged off this host, whatever eviction.mode says")
			}
			if e := f.Policy.Eviction; e.Mode == placement.Evict && e.Proof == placement.Credentials && e.RefuseUnproven && h.XRDP != nil {
				b.warn(b.source("without_nla", p.key("eviction"), "eviction"), "xrdp has no NLA: with refuse nobody is ever logged off "+h.Name)
			}
			if why := h.hidesPrograms(); why != "" && len(ev.ProtectProcesses) > 0 {
				b.warn(b.source("protect_processes", p.key("eviction"), "eviction"), "what runs on "+h.Name+" is not known ("+why+"): nobody is ever logged off there")
			}
			f.Hosts = append(f.Hosts, h)
		}
		f.Policy.Pins = b.pins(p.key("pins"), k.Pins, f.Hosts)
		slices.SortStableFunc(f.Hosts, func(x, y Host) int { return strings.Compare(x.Name, y.Name) })
		out = append(out, f)
	}
	return out
}

// hidesPrograms says why the programs that run in a host's sessions are never known,
// or "".
func (h *Host) hidesPrograms() string {
	switch {
	case h.RPC != nil:
		return "rpc does not tell"
	case h.WinRM != nil && h.WinRM.Mode == "text":
		return "mode: text does not tell"
	case h.WinRM != nil && h.WinRM.Processes == 0, h.SSH != nil && h.SSH.Processes == 0:
		return "processes: 0s"
	}
	return ""
}

// once checks that value has not come before in taken.
func (b *builder) once(taken map[string]path, p path, value, what string) {
	if before, twice := taken[value]; twice && value != "" {
		b.bad(p, quote(value)+" "+what, "also "+string(before))
		return
	}
	taken[value] = p
}

// reserve are the slots that are kept for some accounts.
func (b *builder) reserve(p path, k reserveKeys) placement.Reserve {
	switch {
	case k.Slots > 0 && len(k.Users) == 0 && !b.failed[p.key("users")]:
		b.bad(p.key("users"), "is missing", "whom the slots are kept for, such as [Administrator]")
	case k.Slots == 0 && len(k.Users) > 0:
		b.bad(p.key("slots"), "is missing", "how many of the farm's slots are kept")
	}
	r := placement.Reserve{Slots: k.Slots}
	for _, u := range k.Users {
		r.Users = append(r.Users, string(u))
	}
	return r
}

func (b *builder) pins(p path, ks map[string]string, hosts []Host) []placement.Pin {
	var out []placement.Pin
	var names []string
	for _, h := range hosts {
		names = append(names, h.Name)
	}
	taken := make(map[string]path)
	for _, key := range slices.Sorted(maps.Keys(ks)) {
		kp, host := p.key(key), ks[key]
		who := sessions.Account(b.accountAt(kp, key))
		b.once(taken, kp, who.Folded().String(), "is pinned twice")
		if !slices.Contains(names, host) {
			b.bad(kp, "there is no host "+quote(host)+" in this farm", instead(host, names))
		}
		out = append(out, placement.Pin{Account: who, Host: host})
	}
	return out
}
