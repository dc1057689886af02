package e2e

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rdpbroker/rdpbroker/broker/audit"
	"github.com/rdpbroker/rdpbroker/broker/placement"
	"github.com/rdpbroker/rdpbroker/deploy/testlab"
	"github.com/rdpbroker/rdpbroker/sessions"
	"github.com/rdpbroker/rdpbroker/sessions/simhost"
)

// openTokens puts the broker in front of two simulated Windows hosts; ts2 has a
// session of each of these users, disconnected. The file named config is what
// `rdpbroker token` reads.
func openTokens(t *testing.T, users ...string) (o *office, config string) {
	t.Helper()
	o = &office{t: t, ctx: deadline(t, 2*aMinute)}
	dir := t.TempDir()
	config = filepath.Join(dir, "broker.yaml")
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("password", "management\n")
	for _, key := range []string{"token.key", "theirs.key"} {
		if out, code := call(t, "rdpbroker", "token", "keygen", filepath.Join(dir, key)); code != 0 {
			t.Fatalf("keygen ended with %d: %s", code, out)
		}
	}
	var hosts strings.Builder
	for _, name := range []string{"ts1", "ts2"} {
		var seeds []simhost.Seed
		for _, u := range users {
			if name == "ts2" {
				seeds = append(seeds, simhost.Seed{Account: sessions.Account{Domain: "CONTOSO", User: u}, State: sessions.StateDisconnected, LogonAgo: 2 * time.Hour, DisconnectedAgo: time.Hour})
			}
		}
		rdp, winrm, ca := startSimulated(t, name, seeds)
		write(name+".pem", ca)
		fmt.Fprintf(&hosts, "      - {name: %s, address: '%s', slots: 9, winrm: {address: 'https://%s', user: svc, password_file: password, ca_file: %[1]s.pem, server_name: %[1]s, poll: 1s}}\n", name, rdp, winrm)
	}
	yaml := func(key string) string {
		return fmt.Sprintf(`listen: [{address: '127.0.0.1:0', farm: office}]
admin: {socket: %q, metrics: ''}
audit: {file: ''}
state_file: ''
identity: {remember: {entries: 0}, tokens: {keys: [%q]}}
farms:
  office:
    hosts:
%s`, filepath.Join(dir, "admin.sock"), filepath.Join(dir, key), strings.NewReplacer("password_file: ", "password_file: "+dir+"/", "ca_file: ", "ca_file: "+dir+"/").Replace(hosts.String()))
	}
	write("broker.yaml", yaml("token.key"))
	write("theirs.yaml", yaml("theirs.key"))
	o.start(yaml("token.key"))
	o.waitFor("every host is read", func() bool {
		for _, h := range o.d.Snapshot().Hosts {
			if h.Report == nil {
				return false
			}
		}
		return true
	})
	return o, config
}

// startSimulated starts a simulated Windows host with RDP and WinRM.
func startSimulated(t *testing.T, name string, seeds []simhost.Seed) (rdp, winrm, ca string) {
	t.Helper()
	tls, err := simhost.SelfSigned(time.Now(), name, "127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	host, err := simhost.New(simhost.Config{Name: name, Domain: "CONTOSO", Options: simhost.Options{Slots: 9, CountDisconnected: true}, WinRM: simhost.WinRM{
		Managers: []simhost.Manager{{Account: sessions.Account{User: "svc"}, Password: "management"}}, TLS: tls,
	}})
	if err != nil {
		t.Fatal(err)
	}
	if err := host.Model().Seed(seeds...); err != nil {
		t.Fatal(err)
	}
	var lns [2]net.Listener
	for i := range lns {
		if lns[i], err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- host.Run(ctx, lns[0], lns[1]) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return lns[0].Addr().String(), lns[1].Addr().String(), certificatePEM(tls)
}

// TestTokensOfRealClients: xfreerdp with a token of `rdpbroker token`, on its
// command line and in an .rdp file, is led to its user's session, or to the host
// that the token names; with a token that is not good it is whoever it says.
func TestTokensOfRealClients(t *testing.T) {
	t.Parallel()
	o, config := openTokens(t, "alice", "erin", "frank")
	theirs := filepath.Join(filepath.Dir(config), "theirs.yaml")
	token := func(args ...string) string {
		t.Helper()
		out, code := call(t, "rdpbroker", append([]string{"token", "-q"}, args...)...)
		if code != 0 {
			t.Fatalf("%q ended with %d: %s", args, code, out)
		}
		return "/load-balance-info:" + strings.TrimSpace(out)
	}
	file := filepath.Join(t.TempDir(), "erin.rdp")
	token("-c", config, `CONTOSO\erin`, "--rdp", file, "--address", o.addr)
	good := token("-c", config, `CONTOSO\alice`)
	forged := []byte(good)
	middle := len(forged) - 20 // somewhere in what is sealed
	forged[middle] = map[bool]byte{true: 'B', false: 'A'}[forged[middle] == 'A']
	for _, c := range []struct {
		name, user string
		opts       testlab.ClientOptions
		confidence sessions.Confidence
		verdict    string
		host       string // "" for any
	}{
		{"one's own session", "alice", testlab.ClientOptions{Addr: o.addr, User: "alice", Extra: []string{good}}, sessions.ConfidenceToken, "valid", "ts2"},
		{"a host", "bob", testlab.ClientOptions{Addr: o.addr, User: "bob", Extra: []string{token("-c", config, `CONTOSO\bob`, "--host", "ts2")}}, sessions.ConfidenceToken, "valid", "ts2"},
		{"an .rdp file", "erin", testlab.ClientOptions{File: file}, sessions.ConfidenceToken, "valid", "ts2"},
		{"a forged one", "mallory", testlab.ClientOptions{Addr: o.addr, User: "mallory", Extra: []string{string(forged)}}, sessions.ConfidenceNone, "forged", ""},
		{"another broker's", "trudy", testlab.ClientOptions{Addr: o.addr, User: "trudy", Extra: []string{token("-c", theirs, `CONTOSO\alice`)}}, sessions.ConfidenceNone, "unknown-key", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			// Nobody's connections from one address, one after the other, are one logon.
			o.waitFor("the one before has been seen and is gone", func() bool { return len(o.d.Status().Reservations) == 0 })
			before := len(o.events(audit.Decided))
			c.opts.Password = "any"
			client := testlab.XFreeRDP(t, testlab.StartDisplay(t), c.opts)
			defer client.Kill()
			o.waitFor(c.user+" has an active session", func() bool {
				for _, h := range o.d.Snapshot().Hosts {
					for _, s := range h.Report.Sessions {
						if s.Account.User == c.user && s.State == sessions.StateActive {
							return c.host == "" || h.Host.Name == c.host
						}
					}
				}
				return false
			})
			d := o.events(audit.Decided)[before:]
			if len(d) == 0 {
				t.Fatal("nothing was decided")
			}
			id := d[0].Identity
			if id.Confidence != c.confidence || id.Token != c.verdict || c.host != "" && d[0].Decision.Host != c.host {
				t.Errorf("confidence %s, token %s, %s on %s: %s\nclient: %s", id.Confidence, id.Token, d[0].Decision.Kind, d[0].Decision.Host, d[0].Decision.Reason, client.Output())
			}
			if c.verdict != "valid" && d[0].Decision.Kind != placement.Place {
				t.Errorf("a token that is %s led to %s", c.verdict, d[0].Decision.Kind)
			}
		})
	}
}
