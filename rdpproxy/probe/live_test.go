// SPDX-License-Identifier: GPL-3.0-only

package probe_test

import (
	"image"
	"image/color"
	"image/png"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/rdpbroker/rdpbroker/deploy/testlab"
	"github.com/rdpbroker/rdpbroker/rdpproxy/probe"
)

// alike is the part of a's pixels that are nearly what b has there: at 15 and 16
// bits a colour does not come back exactly.
func alike(a image.Image, b func(x, y int) color.Color) float64 {
	near := func(a, b uint32) bool { d := int(a>>8) - int(b>>8); return -8 <= d && d <= 8 }
	n, all := 0, a.Bounds()
	for y := all.Min.Y; y < all.Max.Y; y++ {
		for x := all.Min.X; x < all.Max.X; x++ {
			r1, g1, b1, _ := a.At(x, y).RGBA()
			r2, g2, b2, _ := b(x, y).RGBA()
			if near(r1, r2) && near(g1, g2) && near(b1, b2) {
				n++
			}
		}
	}
	return float64(n) / float64(all.Dx()*all.Dy())
}

func blue(int, int) color.Color { return color.RGBA{0x33, 0x66, 0x99, 0xff} } // testlab's desktops

// keep writes the picture of a failed test to the directory that
// $PROBE_PICTURES names, for somebody to look at.
func keep(t *testing.T, r *probe.Result) {
	dir := os.Getenv("PROBE_PICTURES")
	if !t.Failed() || dir == "" || r.Picture == nil {
		return
	}
	f, err := os.Create(filepath.Join(dir, strings.NewReplacer("/", "-", " ", "-").Replace(t.Name())+".png"))
	if err != nil {
		t.Log(err)
		return
	}
	defer f.Close()
	if err := png.Encode(f, r.Picture); err != nil {
		t.Log(err)
	}
}

// setINI sets a key of an xrdp host's xrdp.ini, which xrdp reads anew for each
// connection.
func setINI(t *testing.T, h *testlab.XRDPHost, key, value string) {
	t.Helper()
	path := filepath.Join(h.Etc, "xrdp", "xrdp.ini")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	line := regexp.MustCompile(`(?m)^` + key + `=.*$`)
	if !line.Match(b) {
		t.Fatalf("no %s in %s", key, path)
	}
	if err := os.WriteFile(path, line.ReplaceAll(b, []byte(key+"="+value)), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestXRDP(t *testing.T) {
	t.Parallel()
	h := testlab.StartXRDP(t, "probed", "", testlab.XRDPOptions{MaxSessions: 3})
	right := func(o probe.Options) probe.Options {
		o.Addr, o.User, o.Password, o.Timeout = h.Addr, "rbalice", h.Users["rbalice"], 15*time.Second
		o.Settle = 300 * time.Millisecond
		return o
	}
	for _, tt := range []struct {
		name, level string
		options     probe.Options
		protocol    string
	}{
		{"TLS, 32 bits", "high", probe.Options{}, "SSL"},
		{"RDP security of 128 bits, 24 bits", "high", probe.Options{Security: probe.SecurityRDP, Depth: 24, Width: 800, Height: 600}, "RDP"},
		{"RDP security of 40 bits, 16 bits", "medium", probe.Options{Security: probe.SecurityRDP, Depth: 16}, "RDP"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			setINI(t, h, "crypt_level", tt.level)
			r := probe.Run(t.Context(), right(tt.options))
			defer keep(t, r)
			if !r.Desktop || r.Protocol != tt.protocol || r.Logon != probe.LogonDone || r.LogonBy != "clipboard" {
				t.Fatalf("%+v", r)
			}
			if r.Screen.Undecoded != 0 || r.Screen.Coverage < 0.99 {
				t.Errorf("screen %+v", r.Screen)
			}
			if part := alike(r.Picture, blue); part < 0.4 {
				t.Errorf("%.0f %% of the picture is the desktop's colour", 100*part)
			}
		})
	}
	t.Run("refused by policy", func(t *testing.T) {
		setINI(t, h, "crypt_level", "fips")
		r := probe.Run(t.Context(), right(probe.Options{Security: probe.SecurityRDP}))
		if r.Desktop || !strings.Contains(r.Error, "FIPS") {
			t.Errorf("%+v", r)
		}
	})
	// By now the host is full: one user at three depths has three sessions.
	for name, o := range map[string]probe.Options{
		"wrong password": {User: "rbalice", Password: "wrong"},
		"host is full":   {User: "rbbob", Password: h.Users["rbbob"]},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o.Addr, o.Timeout = h.Addr, 4*time.Second
			r := probe.Run(t.Context(), o)
			defer keep(t, r)
			// xrdp lets everybody in, and shows in a window what went wrong.
			if r.Desktop || r.Logon != probe.LogonUnknown || !strings.Contains(r.Error, "logon screen") {
				t.Fatalf("%+v", r)
			}
			if part := alike(r.Picture, blue); part > 0.1 {
				t.Errorf("%.0f %% of the picture is the desktop's colour", 100*part)
			}
		})
	}
}

func TestShadow(t *testing.T) {
	t.Parallel()
	h := testlab.StartShadow(t, "probed", testlab.ShadowOptions{Accounts: []testlab.ShadowAccount{
		{User: "rbalice", Password: "secret-1"}, {Domain: "CORP", User: "rbbob", Password: "secret-2"},
	}})
	for _, tt := range []struct {
		name    string
		options probe.Options
		logon   probe.Logon
	}{
		{"right password", probe.Options{User: "rbalice", Password: "secret-1"}, probe.LogonAccepted},
		{"right password, 16 bits", probe.Options{User: "rbalice", Password: "secret-1", Depth: 16}, probe.LogonAccepted},
		{"NLA and nothing else", probe.Options{User: `CORP\rbbob`, Password: "secret-2", Security: probe.SecurityNLA}, probe.LogonAccepted},
		{"wrong password", probe.Options{User: "rbalice", Password: "secret-2"}, probe.LogonRefused},
		{"unknown user", probe.Options{User: "rbnobody", Password: "secret-1"}, probe.LogonRefused},
		{"without NLA", probe.Options{User: "rbalice", Password: "secret-1", Security: probe.SecurityTLS}, probe.LogonUnknown},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.options.Addr, tt.options.Timeout, tt.options.Settle = h.Addr, 10*time.Second, 300*time.Millisecond
			r := probe.Run(t.Context(), tt.options)
			defer keep(t, r)
			accepted := tt.logon == probe.LogonAccepted
			if r.Desktop != accepted || r.Logon != tt.logon || (r.Error == "") != accepted {
				t.Fatalf("%+v", r)
			}
			if !accepted {
				return
			}
			if r.LogonBy != "credssp" || r.Screen.Undecoded != 0 || r.Screen.Coverage < 0.99 {
				t.Errorf("by %q, screen %+v", r.LogonBy, r.Screen)
			}
			screen, err := h.Display.Image(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			// The desktop shows a clock, which has gone on.
			if part := alike(r.Picture, screen.At); part < 0.97 {
				t.Errorf("%.1f %% of the picture is as on the host's screen", 100*part)
			}
		})
	}
}
