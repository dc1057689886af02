package bench

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"syscall"
	"time"

	"github.com/rdpbroker/rdpbroker/rdpproxy/loadgen"
	"github.com/rdpbroker/rdpbroker/sessions"
	"github.com/rdpbroker/rdpbroker/sessions/simhost"
)

// The people and the hosts.
const (
	hostCount    = 10
	usersPerHost = 200 // who have a disconnected session there
	newUsers     = 200 // who have none, and make every newEvery-th connection
	newEvery     = 10

	domain          = "CONTOSO"
	serverName      = "farm.example"
	managerPassword = "manager's password"
)

var manager = sessions.Account{Domain: domain, User: "svc-broker"}

// user is whose connection n is. No name has nine characters: it could be cut then.
func user(n int) string {
	if n%newEvery == 0 {
		return fmt.Sprintf("new%05d", n/newEvery%newUsers)
	}
	return homeUser(n % (hostCount * usersPerHost))
}

func homeUser(n int) string { return fmt.Sprintf("user%04d", n) }

// farm are the hosts: their RDP side in one process, their WinRM side in another.
type farm struct {
	hosts []netip.AddrPort
	winrm []string
	ca    []byte
	parts []*exec.Cmd
}

// The parts of a farm, as PlayPart is told.
const (
	partRDP   = "rdp-hosts"
	partWinRM = "winrm-hosts"
)

func rdpAddrs() (addrs []netip.AddrPort) {
	for i := range hostCount {
		addrs = append(addrs, netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 1, byte(1 + i)}), 13389))
	}
	return addrs
}

// startFarm runs both parts.
func startFarm() (*farm, error) {
	f := &farm{hosts: rdpAddrs()}
	var hosts, managed answer
	if err := errors.Join(f.start(partRDP, &hosts), f.start(partWinRM, &managed)); err != nil {
		f.stop()
		return nil, err
	}
	f.winrm, f.ca = managed.WinRM, managed.CA
	return f, nil
}

// start runs this program as a part, which prints its answer when it is ready and
// ends with its standard input.
func (f *farm) start(part string, a *answer) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.Command(self, part)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	f.parts = append(f.parts, cmd)
	if err := json.NewDecoder(out).Decode(a); err != nil {
		return fmt.Errorf("%s: %w", part, err)
	}
	return nil
}

func (f *farm) stop() {
	for _, c := range f.parts {
		_ = c.Process.Kill()
		_ = c.Wait()
	}
}

// answer is what a part prints when it is ready.
type answer struct {
	WinRM []string `json:"winrm,omitempty"`
	CA    []byte   `json:"ca,omitempty"`
}

// PlayPart runs a part of the farm until the process ends; ok is false if there is
// no such part.
func PlayPart(part string, out io.Writer) (ok bool, err error) {
	switch part {
	case partRDP:
		return true, loadgen.ServeHosts(rdpAddrs(), func() { _ = json.NewEncoder(out).Encode(answer{}) })
	case partWinRM:
		return true, playWinRM(out)
	}
	return false, nil
}

// playWinRM runs the management side of simulated Windows hosts, each with the
// disconnected sessions of its users.
func playWinRM(out io.Writer) error {
	secure, err := simhost.SelfSigned(time.Now(), serverName)
	if err != nil {
		return err
	}
	a := answer{CA: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: secure.Certificates[0].Certificate[0]})}
	ended := make(chan error, hostCount)
	for i := range hostCount {
		h, err := simhost.New(simhost.Config{
			Name: fmt.Sprintf("ts%d", i), Domain: domain,
			Options: simhost.Options{Slots: 2 * usersPerHost, CountDisconnected: true},
			RDP:     simhost.RDP{TLS: secure}, // not served
			WinRM:   simhost.WinRM{Managers: []simhost.Manager{{Account: manager, Password: managerPassword}}, TLS: secure},
		})
		if err != nil {
			return err
		}
		for n := range usersPerHost {
			err := h.Model().Seed(simhost.Seed{
				Account:  sessions.Account{Domain: domain, User: homeUser(n*hostCount + i)},
				LogonAgo: 24 * time.Hour, DisconnectedAgo: time.Duration(n) * time.Minute, ClientName: "PC",
			})
			if err != nil {
				return err
			}
		}
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		a.WinRM = append(a.WinRM, ln.Addr().String())
		go func() { ended <- h.Run(context.Background(), nil, ln) }()
	}
	if err := json.NewEncoder(out).Encode(a); err != nil {
		return err
	}
	return <-ended
}
