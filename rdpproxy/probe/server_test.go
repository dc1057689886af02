// SPDX-License-Identifier: GPL-3.0-only

package probe_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"image"
	"image/color"
	"image/draw"
	"math/big"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rdpbroker/rdpbroker/rdpproxy/probe"
	"github.com/rdpbroker/rdpbroker/rdpproxy/rdpserver"
)

// server listens on the loopback with rdpserver and calls serve for each client
// that has shaken hands. It stops with the test.
func server(t *testing.T, serve func(context.Context, *rdpserver.Conn)) (addr string) {
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
	cfg := rdpserver.Config{TLS: &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	var running sync.WaitGroup
	running.Go(func() {
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			running.Go(func() {
				conn, err := rdpserver.Handshake(ctx, nc, cfg)
				if err != nil {
					t.Errorf("handshake: %v", err)
					return
				}
				defer conn.Close()
				serve(ctx, conn)
			})
		}
	})
	t.Cleanup(func() { cancel(); ln.Close(); running.Wait() })
	return ln.Addr().String()
}

var orange = color.RGBA{0xff, 0x88, 0x00, 0xff}

// show gives the client a desktop in one colour.
func show(t *testing.T, ctx context.Context, c *rdpserver.Conn) {
	if err := c.Activate(ctx); err != nil {
		t.Errorf("activate: %v", err)
		return
	}
	img := image.NewRGBA(image.Rect(0, 0, 1024, 768))
	draw.Draw(img, img.Bounds(), image.NewUniform(orange), image.Point{}, draw.Src)
	_ = c.Draw(img, image.Point{}) // the probe may have seen enough
}

func TestServerConfirms(t *testing.T) {
	t.Parallel()
	addr := server(t, func(ctx context.Context, c *rdpserver.Conn) {
		show(t, ctx, c)
		if err := c.LoggedOn("CORP", "alice", 7); err != nil {
			t.Errorf("logged on: %v", err)
		}
		c.Run(ctx, func(rdpserver.Event) {})
	})
	r := probe.Run(t.Context(), probe.Options{Addr: addr, User: "alice", Settle: 100 * time.Millisecond, Timeout: 15 * time.Second})
	if !r.Desktop || r.Logon != probe.LogonDone || r.LogonBy != "session-info" || r.Account != `CORP\alice` || r.SessionID == nil || *r.SessionID != 7 {
		t.Errorf("%+v", r)
	}
}

// A host that never says that the user is logged on.
func TestServerUnconfirmed(t *testing.T) {
	t.Parallel()
	addr := server(t, func(ctx context.Context, c *rdpserver.Conn) {
		if u := c.Info().User; u != "alice" {
			t.Errorf("user %q", u)
		}
		show(t, ctx, c)
		c.Run(ctx, func(rdpserver.Event) {})
	})
	o := probe.Options{Addr: addr, User: "alice", Password: "secret", Settle: -1, Timeout: 2 * time.Second}
	if r := probe.Run(t.Context(), o); r.Desktop || r.Logon != probe.LogonUnknown || r.Reached != probe.StagePicture {
		t.Errorf("%+v", r)
	}
	o.AcceptUnconfirmed, o.Timeout, o.Settle = true, 15*time.Second, time.Second
	r := probe.Run(t.Context(), o)
	if !r.Desktop || r.Error != "" || r.Screen.Width != 1024 || r.Screen.Coverage != 1 || r.Screen.Colors != 1 {
		t.Fatalf("%+v, %+v", r, r.Screen)
	}
	if part := alike(r.Picture, func(int, int) color.Color { return orange }); part != 1 {
		t.Errorf("%.0f %% of the picture is as it was drawn", 100*part)
	}
}

func TestServerErrorInfo(t *testing.T) {
	t.Parallel()
	for name, active := range map[string]bool{"before the session is active": false, "after": true} {
		t.Run(name, func(t *testing.T) {
			addr := server(t, func(ctx context.Context, c *rdpserver.Conn) {
				if active {
					show(t, ctx, c)
				}
				if err := c.ErrorInfo(rdpserver.ErrorPoolNotFree); err != nil {
					t.Errorf("error info: %v", err)
				}
			})
			r := probe.Run(t.Context(), probe.Options{Addr: addr, User: "alice", Timeout: 10 * time.Second})
			if r.Desktop || r.ErrorInfo == nil || r.ErrorInfo.Name != "ERRINFO_CB_DESTINATION_POOL_NOT_FREE" || r.ErrorInfo.Value != "0x408" {
				t.Fatalf("%+v", r)
			}
			if !strings.Contains(r.Error, r.ErrorInfo.Name) {
				t.Errorf("error %q", r.Error)
			}
		})
	}
}

func TestServerRedirects(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var seen []rdpserver.ClientInfo
	addr := server(t, func(ctx context.Context, c *rdpserver.Conn) {
		mu.Lock()
		seen = append(seen, c.Info())
		first := len(seen) == 1
		mu.Unlock()
		if first {
			if err := c.Redirect(rdpserver.Redirection{Token: []byte("Cookie: msts=0123456789abcdef"), User: "bob", SessionID: 7}); err != nil {
				t.Errorf("redirect: %v", err)
			}
			return
		}
		show(t, ctx, c)
		c.Run(ctx, func(rdpserver.Event) {})
	})
	r := probe.Run(t.Context(), probe.Options{Addr: addr, User: "alice", AcceptUnconfirmed: true, Settle: -1, Timeout: 10 * time.Second})
	if !r.Desktop || len(r.Redirects) != 1 || r.Redirects[0].Token != "Cookie: msts=0123456789abcdef" {
		t.Fatalf("%+v", r)
	}
	mu.Lock()
	defer mu.Unlock()
	if len(seen) != 2 || seen[1].User != "bob" {
		t.Errorf("the server saw %+v", seen)
	}
	if got := seen[1].RedirectedSessionID; got != 7 {
		t.Errorf("session number %d", got)
	}
}

// A host that redirects for ever is left in the end.
func TestServerRedirectsForEver(t *testing.T) {
	t.Parallel()
	addr := server(t, func(_ context.Context, c *rdpserver.Conn) {
		c.Redirect(rdpserver.Redirection{Token: []byte("Cookie: msts=again")})
	})
	r := probe.Run(t.Context(), probe.Options{Addr: addr, User: "alice", Timeout: 10 * time.Second})
	if r.Desktop || len(r.Redirects) != 3 || !strings.Contains(r.Error, "redirected 4 times") {
		t.Errorf("%+v", r)
	}
}
