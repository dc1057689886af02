package rdpproxy

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rdpbroker/rdpbroker/rdpproxy/relay"
	"github.com/rdpbroker/rdpbroker/rdpproxy/x224"
)

// nla is what a host and its client say under HYBRID with a good password, as
// sizes: even places are the client's. Behind the 11 is the first Channel Join.
var nla = []int{93, 162, 433, 95, 118 + 467, 118, 12 + 8, 11, 12, 15}

// selfSigned is a certificate for TLS hosts.
func selfSigned(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// nlaHost answers every request with a choice of protocol. Under TLS it plays its
// part of script, notes what has come, and then echoes.
type nlaHost struct {
	*fakeHost
	got atomic.Int64 // bytes of the client that it has seen under TLS
}

func startNLA(t *testing.T, cfg *tls.Config, confirm x224.Confirm, script []int) *nlaHost {
	t.Helper()
	h := &nlaHost{}
	cert := selfSigned(t)
	cfg = cfg.Clone()
	cfg.Certificates = []tls.Certificate{cert}
	h.fakeHost = startHost(t, func(c net.Conn) {
		if _, err := x224.ReadTPKT(c, x224.MaxPacket); err != nil {
			return
		}
		if _, err := c.Write(confirm.Append(nil)); err != nil || confirm.Failure {
			return
		}
		s := tls.Server(c, cfg)
		defer s.Close()
		for i, n := range script {
			if i%2 == 1 {
				if _, err := s.Write(make([]byte, n)); err != nil {
					return
				}
				continue
			}
			k, err := io.ReadFull(s, make([]byte, n))
			h.got.Add(int64(k))
			if err != nil {
				return
			}
		}
		_, _ = io.Copy(s, s)
	})
	return h
}

// door is a Route's Accepted that a test can hold.
type door struct {
	calls  atomic.Int64
	called chan struct{}
	answer chan error

	mu    sync.Mutex
	asked []string // Request.Unproven of each call of the router
}

func newDoor() *door { return &door{called: make(chan struct{}, 8), answer: make(chan error, 8)} }

func (g *door) accepted(ctx context.Context) error {
	g.calls.Add(1)
	g.called <- struct{}{}
	select {
	case err := <-g.answer:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// to routes to h, asking for proof unless that is known to be impossible.
func (g *door) to(h *nlaHost) Router {
	return routerFunc(func(_ context.Context, req Request) (Route, error) {
		g.mu.Lock()
		g.asked = append(g.asked, req.Unproven)
		g.mu.Unlock()
		rt := h.route()
		if req.Unproven == "" {
			rt.Accepted = g.accepted
		}
		return rt, nil
	})
}

func (g *door) wasAsked() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.asked)
}

// logOn connects and negotiates; the connection is in TLS after it.
func logOn(t *testing.T, b *bench, cfg *tls.Config) *tls.Conn {
	t.Helper()
	c := b.dial(t, "")
	if _, err := c.Write(cookie("alice")); err != nil {
		t.Fatal(err)
	}
	if _, err := x224.ReadTPKT(c, x224.MaxPacket); err != nil {
		t.Fatal(err)
	}
	cfg = cfg.Clone()
	cfg.InsecureSkipVerify = true
	return tls.Client(c, cfg)
}

// say plays the client's part of script.
func say(c *tls.Conn, script []int) error {
	for i, n := range script {
		var err error
		if i%2 == 0 {
			_, err = c.Write(make([]byte, n))
		} else {
			_, err = io.ReadFull(c, make([]byte, n))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

var hybrid = x224.Confirm{Negotiated: true, Value: uint32(x224.ProtocolHybrid)}

func versions() map[string]*tls.Config {
	return map[string]*tls.Config{
		"TLS 1.3": {MinVersion: tls.VersionTLS13},
		"TLS 1.2": {MaxVersion: tls.VersionTLS12},
		"ChaCha":  {MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256}},
		"CBC":     {MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA}},
	}
}

// TestAcceptedHoldsTheClient: the client's next record waits for Accepted, and
// then all goes on, intact, through the kernel.
func TestAcceptedHoldsTheClient(t *testing.T) {
	for name, cfg := range versions() {
		t.Run(name, func(t *testing.T) {
			g := newDoor()
			h := startNLA(t, cfg, hybrid, nla)
			b := newBench(t, Config{}, g.to(h))
			c := logOn(t, b, cfg)
			if err := say(c, nla[:8]); err != nil {
				t.Fatal(err)
			}
			before := h.got.Load()
			if g.calls.Load() != 0 {
				t.Fatal("called before the client goes on")
			}
			if _, err := c.Write(make([]byte, 12)); err != nil {
				t.Fatal(err)
			}
			<-g.called
			time.Sleep(20 * time.Millisecond)
			if h.got.Load() != before {
				t.Fatal("the host has seen what should wait")
			}
			g.answer <- nil
			if _, err := io.ReadFull(c, make([]byte, 15)); err != nil {
				t.Fatal(err)
			}
			out := make([]byte, 1<<20)
			_, _ = rand.Read(out)
			go func() { _, _ = c.Write(out) }()
			back := make([]byte, len(out))
			if _, err := io.ReadFull(c, back); err != nil || !slices.Equal(back, out) {
				t.Errorf("what came back is not what was sent: %v", err)
			}
			if n := g.calls.Load(); n != 1 {
				t.Errorf("called %d times", n)
			}
		})
	}
}

// TestNotAccepted: whoever stops, whenever that is, has not been accepted, unless
// they go on after the host's yes.
func TestNotAccepted(t *testing.T) {
	for name, cfg := range versions() {
		t.Run(name, func(t *testing.T) {
			g := newDoor()
			h := startNLA(t, cfg, hybrid, nla)
			b := newBench(t, Config{}, g.to(h))
			for stop := range 9 {
				c := logOn(t, b, cfg)
				if err := say(c, nla[:stop]); err != nil {
					t.Fatal(err)
				}
				_ = c.Close() // with an alert, which is no going on
				b.counts.untilClosed(t, stop+1)
			}
			if n := g.calls.Load(); n != 0 {
				t.Errorf("called %d times", n)
			}
		})
	}
}

// TestNotAcceptedAtOnce: somebody who sends all of it without waiting for answers.
func TestNotAcceptedAtOnce(t *testing.T) {
	refusal := []int{93, 162, 433, 15} // an error TSRequest
	g := newDoor()
	h := startNLA(t, &tls.Config{}, hybrid, refusal)
	b := newBench(t, Config{}, g.to(h))
	c := logOn(t, b, &tls.Config{})
	for _, n := range []int{93, 433, 118, 467, 12, 8, 12, 12} {
		if _, err := c.Write(make([]byte, n)); err != nil {
			t.Fatal(err)
		}
	}
	_, _ = io.ReadFull(c, make([]byte, 162+15))
	_ = c.Close()
	b.counts.untilClosed(t, 1)
	if n := g.calls.Load(); n != 0 {
		t.Errorf("called %d times", n)
	}
}

// TestAcceptedSaysNo: without room the connection ends.
func TestAcceptedSaysNo(t *testing.T) {
	g := newDoor()
	h := startNLA(t, &tls.Config{}, hybrid, nla)
	b := newBench(t, Config{}, g.to(h))
	c := logOn(t, b, &tls.Config{})
	no := errors.New("the victim would not go")
	g.answer <- no
	if err := say(c, nla); err == nil {
		t.Error("the client got through")
	}
	b.counts.untilClosed(t, 1)
	b.counts.mu.Lock()
	defer b.counts.mu.Unlock()
	if out := b.counts.outcomes[0]; !errors.Is(out.Relay.Err, no) || out.Relay.Closer != relay.CloserWatch {
		t.Errorf("%+v", out)
	}
	if h.got.Load() != 93+433+118+467+20 {
		t.Errorf("the host has seen %d bytes", h.got.Load())
	}
}

// TestCannotBeTold: a suite under which nothing can be seen ends the connection at
// the host's hello.
func TestCannotBeTold(t *testing.T) {
	g := newDoor()
	cfg := &tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256}}
	h := startNLA(t, cfg, hybrid, nla)
	b := newBench(t, Config{}, g.to(h))
	if err := say(logOn(t, b, cfg), nla); err == nil {
		t.Error("the client got through")
	}
	b.counts.untilClosed(t, 1)
	b.counts.mu.Lock()
	defer b.counts.mu.Unlock()
	if out := b.counts.outcomes[0]; out.Relay.Err == nil || !strings.Contains(out.Relay.Err.Error(), "suite 0xc023") || g.calls.Load() != 0 {
		t.Errorf("%+v", out)
	}
}

// TestWithoutNLA: the router is asked once more, and the client sees one answer.
func TestWithoutNLA(t *testing.T) {
	for name, confirm := range map[string]x224.Confirm{
		"TLS": {Negotiated: true, Value: uint32(x224.ProtocolSSL)},
		"RDP": {Negotiated: true},
		"old": {},
	} {
		t.Run(name, func(t *testing.T) {
			g := newDoor()
			h := startNLA(t, &tls.Config{}, confirm, nla)
			b := newBench(t, Config{}, g.to(h))
			if err := say(logOn(t, b, &tls.Config{}), nla); err != nil {
				t.Error(err)
			}
			if !slices.Equal(g.wasAsked(), []string{"", h.route().Host}) || g.calls.Load() != 0 {
				t.Errorf("asked %q, called %d times", g.wasAsked(), g.calls.Load())
			}
		})
	}
}

// TestWithoutNLATwice: a router that insists gets nobody through.
func TestWithoutNLATwice(t *testing.T) {
	g := newDoor()
	h := startNLA(t, &tls.Config{}, x224.Confirm{Negotiated: true, Value: uint32(x224.ProtocolSSL)}, nla)
	b := newBench(t, Config{}, routerFunc(func(context.Context, Request) (Route, error) {
		rt := h.route()
		rt.Accepted = g.accepted
		return rt, nil
	}))
	c := b.dial(t, "")
	if _, err := c.Write(cookie("alice")); err != nil {
		t.Fatal(err)
	}
	closedByPeer(t, c)
	b.counts.untilRefused(t, RefusedUnreachable, 1)
}

// TestRefusedNegotiation: the host's no reaches the client, and is the end of it.
func TestRefusedNegotiation(t *testing.T) {
	g := newDoor()
	no := x224.Confirm{Negotiated: true, Failure: true, Value: x224.FailureHybridRequired}
	h := startNLA(t, &tls.Config{}, no, nla)
	b := newBench(t, Config{}, g.to(h))
	c := b.dial(t, "")
	if _, err := c.Write(cookie("alice")); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(c); err != nil || !slices.Equal(got, no.Append(nil)) {
		t.Errorf("%x, %v", got, err)
	}
	_ = c.Close()
	b.counts.untilClosed(t, 1)
	if len(g.wasAsked()) != 1 || g.calls.Load() != 0 {
		t.Errorf("asked %q, called %d times", g.wasAsked(), g.calls.Load())
	}
}

// TestNoAnswer: a host that says nothing, and a client that leaves meanwhile.
func TestNoAnswer(t *testing.T) {
	mute := &nlaHost{fakeHost: startHost(t, func(c net.Conn) { _, _ = io.Copy(io.Discard, c) })}
	g := newDoor()
	b := newBench(t, Config{ConfirmTimeout: 200 * time.Millisecond}, g.to(mute))
	c := b.dial(t, "")
	if _, err := c.Write(cookie("alice")); err != nil {
		t.Fatal(err)
	}
	closedByPeer(t, c)
	b.counts.untilRefused(t, RefusedUnreachable, 1)

	b = newBench(t, Config{}, g.to(mute))
	c = b.dial(t, "")
	if _, err := c.Write(cookie("alice")); err != nil {
		t.Fatal(err)
	}
	time.Sleep(2 * watchDelay)
	_ = c.Close()
	b.counts.untilRefused(t, RefusedGone, 1)
}
