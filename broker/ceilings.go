package broker

import (
	"net/netip"
	"slices"
	"time"

	"github.com/rdpbroker/rdpbroker/broker/placement"
	"github.com/rdpbroker/rdpbroker/sessions"
)

type evictionStamp struct {
	farm   string
	host   string
	client netip.Addr
	at     time.Time
}

// ceilings count the evictions within ceilingWindow.
type ceilings struct {
	stamps   []evictionStamp // the first one first
	byFarm   map[string]int
	byHost   map[string]int
	byClient map[netip.Addr]int
}

func newCeilings() ceilings {
	return ceilings{byFarm: map[string]int{}, byHost: map[string]int{}, byClient: map[netip.Addr]int{}}
}

func (c *ceilings) add(e evictionStamp) {
	c.stamps = append(c.stamps, e)
	c.byFarm[e.farm]++
	c.byHost[e.host]++
	if e.client.IsValid() { // else nobody set it off
		c.byClient[e.client]++
	}
}

// forget takes e back, which touched nothing.
func (c *ceilings) forget(e evictionStamp) {
	if i := slices.Index(c.stamps, e); i >= 0 {
		c.stamps = slices.Delete(c.stamps, i, i+1)
		c.uncount(e)
	}
}

// fill puts the counts into v, for the caller id.
func (c *ceilings) fill(v *placement.View, id sessions.Identity) {
	v.EvictionsByHost, v.EvictionsByClient = c.byHost, c.byClient[id.Client]
	v.EvictionsInFarm, v.EvictionsInAll = c.byFarm[v.Farm], len(c.stamps)
}

// expire forgets what is longer ago.
func (c *ceilings) expire(now time.Time) {
	n := 0
	for n < len(c.stamps) && now.Sub(c.stamps[n].at) >= ceilingWindow {
		c.uncount(c.stamps[n])
		n++
	}
	c.stamps = c.stamps[n:]
}

func (c *ceilings) uncount(e evictionStamp) {
	if c.byFarm[e.farm]--; c.byFarm[e.farm] == 0 {
		delete(c.byFarm, e.farm)
	}
	if c.byHost[e.host]--; c.byHost[e.host] == 0 {
		delete(c.byHost, e.host)
	}
	if !e.client.IsValid() {
		return
	}
	if c.byClient[e.client]--; c.byClient[e.client] == 0 {
		delete(c.byClient, e.client)
	}
}
