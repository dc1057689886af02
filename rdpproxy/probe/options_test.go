// SPDX-License-Identifier: GPL-3.0-only

package probe

import (
	"strings"
	"testing"
	"time"

	"github.com/rdpbroker/rdpbroker/rdpproxy/x224"
)

func TestOptions(t *testing.T) {
	o, err := Options{Addr: "h:3389", User: `CORP\alice`}.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	want := Options{
		Addr: "h:3389", User: "alice", Domain: "CORP", Width: 1024, Height: 768, Depth: 32, Timeout: 20 * time.Second,
		Settle: time.Second, Security: SecurityAuto, ServerName: "h", ClientName: "rdpprobe",
	}
	if o != want {
		t.Errorf("got %+v, want %+v", o, want)
	}
	if o, err := (Options{Addr: "h:1", User: `a\b`, Domain: "D"}).withDefaults(); err != nil || o.User != `a\b` || o.Domain != "D" {
		t.Errorf("a domain beside DOM\\user: %+v, %v", o, err)
	}

	good := Options{Addr: "h:1", User: "u"}
	for name, edit := range map[string]func(*Options){
		"no port":         func(o *Options) { o.Addr = "h" },
		"no user":         func(o *Options) { o.User = "" },
		"small":           func(o *Options) { o.Width = 100 },
		"wide":            func(o *Options) { o.Width = 9000 },
		"large":           func(o *Options) { o.Width, o.Height = 8000, 8000 },
		"depth":           func(o *Options) { o.Depth = 8 },
		"security":        func(o *Options) { o.Security = "ssl" },
		"timeout":         func(o *Options) { o.Timeout = -1 },
		"two lines":       func(o *Options) { o.Cookie = "a\r\nb" },
		"a long password": func(o *Options) { o.Password = strings.Repeat("x", maxCredential+1) },
	} {
		o := good
		edit(&o)
		if o.Validate() == nil {
			t.Errorf("%s: taken, %+v", name, o)
		}
	}
}

func TestConnectionRequest(t *testing.T) {
	for _, tt := range []struct{ user, cookie, wantCookie, wantToken string }{
		{"alice", "", "alice", ""},
		{"alice", "other", "other", ""},
		{"alice", "Cookie: msts=abc", "", "Cookie: msts=abc"},
		{"alice", "tsv://MS Terminal Services Plugin.1.Farm", "", "tsv://MS Terminal Services Plugin.1.Farm"},
		{strings.Repeat("x", 250), "", strings.Repeat("x", maxCookie), ""},
	} {
		r, err := x224.ParseRequest(Options{User: tt.user, Cookie: tt.cookie}.request(3).Append(nil))
		if err != nil {
			t.Fatal(err)
		}
		if r.Cookie != tt.wantCookie || string(r.Token) != tt.wantToken || r.LengthMismatch || r.Negotiation.Protocols != 3 {
			t.Errorf("%+v: %+v", tt, r)
		}
	}
}
