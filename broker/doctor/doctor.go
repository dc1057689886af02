package doctor

import (
	"cmp"
	"context"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/rdpbroker/rdpbroker/rdpproxy/reach"
)

// Config says how to examine. The zero value is usable.
type Config struct {
	// Names are those under which users come: the broker's.
	Names []string
	// ConnectTimeout bounds each look-up and each connection; 0: 5 s.
	ConnectTimeout time.Duration
	// ReadTimeout bounds the reading of a host; 0: 90 s, which leaves time for
	// an agent to start.
	ReadTimeout time.Duration
	// Parallel is how many hosts are examined at the same time; 0: 8.
	Parallel int
	// Lookup finds the addresses of a name; nil asks the system.
	Lookup func(ctx context.Context, name string) ([]string, error)
	// Reach finds out what answers at an RDP address; nil is reach.Check.
	Reach func(ctx context.Context, addr string, o reach.Options) (reach.Result, error)
	// Now is the clock; nil is time.Now.
	Now func() time.Time
}

func (c Config) withDefaults() Config {
	c.ConnectTimeout = cmp.Or(c.ConnectTimeout, 5*time.Second)
	c.ReadTimeout = cmp.Or(c.ReadTimeout, 90*time.Second)
	c.Parallel = cmp.Or(c.Parallel, 8)
	if c.Lookup == nil {
		c.Lookup = net.DefaultResolver.LookupHost
	}
	if c.Reach == nil {
		c.Reach = reach.Check
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return c
}

// Doctor examines hosts. It remembers which passwords were refused, so it is to
// be used for one run only.
type Doctor struct {
	cfg         Config
	credentials credentials
}

// New makes a doctor. It asks nobody anything yet.
func New(cfg Config) *Doctor { return &Doctor{cfg: cfg.withDefaults()} }

// Run examines the hosts side by side and returns when all are done. As each is,
// done (nil: nobody) is called with its report, never twice at the same time.
// When ctx ends what is under way ends soon, and the reports say so.
func (d *Doctor) Run(ctx context.Context, hosts []Host, done func(Report)) Result {
	reports := make([]Report, len(hosts))
	slots := make(chan struct{}, d.cfg.Parallel)
	var all sync.WaitGroup
	var telling sync.Mutex
	for i, h := range hosts {
		slots <- struct{}{}
		all.Go(func() {
			defer func() { <-slots }()
			reports[i] = d.Check(ctx, h)
			if done != nil {
				telling.Lock()
				defer telling.Unlock()
				done(reports[i])
			}
		})
	}
	all.Wait()
	return newResult(d.cfg.Now(), reports)
}

// Check examines one host: what users meet and what the broker meets, side by side.
func (d *Doctor) Check(ctx context.Context, h Host) Report {
	var users, broker []Finding
	var both sync.WaitGroup
	both.Go(func() { users = d.rdp(ctx, h) })
	both.Go(func() { broker = d.management(ctx, h) })
	both.Wait()
	return Report{Host: h.Name, Farm: h.Farm, Addr: h.Addr, Findings: slices.Concat(users, broker)}
}
