package rdpproxy

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/rdpbroker/rdpbroker/rdpproxy/relay"
	"github.com/rdpbroker/rdpbroker/rdpproxy/x224"
)

// openings are all captured first packets of clients that a proxy must take.
func openings(t *testing.T) [][]byte {
	t.Helper()
	f, err := os.Open("x224/testdata/first-packets.tsv")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var all [][]byte
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		columns := strings.Split(lines.Text(), "\t")
		b, err := hex.DecodeString(columns[2])
		if err != nil || columns[1] != "C>S" {
			continue
		}
		if _, err := x224.ReadOpening(bytes.NewReader(b)); err == nil {
			all = append(all, b)
		}
	}
	if lines.Err() != nil || len(all) < 100 {
		t.Fatalf("%d captures, %v", len(all), lines.Err())
	}
	return all
}

// TestForwardsByteForByte sends every captured opening through the proxy: the
// host must get the request as it was, what came behind it, and no blob.
func TestForwardsByteForByte(t *testing.T) {
	type end struct {
		net.Conn
		done chan struct{}
	}
	ends := make(chan end)
	host := startHost(t, func(c net.Conn) {
		e := end{c, make(chan struct{})}
		ends <- e
		<-e.done
	})
	p := newBench(t, Config{AnswerWait: -1}, host.to())
	blobs := 0
	for _, sent := range openings(t) {
		o, err := x224.ReadOpening(bytes.NewReader(sent))
		if err != nil {
			t.Fatal(err)
		}
		want := sent
		if o.Preconnection != nil {
			blobs++
			want = sent[bytes.Index(sent, o.Request.Raw):]
		}
		c := p.dial(t, "")
		if _, err := c.Write(sent); err != nil {
			t.Fatal(err)
		}
		e := <-ends
		b := make([]byte, len(want))
		if n, err := io.ReadFull(e, b); err != nil || !bytes.Equal(b, want) {
			t.Errorf("of %x the host got %x, %v; want %x", sent, b[:n], err, want)
		}
		_ = c.(*net.TCPConn).CloseWrite()
		if b, err := io.ReadAll(e); err != nil || len(b) > 0 {
			t.Errorf("behind it the host got %x, %v", b, err)
		}
		close(e.done)
		closedByPeer(t, c)
	}
	if blobs < 4 {
		t.Errorf("only %d openings with a preconnection blob", blobs)
	}
}

// TestRequestAndOutcome: what the router is told before and after.
func TestRequestAndOutcome(t *testing.T) {
	host := startHost(t, nil)
	var req Request
	done := make(chan Outcome, 2)
	p := newBench(t, Config{Listener: "main"}, routerFunc(func(_ context.Context, r Request) (Route, error) {
		req = r
		return Route{Host: "h1", Addr: host.addr, Why: "own session", Held: DoneFunc(func(o Outcome) { done <- o })}, nil
	}))
	c := p.dial(t, "127.0.0.7")
	if err := exchange(c, cookie("alice")); err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
	out := <-done
	if req.Client.String() != c.LocalAddr().String() || req.Local.String() != p.addr || req.Listener != "main" ||
		req.Opening.Request.Cookie != "alice" || req.Opening.Preconnection != nil {
		t.Errorf("%+v", req)
	}
	sent := int64(len(cookie("alice")) + len("\x16\x03\x01 and so on"))
	if out.DialError != nil || out.Relay.Closer != relay.CloserClient || out.Relay.ToHost != sent ||
		out.Relay.ToClient != sent-int64(len(cookie("alice")))+int64(len(confirm)) || out.Duration <= 0 {
		t.Errorf("%+v", out)
	}
	line := p.untilLogged(t, "connection ended", 1)[0]
	fields := line.ContextMap()
	if line.Level != zap.InfoLevel || fields["identity"] != `mstshash="alice"` || fields["host"] != "h1" ||
		fields["why"] != "own session" || fields["to_host"] != sent || fields["closer"] != "client" ||
		fields["listener"] != "main" || fields["client"] != c.LocalAddr().String() {
		t.Errorf("%v", fields)
	}
	if len(done) != 0 {
		t.Error("Done was called twice")
	}
}

// TestEarlyBytes: a client that does not wait for the host's answer.
func TestEarlyBytes(t *testing.T) {
	host := startHost(t, nil)
	for _, early := range []int{1, 1000, maxEarly, 200000} {
		release := make(chan struct{})
		p := newBench(t, Config{}, routerFunc(func(context.Context, Request) (Route, error) {
			<-release
			return host.route(), nil
		}))
		c := p.dial(t, "")
		said := bytes.Repeat([]byte("x"), early)
		go func() {
			_, _ = c.Write(append(cookie("alice"), said...))
		}()
		time.AfterFunc(3*watchDelay, func() { close(release) }) // the watch has begun by then
		if b := <-host.requests; !bytes.Equal(b, cookie("alice")) {
			t.Errorf("request %x", b)
		}
		heard := make([]byte, len(confirm)+early)
		if _, err := io.ReadFull(c, heard); err != nil || !bytes.Equal(heard[len(confirm):], said) {
			t.Errorf("%d early bytes came back wrong: %v", early, err)
		}
		_ = c.Close()
		p.counts.untilClosed(t, 1)
	}
}

// TestClientLeavesWhileItWaits: its place in the queue is free at once.
func TestClientLeavesWhileItWaits(t *testing.T) {
	host := startHost(t, nil)
	for name, reset := range map[string]bool{"FIN": false, "reset": true} {
		t.Run(name, func(t *testing.T) {
			cause := make(chan error, 1)
			done := make(chan Outcome, 1)
			p := newBench(t, Config{}, routerFunc(func(ctx context.Context, _ Request) (Route, error) {
				<-ctx.Done()
				if context.Cause(ctx) == errNotNow {
					return Route{}, errNotNow
				}
				cause <- context.Cause(ctx)
				rt := host.route() // too late, but it must be released
				rt.Held = DoneFunc(func(o Outcome) { done <- o })
				return rt, nil
			}))
			c := p.dial(t, "").(*net.TCPConn)
			_, _ = c.Write(cookie("alice"))
			if reset {
				_ = c.SetLinger(0)
			}
			_ = c.Close()
			if err := <-cause; !errors.Is(err, errClientLeft) {
				t.Errorf("cause %v", err)
			}
			if o := <-done; o.DialError != nil || o.Relay.Closer != relay.CloserClient {
				t.Errorf("%+v", o)
			}
			p.counts.untilRefused(t, RefusedGone, 1)
			p.untilLogged(t, "the client left", 1)
		})
	}
}

// TestRouterRefuses: the client sees an end and no byte, the operator the reason.
func TestRouterRefuses(t *testing.T) {
	for _, tt := range []struct {
		err     error
		kind    string
		message string
	}{
		{&RefusedError{Reason: "the farm is full"}, RefusedByRouter, "refused"},
		{errors.New("no snapshot yet"), RefusedRouterFailed, "no route"},
	} {
		p := newBench(t, Config{}, routerFunc(func(context.Context, Request) (Route, error) { return Route{}, tt.err }))
		c := p.dial(t, "")
		_, _ = c.Write(cookie("alice"))
		closedByPeer(t, c)
		p.counts.untilRefused(t, tt.kind, 1)
		if got := p.untilLogged(t, tt.message, 1)[0].ContextMap()["error"]; got != tt.err.Error() {
			t.Errorf("logged error %q, want %q", got, tt.err)
		}
	}
}

// TestUnreachableHost: one replacement, then the end; Done each time.
func TestUnreachableHost(t *testing.T) {
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = closed.Close()
	host := startHost(t, nil)

	for _, tt := range []struct {
		name  string
		addrs []string
		ok    bool
	}{
		{"the second answers", []string{closed.Addr().String(), host.addr}, true},
		{"none answers", []string{closed.Addr().String(), closed.Addr().String()}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var mu sync.Mutex
			asked, failed, ended := 0, 0, 0
			p := newBench(t, Config{}, routerFunc(func(context.Context, Request) (Route, error) {
				mu.Lock()
				defer mu.Unlock()
				if asked != failed+ended {
					t.Error("asked again before Done")
				}
				addr := tt.addrs[asked]
				asked++
				return Route{Host: "h", Addr: addr, Held: DoneFunc(func(o Outcome) {
					mu.Lock()
					defer mu.Unlock()
					if o.DialError != nil {
						failed++
					} else {
						ended++
					}
				})}, nil
			}))
			c := p.dial(t, "")
			if err := exchange(c, cookie("alice")); (err == nil) != tt.ok {
				t.Error(err)
			}
			_ = c.Close()
			if tt.ok {
				p.untilLogged(t, "connection ended", 1)
			} else {
				p.untilLogged(t, "no host could be reached", 1)
				p.counts.untilRefused(t, RefusedUnreachable, 1)
			}
			mu.Lock()
			defer mu.Unlock()
			if wantFailed := map[bool]int{true: 1, false: 2}[tt.ok]; asked != 2 || failed != wantFailed || asked != failed+ended {
				t.Errorf("asked %d times, %d failed, %d ended", asked, failed, ended)
			}
			p.counts.mu.Lock()
			defer p.counts.mu.Unlock()
			if p.counts.dialFailed["h"] != failed {
				t.Errorf("%d failed dials counted, want %d", p.counts.dialFailed["h"], failed)
			}
		})
	}
}

// TestHostsThatEndEarly: a host that takes the connection and then drops it was
// reached; it is not replaced, because the request may be what it dislikes.
func TestHostsThatEndEarly(t *testing.T) {
	refusal := []byte{3, 0, 0, 9, 2, 0xf0, 0x80, 0x21, 0x80} // what xrdp says to a request it dislikes
	for name, handle := range map[string]func(c net.Conn){
		"closes at once": func(c net.Conn) {},
		"reads and closes": func(c net.Conn) {
			_, _ = x224.ReadTPKT(c, x224.MaxPacket)
		},
		"resets": func(c net.Conn) {
			_, _ = x224.ReadTPKT(c, x224.MaxPacket)
			_ = c.(*net.TCPConn).SetLinger(0)
		},
		"refuses": func(c net.Conn) {
			_, _ = x224.ReadTPKT(c, x224.MaxPacket)
			_, _ = c.Write(refusal)
		},
	} {
		t.Run(name, func(t *testing.T) {
			host := startHost(t, handle)
			p := newBench(t, Config{}, host.to())
			c := p.dial(t, "")
			_, _ = c.Write(cookie("alice"))
			b, err := io.ReadAll(c)
			if want := map[string]string{"refuses": string(refusal)}[name]; string(b) != want || isTimeout(err) {
				t.Errorf("the client got %x, %v", b, err)
			}
			_ = c.Close()
			p.counts.untilClosed(t, 1)
			p.counts.mu.Lock()
			defer p.counts.mu.Unlock()
			if o := p.counts.outcomes[0]; o.DialError != nil || o.Relay.Closer != relay.CloserHost {
				t.Errorf("%+v", o)
			}
		})
	}
}

// TestLogsAreHarmless: nothing a stranger writes may break a log line, and no
// secret may get into it.
func TestLogsAreHarmless(t *testing.T) {
	for _, tt := range []struct {
		o    x224.Opening
		want string
	}{
		{x224.Opening{Request: &x224.Request{HasCookie: true, Cookie: "a\nb\x00\xff\"é"}}, `mstshash="a\nb\x00\xff\"\u00e9"`},
		{x224.Opening{Request: &x224.Request{HasCookie: true, Cookie: strings.Repeat("x", 300)}}, `mstshash="` + strings.Repeat("x", 64) + `"…`},
		{x224.Opening{Request: &x224.Request{Token: []byte("Cookie: msts=AbCdSecretSecretSecret")}}, `token "Cookie: msts=AbCd"…`},
		{x224.Opening{Request: &x224.Request{Token: []byte("x")}}, `token "x"…`},
		{x224.Opening{Request: &x224.Request{Token: []byte("Cookie: msts=16777343.15629.0000")}}, `msts=127.0.0.1:3389`},
		{x224.Opening{Request: &x224.Request{Token: []byte("tsv://MS Terminal Services Plugin.1.Farm")}}, `token "tsv://MS Terminal Services Plugin.1.Farm"`},
		{x224.Opening{Request: &x224.Request{}, Preconnection: &x224.Preconnection{Payload: "alice\r\n"}}, `preconnection "alice\r\n"`},
		{x224.Opening{Request: &x224.Request{}}, `none`},
	} {
		if got := caller(&tt.o); got != tt.want {
			t.Errorf("%s, want %s", got, tt.want)
		}
	}
}

// TestNilLogAndObserver: neither is needed.
func TestNilLogAndObserver(t *testing.T) {
	host := startHost(t, nil)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := New(Config{}, host.to(), Observer{}, nil)
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- p.Serve(ctx, ln) }()
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if err := exchange(c, cookie("alice")); err != nil {
		t.Error(err)
	}
	_ = c.Close()
	cancel()
	if err := <-served; err != nil {
		t.Error(err)
	}
	if err := p.Shutdown(context.Background()); err != nil {
		t.Error(err)
	}
}

func TestClientKey(t *testing.T) {
	for addr, want := range map[string]string{
		"192.0.2.1": "192.0.2.1", "::ffff:192.0.2.1": "192.0.2.1",
		"2001:db8:1:2:3:4:5:6": "2001:db8:1:2::", "fe80::1%eth0": "fe80::",
	} {
		if got := clientKey(netip.MustParseAddr(addr)); got.String() != want {
			t.Errorf("%s: %s, want %s", addr, got, want)
		}
	}
}

func TestRefusalKindsAreUnique(t *testing.T) {
	seen := map[string]bool{}
	for _, k := range RefusalKinds() {
		if k == "" || seen[k] {
			t.Errorf("%q", k)
		}
		seen[k] = true
	}
}
