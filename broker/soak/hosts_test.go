package soak

import (
	"bufio"
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rdpbroker/rdpbroker/broker/soak/memnet"
	"github.com/rdpbroker/rdpbroker/rdpproxy/x224"
	"github.com/rdpbroker/rdpbroker/sessions"
	"github.com/rdpbroker/rdpbroker/sessions/inventory"
	"github.com/rdpbroker/rdpbroker/sessions/simhost"
	"github.com/rdpbroker/rdpbroker/sessions/winrm"
	"github.com/rdpbroker/rdpbroker/sessions/wintext"
)

// host is a simulated Windows host with its driver.
type host struct {
	name   string
	addr   netip.Addr
	slots  int
	counts bool // disconnected sessions hold slots
	sim    *simhost.Host
	model  *simhost.Model
	driver *winrm.Driver
	rdp    *memnet.Listener
	winrm  *memnet.Listener
	// gap is how many users are coming back at the very moment of a logoff
	gap atomic.Int32
	// lost: WinRM cannot be dialled. off: nor can RDP.
	lost, off atomic.Bool
	boots     atomic.Int32

	// The rest is guarded by office.mu.
	truth     map[int]*standing
	evictions []*attempt
	// unseen: its management account does not see all sessions.
	unseen bool
	// overfull: it was over its limit before anybody came.
	overfull bool
	// taintedUntil: somebody has taken a slot behind the broker's back, so until
	// then a user who was promised one may find it taken.
	taintedUntil time.Time
	// sickUntil is when the last fault is over.
	sickUntil time.Time
	undialled time.Time // when a dial failed last
	drained   time.Time // when draining was switched last
	draining  bool
	readable  time.Time // since when it is read without a problem; zero if it is not
	unread    time.Time // since when it is not; zero if it is
	story     []string  // the last things that happened, for whoever looks for a mistake
	free      time.Time // since when there is a slot for a new session; zero if there is none
	fits      time.Time // since when no more slots are taken than there are; zero if there are more
}

const (
	manager         = "svc-rdpbroker"
	managerPassword = "correct horse"
	domain          = "CONTOSO"
)

// textPoll is how often a host is read by text.
const textPoll = 5 * time.Second

// dial is how the broker's driver reaches the host's WinRM.
func (h *host) dial(n *memnet.Network) func(context.Context, string, string) (net.Conn, error) {
	inner := n.Dialer(brokerAddr)
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		if h.lost.Load() {
			return nil, errors.New("no route to host")
		}
		return inner(ctx, network, addr)
	}
}

// newHost makes host number i of an office.
func newHost(t *testing.T, o *office, i int, rnd *rand.Rand) *host {
	h := &host{
		name: fmt.Sprintf("ts%d", i+1), addr: netip.AddrFrom4([4]byte{192, 0, 2, byte(10 + i)}),
		slots: 7 + 2*(i%4), counts: !o.setup.onlyActive, truth: map[int]*standing{},
	}
	leaves := sessions.StateDisconnected
	if o.setup.onlyActive {
		leaves = sessions.StateDown // or there were sessions that hold a slot and do not look like it
	}
	secure := i%2 == 0
	cfg := simhost.Config{
		Name: h.name, Domain: domain,
		Options: simhost.Options{
			Slots: h.slots, CountDisconnected: h.counts,
			ClockSkew: time.Duration(rnd.Int64N(int64(4*time.Hour))) - 2*time.Hour,
			Logoff:    simhost.LogoffPlan{Takes: time.Duration(rnd.IntN(3)) * time.Second, Shows: leaves},
		},
		OnEvent: func(e simhost.Event) { o.see(h, e) },
		WinRM: simhost.WinRM{
			Managers:    []simhost.Manager{{Account: sessions.Account{Domain: domain, User: manager}, Password: managerPassword}},
			RefusePlain: !secure,
			Zone:        time.FixedZone("", (rnd.IntN(25)-12)*3600),
			OnCommand:   func(line string) { o.beforeCommand(h, line) },
		},
	}
	if i%3 == 0 { // cut within characters, and into many answers: slow
		cfg.WinRM.Split = rand.New(rand.NewPCG(rnd.Uint64(), 1))
	}
	cfg.WinRM.Locale, _ = wintext.LocaleByName([]string{"en", "de", "ru", "zh-CN"}[i%4])
	driver := winrm.Config{
		User: domain + `\` + manager, Password: func() (string, error) { return managerPassword, nil },
		Endpoint: netip.AddrPortFrom(h.addr, 5985).String(), PlainHTTP: true,
		Dial: h.dial(&o.net), Mode: winrm.ModeAgent,
	}
	if o.setup.byText {
		driver.Mode, driver.Poll, driver.Timeout, driver.TextEviction = winrm.ModeText, textPoll, 10*time.Second, true
	}
	if secure {
		var err error
		if cfg.WinRM.TLS, err = simhost.SelfSigned(time.Now(), h.name); err != nil {
			t.Fatal(err)
		}
		driver.PlainHTTP, driver.ServerName = false, h.name
		for _, der := range cfg.WinRM.TLS.Certificates[0].Certificate {
			driver.CA = append(driver.CA, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
		}
	}
	if h.unseen = o.setup.unseenHost && i == 0; h.unseen {
		cfg.WinRM.Managers[0].LowRights = true
	}
	var err error
	if h.sim, err = simhost.New(cfg); err != nil {
		t.Fatal(err)
	}
	h.model = h.sim.Model()
	if h.driver, err = winrm.New(driver, o.log); err != nil {
		t.Fatal(err)
	}
	return h
}

// seed puts sessions on h that were there before the broker.
func (h *host) seed(t *testing.T, o *office, odd string, seed simhost.Seed) {
	t.Helper()
	if err := h.model.Seed(seed); err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	for _, s := range h.model.Sessions() {
		if s.Account != seed.Account || h.truth[s.ID] != nil {
			continue
		}
		h.truth[s.ID] = &standing{
			account: seed.Account, client: seed.ClientAddr, active: s.State == sessions.StateActive, odd: odd,
			since: now.Add(-max(0, seed.DisconnectedAgo)), born: now.Add(-seed.LogonAgo), contrary: seed.Logoff != nil,
		}
	}
}

func (h *host) entry(farm string) inventory.Entry {
	e := inventory.Entry{
		Host:    sessions.Host{Name: h.name, Farm: farm, Addr: netip.AddrPortFrom(h.addr, 3389).String(), Slots: h.slots, CountDisconnected: sessions.No},
		Watcher: h.driver, FreshFor: freshFor,
	}
	if h.counts {
		e.Host.CountDisconnected = sessions.Yes
	}
	return e
}

// listen opens the host's ports.
func (h *host) listen(t *testing.T, n *memnet.Network) {
	var err error
	if h.rdp, err = n.Listen(netip.AddrPortFrom(h.addr, 3389)); err != nil {
		t.Fatal(err)
	}
	if h.winrm, err = n.Listen(netip.AddrPortFrom(h.addr, 5985)); err != nil {
		t.Fatal(err)
	}
}

// serveRDP is the host's RDP: a real X.224 exchange, and then, in place of TLS,
// NLA and pictures, one line from the client ("logon ACCOUNT") and one answer.
func (h *host) serveRDP(ctx context.Context, o *office) {
	stop := context.AfterFunc(ctx, func() { h.rdp.Close(); h.rdp.Cut() })
	defer stop()
	for {
		c, err := h.rdp.Accept()
		if err != nil {
			return
		}
		o.running.Go(func() {
			defer c.Close()
			h.serveClient(c)
		})
	}
}

func (h *host) serveClient(c net.Conn) {
	if _, err := x224.ReadOpening(c); err != nil {
		return
	}
	confirm := x224.Confirm{Negotiated: true, Value: uint32(x224.ProtocolHybrid)}
	if _, err := c.Write(confirm.Append(nil)); err != nil {
		return
	}
	lines := bufio.NewScanner(c)
	var a *simhost.Attachment
	defer func() {
		if a != nil {
			a.Disconnect() // closing the window keeps the session
		}
	}()
	for lines.Scan() {
		verb, rest, _ := strings.Cut(lines.Text(), " ")
		switch {
		case verb == "logon" && a == nil:
			account, from, _ := strings.Cut(rest, " ")
			addr, _ := netip.ParseAddr(from)
			var err error
			if a, err = h.model.Logon(sessions.ParseAccount(account), "", addr, ""); err != nil {
				fmt.Fprintf(c, "%s refused %s\n", h.name, err)
				return
			}
			stop := make(chan struct{})
			defer close(stop)
			go func() { // whoever takes the session over drops this client
				select {
				case <-a.Done():
					c.Close()
				case <-stop:
				}
			}()
			fmt.Fprintf(c, "%s %s\n", h.name, a.Kind)
		case verb == "logoff" && a != nil:
			a.Logoff()
			return
		}
	}
}
