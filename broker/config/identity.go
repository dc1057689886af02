package config

import (
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/rdpbroker/rdpbroker/sessions"
)

func (b *builder) identity() Identity {
	k := &b.keys.Identity
	id := Identity{
		TrustedClients:  b.networks("identity.trusted_clients", k.TrustedClients, "is taken for whom they say they are"),
		Aliases:         make(map[string]sessions.Account),
		UPNSuffixes:     make(map[string]string),
		Clients:         make(map[netip.Prefix]sessions.Account),
		RememberEntries: k.Remember.Entries,
		RememberFor:     k.Remember.For,
		Tokens:          b.tokens(),
	}
	for _, a := range slices.Concat(k.Users, b.accounts("identity.users_file", k.UsersFile)) {
		id.Users = append(id.Users, sessions.Account(a))
	}
	taken := make(map[string]path)
	for _, name := range slices.Sorted(maps.Keys(k.Aliases)) {
		p := path("identity.aliases").key(name)
		if name == "" || strings.ContainsFunc(name, unprintable) {
			b.bad(p, "is not a name", "")
		}
		b.once(taken, p, strings.ToLower(name), "is used twice")
		id.Aliases[strings.ToLower(name)] = sessions.Account(k.Aliases[name])
	}
	taken = make(map[string]path)
	for _, suffix := range slices.Sorted(maps.Keys(k.UPNSuffixes)) {
		p, domain := path("identity.upn_suffixes").key(suffix), k.UPNSuffixes[suffix]
		if !hostName(suffix) {
			b.bad(p, "is not a UPN suffix", "such as contoso.example, without the @")
		} else if !hostName(domain) {
			b.bad(p, quote(domain)+" is not a domain", "such as CONTOSO")
		}
		b.once(taken, p, strings.ToLower(suffix), "is used twice")
		id.UPNSuffixes[strings.ToLower(suffix)] = domain
	}
	taken = make(map[string]path)
	for _, text := range slices.Sorted(maps.Keys(k.Clients)) {
		p := path("identity.clients").key(text)
		var n network
		if err := n.UnmarshalText([]byte(text)); err != nil {
			b.illegible(p, text, err)
			continue
		}
		client := netip.Prefix(n)
		b.once(taken, p, client.String(), "is used twice")
		id.Clients[client] = sessions.Account(k.Clients[text])
	}
	return id
}

func (b *builder) tokens() Tokens {
	k := &b.keys.Identity.Tokens
	const p = path("identity.tokens")
	t := Tokens{NotBefore: make(map[sessions.Account]time.Time)}
	taken := make(map[string]path)
	for i, file := range k.Keys {
		at := p.key("keys").index(i)
		if file == "" {
			b.bad(at, "is not a file name", "rdpbroker token keygen FILE makes a key")
			continue
		}
		name := b.private(at, file)
		b.once(taken, at, name, "is used twice")
		t.Keys = append(t.Keys, name)
	}
	for _, id := range slices.Concat(k.Revoked, list[tokenID](b, p.key("revoked_file"), k.RevokedFile)) {
		t.Revoked = append(t.Revoked, string(id))
	}
	taken = make(map[string]path)
	for _, name := range slices.Sorted(maps.Keys(k.NotBefore)) {
		at := p.key("not_before").key(name)
		var a account
		if err := a.UnmarshalText([]byte(name)); err != nil {
			b.illegible(at, name, err)
			continue
		}
		b.once(taken, at, sessions.Account(a).Folded().String(), "is used twice")
		t.NotBefore[sessions.Account(a)] = time.Time(k.NotBefore[name])
	}
	return t
}
