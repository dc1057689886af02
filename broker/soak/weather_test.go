package soak

import (
	"context"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/rdpbroker/rdpbroker/sessions"
	"github.com/rdpbroker/rdpbroker/sessions/simhost"
)

// recovery is how long it may take until a host is read again that nothing is
// wrong with any more: a driver that waits for an answer or a sign of life gives
// up after 45 s, and 45 s is the longest pause before the next try.
const recovery = 2 * time.Minute

// timeless is what Windows itself does not know of some sessions; quser prints
// when the last input was instead.
const timeless = "disconnected since nobody knows when"

// furnish puts sessions on the hosts that were there before: those that must
// never be chosen, and some that contradict.
func (o *office) furnish(rnd *rand.Rand) {
	account := func(user string) sessions.Account { return sessions.Account{Domain: domain, User: user} }
	for i, h := range o.hosts {
		h.seed(o.t, o, "", simhost.Seed{Account: account("svc-backup"), DisconnectedAgo: 9 * time.Hour, LogonAgo: 20 * time.Hour, ID: 1 + rnd.IntN(5)})
		switch i % 6 {
		case 0:
			h.seed(o.t, o, timeless, simhost.Seed{Account: account("timeless"), DisconnectedAgo: -1, LogonAgo: 20 * time.Hour, IdleFor: time.Minute})
		case 1:
			h.seed(o.t, o, "", simhost.Seed{Account: account(pinnedUser), DisconnectedAgo: 5 * time.Hour, LogonAgo: 9 * time.Hour})
		case 2:
			h.seed(o.t, o, "on the console", simhost.Seed{Account: account("operator"), State: sessions.StateActive, Console: true, LogonAgo: 9 * time.Hour})
		case 3:
			h.seed(o.t, o, "", simhost.Seed{Account: account("stubborn"), DisconnectedAgo: 5 * time.Hour, LogonAgo: 9 * time.Hour, Logoff: &simhost.LogoffPlan{Refused: true}})
		case 4:
			h.seed(o.t, o, "", simhost.Seed{Account: account("sticky"), DisconnectedAgo: 5 * time.Hour, LogonAgo: 9 * time.Hour, Logoff: &simhost.LogoffPlan{Sticks: true, Shows: sessions.StateDown}})
		}
		if h.unseen {
			h.seed(o.t, o, "unseen", simhost.Seed{Account: account("ghost"), DisconnectedAgo: 5 * time.Hour, LogonAgo: 9 * time.Hour, Hidden: true})
		}
	}
}

// weather lets things go wrong, one every now and then, each for a while.
func (o *office) weather(ctx context.Context, rnd *rand.Rand) {
	var faults sync.WaitGroup
	defer faults.Wait()
	for {
		sleep(ctx, time.Duration(1+rnd.Int64N(2*int64(o.setup.weather))))
		if ctx.Err() != nil {
			return
		}
		h := o.hosts[rnd.IntN(len(o.hosts))]
		f := o.pick(h, rnd)
		length := time.Duration(1+rnd.IntN(30)) * time.Second
		o.mu.Lock()
		o.counts["fault: "+f.name]++
		h.sickUntil = latest(h.sickUntil, time.Now().Add(length+recovery+o.setup.lag+f.after))
		o.mu.Unlock()
		o.step("something goes wrong")
		f.begin()
		faults.Go(func() {
			sleep(ctx, length)
			if f.end != nil {
				f.end()
			}
		})
	}
}

// fault is something that goes wrong for a while.
type fault struct {
	name       string
	begin, end func()
	after      time.Duration // how much longer its effects last
}

func (o *office) pick(h *host, rnd *rand.Rand) fault {
	configure := func(change func(*simhost.Options)) func() { return func() { h.model.Configure(change) } }
	if n := rnd.IntN(26); n < 13 {
		kinds := []simhost.FaultKind{
			simhost.FaultShellVanishes, simhost.FaultShellQuota, simhost.FaultOperationQuota, simhost.FaultTimedOut, simhost.FaultEmpty500,
			simhost.FaultUnauthorized, simhost.FaultBadGateway, simhost.FaultReset, simhost.FaultBlackHole, simhost.FaultSlowBody, simhost.FaultHugeBody,
			simhost.FaultBlackHole, simhost.FaultInputRefused,
		}
		one := simhost.Fault{Kind: kinds[n], Skip: rnd.IntN(6), Times: 1 + rnd.IntN(4), Pause: time.Millisecond, Size: 2 << 20}
		one.On = []simhost.Action{"", simhost.ActionCreate, simhost.ActionCommand, simhost.ActionReceive, simhost.ActionDelete}[rnd.IntN(5)]
		if one.Kind == simhost.FaultInputRefused {
			one.On = simhost.ActionSend
		}
		f := fault{
			name:  string(one.Kind),
			begin: configure(func(opt *simhost.Options) { opt.Faults = append(opt.Faults, one) }),
			end:   configure(func(opt *simhost.Options) { opt.Faults = nil }),
		}
		if rnd.IntN(3) == 0 {
			one.Text, f.name = "Der Dienst kann die Anforderung nicht verarbeiten.", f.name+", in German"
		}
		if one.Kind == simhost.FaultUnauthorized {
			f.after = 31 * time.Minute // a refused password is not offered again before
		}
		return f
	} else if n == 13 {
		return fault{name: "WinRM cannot be reached", begin: func() { h.lost.Store(true); h.winrm.Cut() }, end: func() { h.lost.Store(false) }}
	} else if n == 14 {
		return fault{name: "WinRM connections are cut", begin: h.winrm.Cut}
	} else if n == 15 {
		return fault{name: "the host restarts", begin: func() {
			h.lost.Store(true)
			h.off.Store(true)
			h.boots.Add(1)
			h.model.Reboot()
			h.winrm.Cut()
			h.rdp.Cut()
		}, end: func() { h.lost.Store(false); h.off.Store(false) }}
	} else if n == 16 {
		return fault{name: "RDP cannot be reached", begin: func() { h.off.Store(true) }, end: func() { h.off.Store(false) }}
	} else if n == 17 {
		return fault{name: "sessions cannot be listed",
			begin: configure(func(opt *simhost.Options) {
				opt.ListError = &simhost.WinError{Code: 1722, Text: "The RPC server is unavailable."}
			}),
			end: configure(func(opt *simhost.Options) { opt.ListError = nil })}
	} else if n == 18 {
		drain := func(on bool) func() {
			return func() {
				o.mu.Lock()
				h.draining, h.drained = on, time.Now()
				o.mu.Unlock()
				h.model.Configure(func(opt *simhost.Options) {
					opt.Drain = simhost.DrainOff
					if on {
						opt.Drain = simhost.DrainOn
					}
				})
			}
		}
		return fault{name: "the host drains", begin: drain(true), end: drain(false)}
	}
	plans := []struct {
		name string
		plan simhost.LogoffPlan
	}{
		{"logoffs take long", simhost.LogoffPlan{Takes: 2 * o.setup.softLimit, Shows: sessions.StateDisconnected}},
		{"logoffs take very long", simhost.LogoffPlan{Takes: 2 * o.setup.hardLimit}},
		{"logoffs take a moment, as Reset", simhost.LogoffPlan{Takes: 3 * time.Second, Shows: sessions.StateReset}},
		{"logoffs never end", simhost.LogoffPlan{Sticks: true}},
		{"logoffs never end, as Disconnected", simhost.LogoffPlan{Sticks: true, Shows: sessions.StateDisconnected}},
		{"logoffs are refused", simhost.LogoffPlan{Refused: true}},
	}
	p := plans[rnd.IntN(len(plans))]
	if o.setup.onlyActive && p.plan.Shows == sessions.StateDisconnected {
		p.plan.Shows = sessions.StateDown
	}
	old := h.model.Options().Logoff
	return fault{
		name:  p.name,
		begin: configure(func(opt *simhost.Options) { opt.Logoff = p.plan }),
		end:   configure(func(opt *simhost.Options) { opt.Logoff = simhost.LogoffPlan{Takes: min(old.Takes, time.Second)} }),
		after: 2 * o.setup.hardLimit,
	}
}

// heal ends whatever goes wrong.
func (h *host) heal() {
	h.lost.Store(false)
	h.off.Store(false)
	h.model.Configure(func(opt *simhost.Options) {
		opt.Faults, opt.ListError, opt.Drain, opt.Logoff = nil, nil, simhost.DrainOff, simhost.LogoffPlan{}
	})
}

// beforeCommand runs on h just before a command does. Now and then the user
// whom logoff.exe is about to end comes back at this very moment.
func (o *office) beforeCommand(h *host, line string) {
	words := strings.Fields(line)
	if len(words) < 3 || !strings.HasPrefix(words[0], "logoff") {
		return
	}
	id, err := strconv.Atoi(words[1]) // logoff.exe ID /V
	if len(words) > 3 {
		id, err = strconv.Atoi(words[2]) // the agent's: logoff REQUEST ID LOGON …
	}
	if err != nil {
		return
	}
	o.mu.Lock()
	s := h.truth[id]
	var owner *user
	for _, u := range o.people {
		if s != nil && s.leaving == "" && u.account == s.account {
			owner = u
		}
	}
	back := owner != nil && o.faults.IntN(12) == 0
	o.mu.Unlock()
	if !back {
		return
	}
	o.count("fault: the user is back between the look and the logoff")
	if o.setup.byText {
		h.gap.Add(1)
		time.AfterFunc(time.Millisecond, func() { h.gap.Add(-1) })
	}
	if a := owner.reconnect(h); a != nil {
		time.AfterFunc(20*time.Second, a.Disconnect)
	}
}
