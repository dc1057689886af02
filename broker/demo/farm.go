package demo

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/rdpbroker/rdpbroker/sessions"
	"github.com/rdpbroker/rdpbroker/sessions/simhost"
)

const (
	domain  = "CONTOSO"
	service = "svc-rdpbroker"
	slots   = 2
	// userPassword is everybody's.
	userPassword = "demo"
)

// farm is the demo's hosts with their listeners.
type farm struct {
	hosts []*host
}

type host struct {
	*simhost.Host
	name       string
	rdp, winrm net.Listener
	winrmTLS   *tls.Config
}

// people are who has a session when the demo begins: everybody has gone home but
// dave, and nobody has logged off.
func people() map[string][]simhost.Seed {
	away := func(user string, ago time.Duration) simhost.Seed {
		return simhost.Seed{
			Account: sessions.Account{Domain: domain, User: user}, State: sessions.StateDisconnected,
			LogonAgo: ago + 5*time.Hour, DisconnectedAgo: ago,
		}
	}
	dave := simhost.Seed{
		Account: sessions.Account{Domain: domain, User: "dave"}, State: sessions.StateActive, LogonAgo: 2 * time.Hour,
		ClientName: "DAVES-PC", ClientAddr: netip.MustParseAddr("192.0.2.17"),
	}
	return map[string][]simhost.Seed{
		"ts1": {away("alice", 3*time.Hour+12*time.Minute), away("bob", 47*time.Minute)},
		"ts2": {away("carol", 26*time.Minute), dave},
	}
}

func newFarm(password string, out *screen, o Options) (_ *farm, err error) {
	f := &farm{}
	defer func() {
		if err != nil {
			f.close()
		}
	}()
	seeds := people()
	// One host tells clients at once that their password is right, as Windows of
	// today does, the other lets them go on, as that of yesterday.
	ways := []simhost.NLA{simhost.NLAHybridEx, simhost.NLAHybrid}
	for i, name := range []string{"ts1", "ts2"} {
		h := &host{name: name}
		f.hosts = append(f.hosts, h)
		rdpAddr := "127.0.0.1:0"
		if o.WithoutBroker && i == 0 {
			rdpAddr = o.Listen // the client meets this host at the broker's address
		}
		if h.rdp, err = listen(rdpAddr); err != nil {
			return nil, err
		}
		if h.winrm, err = listen("127.0.0.1:0"); err != nil {
			return nil, err
		}
		if h.winrmTLS, err = simhost.SelfSigned(time.Now(), name, "127.0.0.1"); err != nil {
			return nil, err
		}
		h.Host, err = simhost.New(simhost.Config{
			Name: name, Domain: domain,
			Options: simhost.Options{
				Slots: slots, CountDisconnected: true,
				Logoff: simhost.LogoffPlan{Takes: 1500 * time.Millisecond, Shows: sessions.StateDisconnected},
			},
			OnEvent: func(e simhost.Event) { out.hostEvent(name, e) },
			RDP: simhost.RDP{
				NLA:      ways[i],
				Password: func(sessions.Account) (string, bool) { return userPassword, true },
			},
			WinRM: simhost.WinRM{
				Managers: []simhost.Manager{{Account: sessions.Account{Domain: domain, User: service}, Password: password}},
				TLS:      h.winrmTLS,
			},
			Log: o.Log,
		})
		if err != nil {
			return nil, err
		}
		if err = h.Model().Seed(seeds[name]...); err != nil {
			return nil, err
		}
	}
	return f, nil
}

// run serves all hosts until ctx ends.
func (f *farm) run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, h := range f.hosts {
		g.Go(func() error { return h.Run(ctx, h.rdp, h.winrm) })
	}
	return g.Wait()
}

// close closes listeners that were never served; closing twice is harmless.
func (f *farm) close() {
	for _, h := range f.hosts {
		for _, ln := range []net.Listener{h.rdp, h.winrm} {
			if ln != nil {
				ln.Close()
			}
		}
	}
}

// config is the broker.yaml of the demo: the real thing, read by the same code.
// The files that it names are in dir.
func (f *farm) config(dir, password string, o Options) (string, error) {
	ca, secret := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "password")
	var pems []byte
	var y strings.Builder
	fmt.Fprintf(&y, "listen: [{address: %q, farm: demo}]\n", o.Listen)
	fmt.Fprintf(&y, "admin: {socket: %q, metrics: %q, listen: %q}\n", o.Socket, o.Admin, o.Page)
	fmt.Fprintf(&y, "audit: {file: ''}\nstate_file: ''\ndrain_timeout: 5s\n")
	fmt.Fprintf(&y, "eviction: {mode: evict, proof: credentials, min_disconnected: 15m, per_host_per_hour: 60, per_client_per_hour: 60}\n")
	fmt.Fprintf(&y, "farms:\n  demo:\n    wait: 60s\n    hosts:\n")
	for _, h := range f.hosts {
		fmt.Fprintf(&y, "      - name: %s\n        address: %q\n", h.name, h.rdp.Addr())
		fmt.Fprintf(&y, "        winrm: {address: 'https://%s', user: '%s\\%s', password_file: %q, ca_file: %q, server_name: %s, mode: agent}\n",
			h.winrm.Addr(), domain, service, secret, ca, h.name)
		for _, der := range h.winrmTLS.Certificates[0].Certificate {
			pems = append(pems, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
		}
	}
	if !x509.NewCertPool().AppendCertsFromPEM(pems) {
		return "", fmt.Errorf("the simulated hosts' certificates cannot be read back")
	}
	return y.String(), errors.Join(os.WriteFile(ca, pems, 0o600), os.WriteFile(secret, []byte(password+"\n"), 0o600))
}
