package soak

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rdpbroker/rdpbroker/sessions"
	"github.com/rdpbroker/rdpbroker/sessions/simhost"
)

// farmVariable makes this test binary play a farm of hosts in place of testing.
const farmVariable = "RDPBROKER_SOAK_FARM"

func TestMain(m *testing.M) {
	if text := os.Getenv(farmVariable); text != "" {
		if err := playFarm(text, os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	if text := os.Getenv(stormVariable); text != "" {
		if err := playStorm(text, os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// farmOrder is what kind of farm is wanted.
type farmOrder struct {
	Hosts, Sessions int
	// Changes is how many sessions of the whole farm are connected or disconnected
	// per second.
	Changes int
}

// farmAnswer is the first line of what a farm prints.
type farmAnswer struct {
	Addrs []string // of WinRM
	CA    []byte
}

// markPrefix begins the client name of each change. The rest is when it was made,
// in nanoseconds since 1970.
const markPrefix = "at-"

// farmHost is a host that can be switched off and on.
type farmHost struct {
	name string
	addr string
	stop context.CancelFunc
	done chan struct{}

	mu    sync.Mutex
	model *simhost.Model
	on    *simhost.Attachment
}

// playFarm runs hosts until in ends. Lines of in are "off HOST" and "on HOST";
// each is answered with a line when it is done.
func playFarm(order string, in io.Reader, out io.Writer) error {
	var o farmOrder
	if err := json.Unmarshal([]byte(order), &o); err != nil {
		return err
	}
	secure, err := simhost.SelfSigned(time.Now(), "farm.example")
	if err != nil {
		return err
	}
	answer := farmAnswer{CA: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: secure.Certificates[0].Certificate[0]})}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	hosts := make([]*farmHost, o.Hosts)
	for i := range hosts {
		hosts[i] = &farmHost{name: fmt.Sprintf("ts%04d", i), addr: "127.0.0.1:0"}
		if err := hosts[i].start(ctx, o.Sessions, secure); err != nil {
			return err
		}
		answer.Addrs = append(answer.Addrs, hosts[i].addr)
	}
	if err := json.NewEncoder(out).Encode(answer); err != nil {
		return err
	}
	go churn(ctx, hosts, o.Changes)
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		verb, number, _ := strings.Cut(lines.Text(), " ")
		i, err := strconv.Atoi(number)
		if err != nil {
			return err
		}
		switch verb {
		case "off":
			hosts[i].stop()
			<-hosts[i].done
		case "on":
			if err := hosts[i].start(ctx, o.Sessions, secure); err != nil {
				return err
			}
		}
		fmt.Fprintln(out, verb, i)
	}
	return lines.Err()
}

// start runs a host at its address, from now on the same.
func (h *farmHost) start(ctx context.Context, users int, secure *tls.Config) error {
	sim, err := simhost.New(simhost.Config{
		Name: h.name, Domain: domain,
		Options: simhost.Options{Slots: users + 2, CountDisconnected: true},
		RDP:     simhost.RDP{TLS: secure}, // not served
		WinRM:   simhost.WinRM{Managers: []simhost.Manager{{Account: sessions.Account{Domain: domain, User: manager}, Password: managerPassword}}, TLS: secure},
	})
	if err != nil {
		return err
	}
	for i := range users {
		seed := simhost.Seed{Account: sessions.Account{Domain: domain, User: fmt.Sprintf("%s-user%02d", h.name, i)}, LogonAgo: 9 * time.Hour, ClientName: "PC"}
		if i%2 == 0 {
			seed.State = sessions.StateActive
		} else {
			seed.DisconnectedAgo = time.Duration(i) * time.Minute
		}
		if err := sim.Model().Seed(seed); err != nil {
			return err
		}
	}
	ln, err := net.Listen("tcp", h.addr)
	if err != nil {
		return err
	}
	h.addr = ln.Addr().String()
	ctx, h.stop = context.WithCancel(ctx)
	h.done = make(chan struct{})
	h.mu.Lock()
	h.model, h.on = sim.Model(), nil
	h.mu.Unlock()
	go func() {
		defer close(h.done)
		_ = sim.Run(ctx, nil, ln)
	}()
	return nil
}

// churn connects and disconnects sessions all over the farm.
func churn(ctx context.Context, hosts []*farmHost, perSecond int) {
	tick := time.NewTicker(time.Second / time.Duration(perSecond))
	defer tick.Stop()
	for ctx.Err() == nil {
		<-tick.C
		h := hosts[rand.IntN(len(hosts))]
		h.mu.Lock()
		if h.on != nil {
			h.on.Disconnect() // and connect again at another time
			h.on = nil
		} else if a, err := h.model.Logon(sessions.Account{Domain: domain, User: "walker"}, markPrefix+strconv.FormatInt(time.Now().UnixNano(), 10), netip.Addr{}, ""); err == nil {
			h.on = a
		}
		h.mu.Unlock()
	}
}

// farm is a farm in a process of its own.
type farm struct {
	farmAnswer
	cmd   *exec.Cmd
	in    io.WriteCloser
	lines *bufio.Scanner
}

func startFarm(t *testing.T, o farmOrder) *farm {
	t.Helper()
	order, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	f := &farm{cmd: exec.Command(os.Args[0])}
	f.cmd.Env = append(os.Environ(), farmVariable+"="+string(order), "GOMEMLIMIT=off") // a limit is meant for the broker
	f.cmd.Stderr = os.Stderr
	if f.in, err = f.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := f.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := f.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		f.in.Close()
		if err := f.cmd.Wait(); err != nil {
			t.Errorf("the farm: %v", err)
		}
	})
	f.lines = bufio.NewScanner(out)
	f.lines.Buffer(nil, 1<<20)
	if !f.lines.Scan() {
		t.Fatalf("the farm says nothing: %v", f.lines.Err())
	}
	if err := json.Unmarshal(f.lines.Bytes(), &f.farmAnswer); err != nil {
		t.Fatal(err)
	}
	return f
}

// order has something done and waits until it is.
func (f *farm) order(t *testing.T, verb string, host int) {
	t.Helper()
	fmt.Fprintln(f.in, verb, host)
	if !f.lines.Scan() {
		t.Fatalf("the farm is gone: %v", f.lines.Err())
	}
}
