package daemon

import (
	"fmt"

	"github.com/rdpbroker/rdpbroker/broker"
	"github.com/rdpbroker/rdpbroker/broker/config"
	"github.com/rdpbroker/rdpbroker/broker/identity"
	"github.com/rdpbroker/rdpbroker/broker/token"
)

// farms are the broker's settings of what cfg says.
func farms(cfg *config.Config) broker.Config {
	c := broker.Config{Farms: map[string]broker.Farm{}}
	for _, f := range cfg.Farms {
		c.Farms[f.Name] = broker.Farm{
			Policy:      f.Policy,
			Wait:        f.Wait,
			Reservation: f.Reservation,
			SoftLimit:   f.SoftLimit,
			HardLimit:   f.HardLimit,
			PerClient:   f.ReservationsPerClient,
			IdleMessage: f.IdleMessage,
		}
	}
	return c
}

// Directory is what cfg tells of the people. The error is that of a token key
// that cannot be used.
func Directory(cfg *config.Config) (identity.Directory, error) {
	id := cfg.Identity
	ring, err := TokenRing(id.Tokens)
	if err != nil {
		return identity.Directory{}, err
	}
	revoked := token.Revocations{IDs: map[string]bool{}, Before: id.Tokens.NotBefore}
	for _, t := range id.Tokens.Revoked {
		revoked.IDs[t] = true
	}
	return identity.Directory{
		Users:       id.Users,
		Aliases:     id.Aliases,
		UPNSuffixes: id.UPNSuffixes,
		Clients:     id.Clients,
		Trusted:     id.TrustedClients,
		Tokens:      ring,
		Revoked:     revoked,
	}, nil
}

// TokenRing reads the keys of t. The error says which of them cannot be used.
func TokenRing(t config.Tokens) (*token.Ring, error) {
	keys := make([]token.Key, len(t.Keys))
	for i, file := range t.Keys {
		line, err := config.FirstLine(file)
		if err != nil {
			return nil, fmt.Errorf("identity.tokens.keys[%d]: %w", i, err)
		}
		if keys[i], err = token.ParseKey(line); err != nil {
			return nil, fmt.Errorf("identity.tokens.keys[%d]: %s: %w", i, file, err)
		}
	}
	ring, err := token.NewRing(keys...)
	if err != nil {
		return nil, fmt.Errorf("identity.tokens.keys: %w", err)
	}
	return ring, nil
}

// memory is how much is remembered of client addresses.
func memory(cfg *config.Config) identity.Memory {
	m := identity.Memory{Entries: cfg.Identity.RememberEntries, For: cfg.Identity.RememberFor}
	if m.Entries == 0 {
		m.Entries = -1 // in broker.yaml 0 is none
	}
	return m
}
