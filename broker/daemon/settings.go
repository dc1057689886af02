package daemon

import (
	"github.com/rdpbroker/rdpbroker/broker"
	"github.com/rdpbroker/rdpbroker/broker/config"
	"github.com/rdpbroker/rdpbroker/broker/identity"
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
		}
	}
	return c
}

func directory(cfg *config.Config) identity.Directory {
	id := cfg.Identity
	return identity.Directory{
		Users:       id.Users,
		Aliases:     id.Aliases,
		UPNSuffixes: id.UPNSuffixes,
		Clients:     id.Clients,
		Trusted:     id.TrustedClients,
	}
}

// memory is how much is remembered of client addresses.
func memory(cfg *config.Config) identity.Memory {
	m := identity.Memory{Entries: cfg.Identity.RememberEntries, For: cfg.Identity.RememberFor}
	if m.Entries == 0 {
		m.Entries = -1 // in broker.yaml 0 is none
	}
	return m
}
