package e2e

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/rdpbroker/rdpbroker/rdpproxy/x224"
)

// crowd are many clients that never stop sending, and check every byte that comes back.
type crowd struct {
	rounds []atomic.Int64 // of each client
	stop   chan struct{}
	wg     sync.WaitGroup
	errs   chan error
}

// newCrowd connects n clients to addr, each with a user of its own, and has them go on.
func newCrowd(t *testing.T, addr string, n int) *crowd {
	t.Helper()
	c := &crowd{rounds: make([]atomic.Int64, n), stop: make(chan struct{}), errs: make(chan error, n)}
	connecting := make(chan struct{}, 64)
	for i := range n {
		connecting <- struct{}{}
		c.wg.Go(func() {
			conn, err := connectAs(addr, fmt.Sprintf("user%05d", i))
			<-connecting
			if err != nil {
				c.errs <- fmt.Errorf("client %d: %w", i, err)
				return
			}
			defer conn.Close()
			if err := c.talk(conn, i); err != nil {
				c.errs <- fmt.Errorf("client %d, after %d rounds: %w", i, c.rounds[i].Load(), err)
			}
		})
	}
	c.everybody(t, "is connected", 1)
	return c
}

func connectAs(addr, user string) (net.Conn, error) {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	_ = c.SetDeadline(time.Now().Add(3 * aMinute))
	r := x224.Request{Cookie: user, HasCookie: true, Negotiation: &x224.Negotiation{Protocols: x224.ProtocolSSL}}
	if _, err := c.Write(r.Append(nil)); err != nil {
		return nil, err
	}
	_, err = x224.ReadTPKT(c, x224.MaxPacket)
	return c, err
}

// talk sends pieces of random size and wants the same bytes back, until stop.
func (c *crowd) talk(conn net.Conn, i int) error {
	rng := rand.New(rand.NewPCG(uint64(i), 9))
	sent, got := sha256.New(), sha256.New()
	piece := make([]byte, 4<<10)
	for {
		select {
		case <-c.stop:
			if !bytes.Equal(sent.Sum(nil), got.Sum(nil)) {
				return fmt.Errorf("the hashes differ")
			}
			return nil
		default:
		}
		b := piece[:1+rng.IntN(len(piece))]
		for k := range b {
			b[k] = byte(rng.Uint32())
		}
		sent.Write(b)
		if _, err := conn.Write(b); err != nil {
			return err
		}
		if _, err := io.ReadFull(conn, b); err != nil {
			return err
		}
		got.Write(b)
		c.rounds[i].Add(1)
		time.Sleep(time.Duration(rng.IntN(200)) * time.Millisecond)
	}
}

// everybody waits until each client has done n more rounds.
func (c *crowd) everybody(t *testing.T, what string, n int64) {
	t.Helper()
	goal := make([]int64, len(c.rounds))
	for i := range goal {
		goal[i] = c.rounds[i].Load() + n
	}
	for late := time.Now().Add(2 * aMinute); ; time.Sleep(20 * time.Millisecond) {
		missing := 0
		for i := range goal {
			if c.rounds[i].Load() < goal[i] {
				missing++
			}
		}
		if missing == 0 {
			return
		}
		select {
		case err := <-c.errs:
			t.Fatalf("waiting until everybody %s: %v", what, err)
		default:
		}
		if time.Now().After(late) {
			t.Fatalf("waiting until everybody %s: %d of %d are not", what, missing, len(goal))
		}
	}
}

func (c *crowd) end(t *testing.T) {
	t.Helper()
	close(c.stop)
	c.wg.Wait()
	close(c.errs)
	for err := range c.errs {
		t.Error(err)
	}
}

// mirror is an RDP host as far as bytes go: it answers the request, and sends back
// whatever comes then.
func mirror(t *testing.T) (addr string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	confirm := (&x224.Confirm{Negotiated: true, Value: uint32(x224.ProtocolSSL)}).Append(nil)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				_ = c.SetDeadline(time.Now().Add(4 * aMinute))
				if _, err := x224.ReadTPKT(c, x224.MaxPacket); err != nil {
					return
				}
				if _, err := c.Write(confirm); err != nil {
					return
				}
				_, _ = io.Copy(c, c)
			})
		}
	})
	t.Cleanup(func() { ln.Close(); wg.Wait() })
	return ln.Addr().String()
}

// newMirrorSite is a site whose only host has room for a crowd.
func newMirrorSite(t *testing.T) *site {
	t.Helper()
	s := newSite(t, "ts1")
	at := strings.Index(s.hosts[0], "address: '") + len("address: '")
	s.hosts[0] = s.hosts[0][:at] + mirror(t) + s.hosts[0][at+strings.IndexByte(s.hosts[0][at:], '\''):]
	s.hosts[0] = strings.Replace(s.hosts[0], "slots: 9", "slots: 10000", 1)
	s.keys = "limits: {per_client: 20000, pending_per_client: 2000, connections: 20000, dials_per_host: 64}\nidentity: {trusted_clients: [127.0.0.0/8]}\n"
	s.save()
	return s
}

// crowdSize is what CROWD in the environment says, else 500, and less where descriptors
// are short: a connection takes two here and two in the broker.
func crowdSize(t *testing.T) int {
	n := 500
	if s := os.Getenv("CROWD"); s != "" {
		var err error
		if n, err = strconv.Atoi(s); err != nil {
			t.Fatalf("CROWD: %v", err)
		}
	}
	var have syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &have); err != nil {
		t.Fatal(err)
	}
	return min(n, int(have.Max)/3-500)
}

// TestTakeOver starts a second program while the first one carries thousands of
// connections: they go on, reservations too, and the first one ends.
func TestTakeOver(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: thousands of connections")
	}
	s := newMirrorSite(t)
	old, addr := s.serve()
	n := crowdSize(t)
	c := newCrowd(t, addr, n)

	began := time.Now()
	next := start(t, "rdpbroker", "serve", "--take-over", "-c", s.path("broker.yaml"))
	said := next.waitPrinted(s.ctx, `taken over from the process before","connections":(\d+),"lost":(\d+),"reservations":(\d+)`)
	c.everybody(t, "goes on", 2)
	t.Logf("%d connections taken over; everybody went on after %v", n, time.Since(began).Round(time.Millisecond))
	if said[1] != fmt.Sprint(n) || said[2] != "0" || said[3] != fmt.Sprint(n) {
		t.Errorf("of %d connections it says: %s", n, said[0])
	}
	select {
	case <-old.done:
		if old.err != nil {
			t.Errorf("the old program ended with %v", old.err)
		}
	case <-s.ctx.Done():
		t.Error("the old program still runs")
	}
	// The new one serves newcomers at the same address, and back.
	again, err := connectAs(addr, "user00000")
	if err != nil {
		t.Fatal(err)
	}
	again.Close()
	c.everybody(t, "still goes on", 1)
	c.end(t)
	if err := next.end(s.ctx, syscall.SIGTERM); err != nil {
		t.Errorf("the new program ended with %v", err)
	}
}

// TestTakeOverFromNobody: there need not be anybody.
func TestTakeOverFromNobody(t *testing.T) {
	t.Parallel()
	s := newSite(t, "ts1")
	r := start(t, "rdpbroker", "serve", "--take-over", "-c", s.path("broker.yaml"))
	r.waitPrinted(s.ctx, "no broker runs that could be taken over")
	addr := r.waitPrinted(s.ctx, `"msg":"listening","address":"([^"]+)"`)[1]
	s.until("the host is read", func() bool { return s.read() == 1 })
	admitted(t, addr, "alice").Close()
	// SIGUSR2 means something to service managers only.
	if err := r.cmd.Process.Signal(syscall.SIGUSR2); err != nil {
		t.Fatal(err)
	}
	r.waitPrinted(s.ctx, "SIGUSR2 is for service managers")
	admitted(t, addr, "alice").Close()
	if err := r.end(s.ctx, syscall.SIGTERM); err != nil {
		t.Errorf("it ended with %v", err)
	}
}
