package rdpproxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/rdpbroker/rdpbroker/rdpproxy/x224"
)

// ways are how a proxy can serve. Every test runs in each.
var ways = []struct {
	name     string
	portable bool // Config.Portable
	prompt   bool // the router answers at once where it can
}{
	{name: "loops", prompt: true}, {name: "loops, and a router that always takes its time"}, {name: "goroutines", portable: true},
}

// way is the index of the way of now.
var way int

type everyWay struct{ *testing.M }

func (m everyWay) Run() (code int) {
	for way = range ways {
		fmt.Println("served by", ways[way].name)
		code = max(code, m.M.Run())
	}
	return code
}

func TestMain(m *testing.M) { goleak.VerifyTestMain(everyWay{m}) }

// prompt is a router that answers at once if it can: if its Route does with a context
// that ended for errNotNow.
type prompt struct{ Router }

var errNotNow = errors.New("this has to wait")

func (p prompt) RouteNow(req Request) (Route, bool) {
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(errNotNow)
	rt, err := p.Route(ctx, req)
	return rt, err == nil
}

// patience is how long anything may take before it counts as hung.
const patience = 20 * time.Second

// routerFunc is a Router.
type routerFunc func(ctx context.Context, req Request) (Route, error)

func (f routerFunc) Route(ctx context.Context, req Request) (Route, error) { return f(ctx, req) }

// bench is a proxy under test and all that it said.
type bench struct {
	*Proxy
	addr   string // of its listener
	counts *counts
	log    *observer.ObservedLogs
	stop   context.CancelFunc // ends Serve, as the first signal does
	served chan error
}

// newBench starts a proxy on a loopback port. It is shut down, and must be
// empty, when the test ends.
func newBench(t *testing.T, cfg Config, r Router) *bench {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	core, logs := observer.New(zap.DebugLevel)
	b := &bench{addr: ln.Addr().String(), counts: newCounts(), log: logs, served: make(chan error, 1)}
	cfg.Portable = ways[way].portable
	if ways[way].prompt && r != nil {
		r = prompt{r}
	}
	b.Proxy = New(cfg, r, b.counts.observer(), zap.New(core))
	ctx, cancel := context.WithCancel(context.Background())
	b.stop = cancel
	go func() { b.served <- b.Serve(ctx, ln) }()
	t.Cleanup(func() {
		cancel()
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		_ = b.Shutdown(cut(ctx))
		b.checkEmpty(t)
	})
	return b
}

// cut is ctx, ended.
func cut(ctx context.Context) context.Context {
	ctx, cancel := context.WithCancel(ctx)
	cancel()
	return ctx
}

// checkEmpty checks that nothing is counted any more: no place leaks.
func (b *bench) checkEmpty(t *testing.T) {
	t.Helper()
	l := &b.limits
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open != 0 || l.pending.Len() != 0 || len(l.clients) != 0 {
		t.Errorf("%d open, %d pending, %d clients are still counted", l.open, l.pending.Len(), len(l.clients))
	}
	b.dials.mu.Lock()
	defer b.dials.mu.Unlock()
	if len(b.dials.gates) != 0 {
		t.Errorf("%d dials are still in flight", len(b.dials.gates))
	}
	c := b.counts
	c.mu.Lock()
	defer c.mu.Unlock()
	refused := 0
	for _, n := range c.refused {
		refused += n
	}
	if c.accepted != refused+c.opened || c.opened != c.closed {
		t.Errorf("%d accepted, but %d refused %v, %d opened, %d closed", c.accepted, refused, c.refused, c.opened, c.closed)
	}
}

// dial connects to the proxy from a loopback address, "" for any.
func (b *bench) dial(t testing.TB, from string) net.Conn {
	t.Helper()
	d := net.Dialer{Timeout: patience}
	if from != "" {
		d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(from)}
	}
	c, err := d.Dial("tcp", b.addr)
	if err != nil {
		t.Fatal(err)
	}
	_ = c.SetDeadline(time.Now().Add(patience))
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// counts is an Observer that counts.
type counts struct {
	mu                       sync.Mutex
	accepted, opened, closed int
	refused                  map[string]int
	dialFailed               map[string]int
	outcomes                 []Outcome
	changed                  chan struct{} // closed and replaced at every change
}

func newCounts() *counts {
	return &counts{refused: map[string]int{}, dialFailed: map[string]int{}, changed: make(chan struct{})}
}

func (c *counts) observer() Observer {
	return Observer{
		Accepted:   func(string) { c.note(func() { c.accepted++ }) },
		Refused:    func(_, kind string) { c.note(func() { c.refused[kind]++ }) },
		Opened:     func(string, string, netip.AddrPort) { c.note(func() { c.opened++ }) },
		Closed:     func(_, _ string, o Outcome) { c.note(func() { c.closed++; c.outcomes = append(c.outcomes, o) }) },
		DialFailed: func(host string) { c.note(func() { c.dialFailed[host]++ }) },
	}
}

func (c *counts) note(change func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change()
	close(c.changed)
	c.changed = make(chan struct{})
}

// until waits until the counts satisfy a condition.
func (c *counts) until(t *testing.T, what string, ok func(c *counts) bool) {
	t.Helper()
	late := time.After(patience)
	for {
		c.mu.Lock()
		done, changed := ok(c), c.changed
		c.mu.Unlock()
		if done {
			return
		}
		select {
		case <-changed:
		case <-late:
			c.mu.Lock()
			defer c.mu.Unlock()
			t.Fatalf("%s: %d accepted, refused %v, %d opened, %d closed", what, c.accepted, c.refused, c.opened, c.closed)
		}
	}
}

func (c *counts) untilRefused(t *testing.T, kind string, n int) {
	t.Helper()
	c.until(t, fmt.Sprintf("waiting for %d refused as %s", n, kind), func(c *counts) bool { return c.refused[kind] >= n })
}

func (c *counts) untilClosed(t *testing.T, n int) {
	t.Helper()
	c.until(t, fmt.Sprintf("waiting for %d closed", n), func(c *counts) bool { return c.closed >= n })
}

// untilLogged waits for a number of lines with a message.
func (b *bench) untilLogged(t *testing.T, message string, n int) []observer.LoggedEntry {
	t.Helper()
	for late := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		if lines := b.log.FilterMessage(message).All(); len(lines) >= n {
			return lines
		} else if time.Now().After(late) {
			t.Fatalf("%d lines %q of %d; all: %v", len(lines), message, n, b.log.All())
		}
	}
}

// fakeHost is an RDP host as far as bytes go: it answers a request with a
// Connection Confirm, and what comes then it sends back.
type fakeHost struct {
	addr     string
	requests chan []byte // every request as it came
}

var confirm = (&x224.Confirm{Negotiated: true, Flags: 0x1f, Value: 8, SrcRef: 0x1234}).Append(nil)

// startHost starts a fake host. handle may replace what it does with a connection.
func startHost(t *testing.T, handle func(c net.Conn)) *fakeHost {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := &fakeHost{addr: ln.Addr().String(), requests: make(chan []byte, 1000)}
	if handle == nil {
		handle = h.echo
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	var conns []net.Conn
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			_ = c.SetDeadline(time.Now().Add(patience))
			mu.Lock()
			conns = append(conns, c)
			mu.Unlock()
			wg.Go(func() {
				defer c.Close()
				handle(c)
			})
		}
	})
	t.Cleanup(func() {
		_ = ln.Close()
		mu.Lock()
		for _, c := range conns {
			_ = c.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
	return h
}

func (h *fakeHost) echo(c net.Conn) {
	request, err := x224.ReadTPKT(c, x224.MaxPacket)
	if err != nil {
		return
	}
	h.requests <- request
	if _, err := c.Write(confirm); err != nil {
		return
	}
	_, _ = io.Copy(c, c)
	_ = c.(*net.TCPConn).CloseWrite()
}

// to routes every request to h.
func (h *fakeHost) to() Router {
	return routerFunc(func(context.Context, Request) (Route, error) { return h.route(), nil })
}

func (h *fakeHost) route() Route {
	return Route{Host: "fake", Addr: h.addr, Why: "test", Held: DoneFunc(func(Outcome) {})}
}

// said is what exchange sends behind the answer.
var said = []byte("\x16\x03\x01 and so on")

// cookie is a usual request.
func cookie(name string) []byte {
	return (&x224.Request{Cookie: name, HasCookie: true, Negotiation: &x224.Negotiation{Protocols: 0x0b}}).Append(nil)
}

// exchange sends a request through a proxy and a few bytes behind the answer,
// and checks that both come back.
func exchange(c net.Conn, request []byte) error {
	if _, err := c.Write(request); err != nil {
		return fmt.Errorf("sending the request: %w", err)
	}
	answer := make([]byte, len(confirm))
	if _, err := io.ReadFull(c, answer); err != nil {
		return fmt.Errorf("reading the answer: %w", err)
	}
	if !bytes.Equal(answer, confirm) {
		return fmt.Errorf("answer %x", answer)
	}
	if _, err := c.Write(said); err != nil {
		return fmt.Errorf("going on: %w", err)
	}
	heard := make([]byte, len(said))
	if _, err := io.ReadFull(c, heard); err != nil {
		return fmt.Errorf("reading on: %w", err)
	}
	if !bytes.Equal(said, heard) {
		return errors.New("the echo is wrong")
	}
	return nil
}

// closedByPeer reads until the end and fails if there is anything but the end.
func closedByPeer(t *testing.T, c net.Conn) {
	t.Helper()
	b, err := io.ReadAll(c)
	if len(b) > 0 || isTimeout(err) {
		t.Errorf("the proxy sent %q, %v; want the end", b, err)
	}
}
