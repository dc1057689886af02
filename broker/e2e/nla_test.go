package e2e

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/rdpbroker/rdpbroker/broker/audit"
	"github.com/rdpbroker/rdpbroker/deploy/testlab"
	"github.com/rdpbroker/rdpbroker/sessions"
	"github.com/rdpbroker/rdpbroker/sessions/simhost"
)

// openNLA puts the broker in front of a real host with NLA, FreeRDP's shadow
// server. Its sessions are read from a simulated Windows host beside it.
func openNLA(t *testing.T) (o *office, s *testlab.Shadow) {
	t.Helper()
	return openNLAWith(t, nlaOptions{slots: 5})
}

// nlaOptions say what is on the host of openNLA, and what the broker does about it.
type nlaOptions struct {
	slots    int
	seeds    []simhost.Seed
	logoff   simhost.LogoffPlan
	eviction string // the value of that key in broker.yaml; "" for none
}

func openNLAWith(t *testing.T, opts nlaOptions) (o *office, s *testlab.Shadow) {
	t.Helper()
	s = testlab.StartShadow(t, "nla1", testlab.ShadowOptions{Accounts: []testlab.ShadowAccount{{User: "alice", Password: "secret"}}})
	o = &office{t: t, ctx: deadline(t, 2*aMinute)}

	const password = "management"
	tls, err := simhost.SelfSigned(time.Now(), "nla1", "127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	host, err := simhost.New(simhost.Config{Name: "nla1", Options: simhost.Options{Slots: opts.slots, CountDisconnected: true, Logoff: opts.logoff}, WinRM: simhost.WinRM{
		Managers: []simhost.Manager{{Account: sessions.Account{User: "svc"}, Password: password}}, TLS: tls,
	}})
	if err != nil {
		t.Fatal(err)
	}
	if err := host.Model().Seed(opts.seeds...); err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- host.Run(ctx, nil, ln) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})

	if opts.eviction == "" {
		opts.eviction = "{}"
	}
	dir := t.TempDir()
	secret, ca := filepath.Join(dir, "password"), filepath.Join(dir, "ca.pem")
	for file, text := range map[string]string{secret: password, ca: certificatePEM(tls)} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	o.start(fmt.Sprintf(`
listen: [{address: '127.0.0.1:0', farm: nla}]
admin: {socket: %q, metrics: ''}
audit: {file: ''}
state_file: ''
eviction: %s
farms:
  nla:
    wait: 3s
    hosts:
      - name: nla1
        address: %q
        slots: %d
        winrm: {address: 'https://%s', user: svc, password_file: %q, ca_file: %q, server_name: nla1, poll: 1s}
`, filepath.Join(dir, "admin.sock"), opts.eviction, s.Addr, opts.slots, ln.Addr(), secret, ca))
	o.waitFor("the host is read", func() bool { return o.d.Snapshot().Hosts[0].Report != nil })
	return o, s
}

// TestNLAGoesThrough: the password is checked by the host, end to end.
func TestNLAGoesThrough(t *testing.T) {
	t.Parallel()
	o, s := openNLA(t)
	wrong := testlab.XFreeRDP(t, testlab.StartDisplay(t), testlab.ClientOptions{Addr: o.addr, User: "alice", Password: "guess", Extra: []string{"/sec:nla"}})
	if err := wrong.Wait(o.ctx); err == nil || o.ctx.Err() != nil {
		t.Errorf("the client with the wrong password ended with %v", err)
	}
	screen := testlab.StartDisplay(t)
	right := testlab.XFreeRDP(t, screen, testlab.ClientOptions{Addr: o.addr, User: "alice", Password: "secret", Extra: []string{"/sec:nla"}})
	if _, err := screen.WaitText(o.ctx, "HOST nla1"); err != nil {
		t.Errorf("%v\nclient: %s\nserver: %s", err, right.Output(), s.Output())
	}
	if len(o.events(audit.Evicting)) > 0 {
		t.Error("somebody was to be logged off")
	}
}

// TestNmapSeesTheHost: what nmap finds out through the broker is what it finds
// out from the host itself.
func TestNmapSeesTheHost(t *testing.T) {
	t.Parallel()
	testlab.Require(t, "nmap")
	o, s := openNLA(t)
	for _, script := range []string{"rdp-enum-encryption", "rdp-ntlm-info"} {
		direct, through := nmap(t, o.ctx, script, s.Addr), nmap(t, o.ctx, script, o.addr)
		if direct != through {
			t.Errorf("%s directly:\n%s\nthrough the broker:\n%s", script, direct, through)
		}
		if !strings.Contains(direct, "|") {
			t.Errorf("%s found out nothing: %s", script, direct)
		}
	}
}

var (
	portLine = regexp.MustCompile(`(?m)^(PORT +STATE|\d+/tcp).*$`)
	clock    = regexp.MustCompile(`(?m)^.*(System_Time|Starting Nmap|Nmap done|Nmap scan report|Host is up).*\n`)
)

// nmap runs a script against addr and returns its findings, without what differs
// from run to run.
func nmap(t *testing.T, ctx context.Context, script, addr string) string {
	t.Helper()
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	// -sT -Pn and a version hint: the scripts choose ports by service name.
	cmd := exec.CommandContext(ctx, "nmap", "-n", "-Pn", "-sT", "-p", port, "--script", "+"+script, host)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("nmap: %v\n%s", err, out)
	}
	return portLine.ReplaceAllString(clock.ReplaceAllString(string(out), ""), "PORT")
}
