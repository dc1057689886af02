//go:build linux

package abuse

import (
	"context"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rdpbroker/rdpbroker/broker/token"
	"github.com/rdpbroker/rdpbroker/sessions"
	"github.com/rdpbroker/rdpbroker/sessions/simhost"
)

const (
	domain          = "CONTOSO"
	manager         = "svc-rdpbroker"
	managerPassword = "correct horse"
	userPassword    = "secret"
)

// farm is full of sessions that may go, and of hosts that ask for passwords.
type farm struct {
	broker *brokerProcess
	// owners have a session on one of the hosts, staff have none and are known.
	owners, staff []string
	ring          *token.Ring

	mu   sync.Mutex
	gone []string // whom management has told to go
}

// evicted is whom the hosts have been told to log off.
func (f *farm) evicted() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string(nil), f.gone...)
}

func newFarm(t *testing.T, hosts, slots int) *farm {
	t.Helper()
	f := &farm{}
	dir := t.TempDir()
	file := func(name string, text []byte) string {
		name = filepath.Join(dir, name)
		if err := os.WriteFile(name, text, 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	secret := [token.KeySize]byte{7}
	var err error
	if f.ring, err = token.NewRing(token.NewKey(secret)); err != nil {
		t.Fatal(err)
	}
	secure, err := simhost.SelfSigned(time.Now(), "farm.example")
	if err != nil {
		t.Fatal(err)
	}
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: secure.Certificates[0].Certificate[0]})
	for i := range 40 {
		f.staff = append(f.staff, fmt.Sprintf("staff%02d", i))
	}

	var y strings.Builder
	fmt.Fprintf(&y, "listen: [{address: '127.0.0.1:0', farm: office}]\nadmin: {socket: '', metrics: ''}\nstate_file: ''\ndrain_timeout: 1s\n")
	fmt.Fprintf(&y, "audit: {file: %q}\n", filepath.Join(dir, "audit.jsonl"))
	fmt.Fprintf(&y, "eviction: {mode: evict, proof: credentials, per_host_per_hour: 0, per_client_per_hour: 0}\n")
	fmt.Fprintf(&y, "identity: {users: [%s], tokens: {keys: [%q]}}\n", strings.Join(f.staff, ", "), file("token.key", []byte(token.FormatKey(secret)+"\n")))
	fmt.Fprintf(&y, "defaults: {winrm: {user: '%s\\%s', password_file: %q, ca_file: %q, server_name: farm.example, mode: agent}}\n",
		domain, manager, file("password", []byte(managerPassword+"\n")), file("ca.pem", ca))
	fmt.Fprintf(&y, "farms:\n  office:\n    hosts:\n")
	for i := range hosts {
		rdp, winrm := f.host(t, i, slots, simhost.WinRM{
			Managers: []simhost.Manager{{Account: sessions.Account{Domain: domain, User: manager}, Password: managerPassword}}, TLS: secure,
		})
		fmt.Fprintf(&y, "      - {name: ts%d, address: %q, winrm: {address: 'https://%s'}}\n", i, rdp, winrm)
	}
	f.broker = startBroker(t, y.String())
	return f
}

// host runs host number i, full of people who have gone home long ago, the first
// of all from the first host.
func (f *farm) host(t *testing.T, i, slots int, management simhost.WinRM) (rdp, winrm net.Addr) {
	t.Helper()
	h, err := simhost.New(simhost.Config{
		Name: fmt.Sprintf("ts%d", i), Domain: domain,
		Options: simhost.Options{Slots: slots, CountDisconnected: true},
		RDP: simhost.RDP{
			NLA:      []simhost.NLA{simhost.NLAHybridEx, simhost.NLAHybrid}[i%2],
			Password: func(sessions.Account) (string, bool) { return userPassword, true },
		},
		WinRM: management,
		OnEvent: func(e simhost.Event) {
			if e.Kind == simhost.EventLogoffBegan {
				f.mu.Lock()
				defer f.mu.Unlock()
				f.gone = append(f.gone, e.Session.Account.User)
			}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	for n := range slots {
		user := fmt.Sprintf("owner%02d", i*slots+n)
		f.owners = append(f.owners, user)
		seed := simhost.Seed{Account: sessions.Account{Domain: domain, User: user}, LogonAgo: 30 * time.Hour, DisconnectedAgo: time.Duration(10+n)*time.Hour - time.Duration(i)*time.Minute}
		if err := h.Model().Seed(seed); err != nil {
			t.Fatal(err)
		}
	}
	listen := func() net.Listener {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		return ln
	}
	a, b := listen(), listen()
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- h.Run(ctx, a, b) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return a.Addr(), b.Addr()
}
