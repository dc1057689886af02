package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rdpbroker/rdpbroker/rdpproxy/x224"
	"github.com/rdpbroker/rdpbroker/sessions"
	"github.com/rdpbroker/rdpbroker/sessions/simhost"
)

// site is a folder with a broker.yaml for simulated Windows hosts that run.
type site struct {
	t    *testing.T
	ctx  context.Context
	dir  string
	keys string // more keys at the top level, a line each
	// hosts are their blocks in the file.
	hosts []string
}

const siteManager, sitePassword = `CONTOSO\svc-rdpbroker`, "management"

func newSite(t *testing.T, hosts ...string) *site {
	t.Helper()
	s := &site{t: t, ctx: deadline(t, aMinute), dir: t.TempDir()}
	s.write("password", sitePassword)
	for _, name := range hosts {
		s.addHost(name)
	}
	s.save()
	return s
}

// addHost starts one more host with nine slots. It is in the file once that is saved.
func (s *site) addHost(name string) {
	s.t.Helper()
	tls, err := simhost.SelfSigned(time.Now(), name, "127.0.0.1")
	if err != nil {
		s.t.Fatal(err)
	}
	host, err := simhost.New(simhost.Config{Name: name, Domain: "CONTOSO", Options: simhost.Options{Slots: 9, CountDisconnected: true}, WinRM: simhost.WinRM{
		Managers: []simhost.Manager{{Account: sessions.ParseAccount(siteManager), Password: sitePassword}}, TLS: tls,
	}})
	if err != nil {
		s.t.Fatal(err)
	}
	var lns [2]net.Listener
	for i := range lns {
		if lns[i], err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			s.t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- host.Run(ctx, lns[0], lns[1]) }()
	s.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			s.t.Error(err)
		}
	})
	s.write(name+".pem", certificatePEM(tls))
	s.hosts = append(s.hosts, fmt.Sprintf("{name: %s, address: '%s', slots: 9, winrm: {address: 'https://%s', user: '%s', password_file: password, ca_file: %s.pem, poll: 1s}}",
		name, lns[0].Addr(), lns[1].Addr(), siteManager, name))
}

func (s *site) path(name string) string { return filepath.Join(s.dir, name) }

func (s *site) write(name, text string) {
	s.t.Helper()
	if err := os.WriteFile(s.path(name), []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

// save writes broker.yaml as it is now meant to be.
func (s *site) save() {
	s.t.Helper()
	s.write("broker.yaml", fmt.Sprintf("%slisten: [{address: '127.0.0.1:0', farm: office}]\nadmin: {socket: admin.sock, metrics: '127.0.0.1:0'}\naudit: {file: audit.jsonl}\nstate_file: state.json\nfarms:\n  office:\n    hosts:\n      - %s\n",
		s.keys, strings.Join(s.hosts, "\n      - ")))
}

// serve runs the broker on the file and returns where clients connect.
func (s *site) serve() (r *running, addr string) {
	s.t.Helper()
	r = start(s.t, "rdpbroker", "serve", "-c", s.path("broker.yaml"))
	addr = r.waitPrinted(s.ctx, `"msg":"listening","address":"([^"]+)"`)[1]
	s.until("every host is read", func() bool { return s.read() == len(s.hosts) })
	return r, addr
}

// read is how many hosts the running broker has read.
func (s *site) read() (n int) {
	out, code := call(s.t, "rdpbroker", "hosts", "--json", "-c", s.path("broker.yaml"))
	if code != 0 {
		return 0
	}
	// Warnings about the file would stand in front.
	var answer struct{ Hosts []struct{ State string } }
	if err := json.Unmarshal([]byte(out[max(0, strings.Index(out, "{\n")):]), &answer); err != nil {
		s.t.Fatalf("%v in %s", err, out)
	}
	for _, h := range answer.Hosts {
		if h.State == "up" {
			n++
		}
	}
	return n
}

func (s *site) until(what string, ok func() bool) {
	s.t.Helper()
	for !ok() {
		select {
		case <-s.ctx.Done():
			s.t.Fatalf("waiting until %s: %v", what, s.ctx.Err())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// request connects as user and sends the first packet.
func request(t *testing.T, addr, user string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	ask(t, c, user)
	return c
}

// ask sends the first packet as user over c.
func ask(t *testing.T, c net.Conn, user string) {
	t.Helper()
	_ = c.SetDeadline(time.Now().Add(aMinute))
	r := x224.Request{Cookie: user, HasCookie: true, Negotiation: &x224.Negotiation{Protocols: x224.ProtocolSSL}}
	if _, err := c.Write(r.Append(nil)); err != nil {
		t.Fatal(err)
	}
}

// admitted connects as user and waits for the host's answer.
func admitted(t *testing.T, addr, user string) net.Conn {
	t.Helper()
	c := request(t, addr, user)
	if _, err := x224.ReadTPKT(c, x224.MaxPacket); err != nil {
		t.Fatalf("%s: %v", user, err)
	}
	return c
}

// TestServe is the life of a broker: start, reloads good and bad, and the end.
func TestServe(t *testing.T) {
	t.Parallel()
	s := newSite(t, "ts1")
	broker, addr := s.serve()
	admitted(t, addr, "alice").Close()

	hangUp := func() {
		t.Helper()
		if err := broker.cmd.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
	}
	metrics := func() string {
		// The address is chosen anew at each start; the socket has them all.
		return s.socket("/metrics")
	}

	s.addHost("ts2")
	s.save()
	hangUp()
	broker.waitPrinted(s.ctx, `the configuration was reloaded`)
	s.until("the new host is read", func() bool { return s.read() == 2 })

	s.write("broker.yaml", "listen: [")
	hangUp()
	said := broker.waitPrinted(s.ctx, `"level":"error".*the configuration was NOT reloaded.*`)[0]
	if !strings.Contains(said, "broker.yaml:1:") {
		t.Errorf("it does not say where: %s", said)
	}
	s.until("the metrics say so", func() bool { return strings.Contains(metrics(), "rdpbroker_config_last_reload_successful 0") })
	admitted(t, addr, "bob").Close()

	if err := os.Rename(s.path("audit.jsonl"), s.path("audit.jsonl.1")); err != nil {
		t.Fatal(err)
	}
	s.keys = "log: {level: debug}\n"
	s.save()
	hangUp()
	broker.waitPrinted(s.ctx, `a changed key needs a restart to take effect","key":"log"`)
	s.until("the metrics say so", func() bool { return strings.Contains(metrics(), "rdpbroker_config_last_reload_successful 1") })
	admitted(t, addr, "carol").Close()
	s.until("the new audit file has carol", func() bool {
		text, err := os.ReadFile(s.path("audit.jsonl"))
		return err == nil && strings.Contains(string(text), `"said":"carol"`)
	})

	if err := broker.end(s.ctx, syscall.SIGTERM); err != nil {
		t.Errorf("after SIGTERM it ended with %v", err)
	}
	if _, err := os.Lstat(s.path("admin.sock")); !os.IsNotExist(err) {
		t.Errorf("the admin socket is still there: %v", err)
	}
	old, err := os.ReadFile(s.path("audit.jsonl.1"))
	if err != nil || !strings.Contains(string(old), `"said":"bob"`) || strings.Contains(string(old), `"said":"carol"`) {
		t.Errorf("the old audit file: %v, %s", err, old)
	}
	if strings.Contains(broker.output(), "panic") {
		t.Error("it panicked")
	}
}

// socket asks the running broker over its admin socket.
func (s *site) socket(path string) string {
	s.t.Helper()
	c, err := net.Dial("unix", s.path("admin.sock"))
	if err != nil {
		s.t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(aMinute))
	fmt.Fprintf(c, "GET %s HTTP/1.0\r\n\r\n", path)
	b, err := io.ReadAll(c)
	if err != nil {
		s.t.Fatal(err)
	}
	return string(b)
}

// TestTwoBrokersOnOneSocket: the second one refuses and says why, and does the
// first one no harm. One that was killed leaves nothing that hinders the next.
func TestTwoBrokersOnOneSocket(t *testing.T) {
	t.Parallel()
	s := newSite(t, "ts1")
	first, addr := s.serve()
	out, code := call(t, "rdpbroker", "serve", "-c", s.path("broker.yaml"))
	if code != 1 || !strings.Contains(out, "rdpbroker: admin.socket: listening on "+s.path("admin.sock")+": another program answers there already") {
		t.Errorf("the second one ended with %d:\n%s", code, out)
	}
	if s.read() != 1 {
		t.Error("the first one does not answer any more")
	}
	admitted(t, addr, "alice").Close()

	if err := first.end(s.ctx, syscall.SIGKILL); err == nil {
		t.Error("it survived")
	}
	third, addr := s.serve()
	admitted(t, addr, "alice").Close()
	if err := third.end(s.ctx, syscall.SIGTERM); err != nil {
		t.Errorf("after SIGTERM it ended with %v", err)
	}
}

// TestPortInUse: the error names the key, and the exit code is that of a failure.
func TestPortInUse(t *testing.T) {
	t.Parallel()
	s := newSite(t, "ts1")
	_, addr := s.serve()
	text, err := os.ReadFile(s.path("broker.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	s.write("other.yaml", strings.NewReplacer("'127.0.0.1:0', farm", "'"+addr+"', farm", "admin.sock", "other.sock").Replace(string(text)))
	out, code := call(t, "rdpbroker", "serve", "-c", s.path("other.yaml"))
	if code != 1 || !strings.Contains(out, "rdpbroker: listen[0].address: listen tcp "+addr+": bind: address already in use") {
		t.Errorf("it ended with %d:\n%s", code, out)
	}
}

// TestTwoSignals: with the first one an open connection goes on, with the second
// it ends, and both are an orderly end.
func TestTwoSignals(t *testing.T) {
	t.Parallel()
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		s := newSite(t, "ts1")
		broker, addr := s.serve()
		alice := admitted(t, addr, "alice")
		if err := broker.cmd.Process.Signal(signal); err != nil {
			t.Fatal(err)
		}
		broker.waitPrinted(s.ctx, "stopping: no new connections")
		s.until("nobody accepts any more", func() bool {
			c, err := net.Dial("tcp", addr)
			if err == nil {
				c.Close()
			}
			return err != nil
		})
		if s.read() != 1 { // operators can still ask
			t.Error("it does not answer any more")
		}
		select {
		case <-broker.done:
			t.Fatalf("it has ended with an open connection: %v", broker.err)
		default:
		}
		if err := broker.end(s.ctx, signal); err != nil {
			t.Errorf("after two times %v it ended with %v", signal, err)
		}
		if _, err := alice.Read(make([]byte, 1)); err == nil {
			t.Error("the connection is still there")
		}
	}
}

// TestFewDescriptors: when the system gives no more descriptors the broker waits
// until it does, instead of ending or spinning.
func TestFewDescriptors(t *testing.T) {
	t.Parallel()
	s := newSite(t, "ts1")
	s.keys = "limits: {pending_per_client: 1000, per_client: 1000, first_packet: 5m}\n"
	s.save()
	broker := startCommand(t, exec.Command("/bin/sh", "-c", `ulimit -n 40; exec "$0" serve -c "$1"`, program(t, "rdpbroker"), s.path("broker.yaml")))
	addr := broker.waitPrinted(s.ctx, `"msg":"listening","address":"([^"]+)"`)[1]
	s.until("the host is read", func() bool { return s.read() == 1 })

	var crowd []net.Conn
	for range 100 { // beyond 40 they wait in the backlog
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		crowd = append(crowd, c)
	}
	broker.waitPrinted(s.ctx, `"msg":"cannot accept".*too many open files`)
	for _, c := range crowd {
		c.Close()
	}
	admitted(t, addr, "alice").Close()
	if n := strings.Count(broker.output(), "cannot accept"); n > 1000 {
		t.Errorf("it tried %d times", n)
	}
	if err := broker.end(s.ctx, syscall.SIGTERM); err != nil {
		t.Errorf("it ended with %v", err)
	}
}
