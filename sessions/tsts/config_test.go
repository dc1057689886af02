package tsts

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rdpbroker/rdpbroker/sessions"
)

func TestConfig(t *testing.T) {
	keytab := filepath.Join(t.TempDir(), "k")
	if err := os.WriteFile(keytab, []byte{5, 2}, 0o600); err != nil {
		t.Fatal(err)
	}
	secret := func() (string, error) { return "x", nil }
	for _, c := range []struct {
		cfg  Config
		want string // the address, or a part of the error
		ok   bool
	}{
		{Config{Addr: "ts01", User: `D\u`, Password: secret}, "ts01:445", true},
		{Config{Addr: "ts01:1445", User: `D\u`, Password: secret}, "ts01:1445", true},
		{Config{Addr: "[fd00::1]:445", User: "u", Password: secret}, "[fd00::1]:445", true},
		{Config{Addr: "fd00::1", User: "u", Password: secret}, "[fd00::1]:445", true},
		{Config{Addr: "tcp://10.0.0.1:1234", User: "u", Password: secret}, "10.0.0.1:1234", true},
		{Config{Addr: "ts01.contoso.example", User: "u@contoso.example", Auth: Kerberos, Keytab: keytab}, "ts01.contoso.example:445", true},
		{Config{Addr: "tcp://10.0.0.1", User: "u", Password: secret}, "no port", false},
		{Config{Addr: "", User: "u", Password: secret}, "no host", false},
		{Config{Addr: "smb://ts01/ipc$", User: "u", Password: secret}, "is not a host", false},
		{Config{Addr: "ts01", Password: secret}, "no user", false},
		{Config{Addr: "ts01", User: "u"}, "no password", false},
		{Config{Addr: "ts01", User: "u", Password: secret, Auth: "basic"}, "neither", false},
		{Config{Addr: "ts01", User: "u", Password: secret, Keytab: keytab}, "without Kerberos", false},
		{Config{Addr: "ts01", User: "u", Password: secret, Auth: Kerberos}, "realm", false},
		{Config{Addr: "10.0.0.1", User: `D\u`, Password: secret, Auth: Kerberos}, "name of the host", false},
		{Config{Addr: "ts01", User: `D\u`, Auth: Kerberos, Keytab: keytab + "x"}, "no such file", false},
		{Config{Addr: "ts01", User: `D\u`, Password: secret, Poll: -1}, "negative", false},
	} {
		target, err := c.cfg.check()
		switch {
		case c.ok && (err != nil || target.addr != c.want || target.Poll != DefaultPoll || target.Timeout != DefaultTimeout):
			t.Errorf("%+v: %+v, %v", c.cfg.Addr, target, err)
		case !c.ok && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%+v: %v", c.cfg.Addr, err)
		}
	}
	if _, err := New(Config{}, nil); err == nil {
		t.Error("an empty Config is taken")
	}
}

func TestTimes(t *testing.T) {
	for in, want := range map[int64]time.Time{
		0: {}, -1: {}, 1 << 62: {}, 5: {}, 116444735999999999: {},
		116444736000000000: time.Unix(0, 0).UTC(),
		132539328000000001: time.Date(2021, 1, 1, 0, 0, 0, 100, time.UTC),
	} {
		if got := timeOf(in); !got.Equal(want) || (incarnationOf(in) == "") != want.IsZero() {
			t.Errorf("%d: %v, %q", in, got, incarnationOf(in))
		}
	}
}

func TestLogonStatus(t *testing.T) {
	for _, code := range []uint32{0xC000006D, 0xC000006A, 0xC0000064, 0xC0000234, 0xC0000071, 0xC0000224, 0xC0000072, 0xC0000193, 0xC000006E, 0xC000015B} {
		if logonStatus(code) == "" {
			t.Errorf("0x%08X would be tried again", code)
		}
	}
	if logonStatus(0xC000000D) != "" {
		t.Error("STATUS_INVALID_PARAMETER is no refused logon")
	}
}

func FuzzInformation(f *testing.F) {
	for _, s := range office() {
		f.Add(s.information(noon))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		s, _, err := parseInformation(b)
		if err == nil && s.State > sessions.StateInit {
			t.Errorf("state %v", s.State)
		}
		parseRemoteAddress(b)
		if list, err := parseLogonIDs(b, len(b)%5); err == nil && len(list) != len(b)%5 {
			t.Errorf("%d of %d", len(list), len(b)%5)
		}
	})
}

func TestRemoteAddress(t *testing.T) {
	pad := func(b ...byte) []byte { return append(b, make([]byte, 32-len(b))...) }
	for want, b := range map[string][]byte{
		"192.0.2.7":   pad(2, 0, 0, 0, 1, 2, 0, 0, 192, 0, 2, 7),
		"2001:db8::7": pad(23, 0, 0, 0, 1, 2, 0, 0, 0, 0, 0, 0, 0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7),
		"192.0.2.8":   pad(23, 0, 0, 0, 1, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 8),
		"invalid IP":  pad(2, 0),
	} {
		if got := parseRemoteAddress(b).String(); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	if parseRemoteAddress([]byte{2, 0, 0}).IsValid() || parseRemoteAddress(pad(17)).IsValid() {
		t.Error("an address out of nothing")
	}
}

// What an SMB server sends is looked at before the library reads it.
func TestSMBFrames(t *testing.T) {
	header := func(next byte) []byte {
		h := append([]byte("\xfeSMB"), make([]byte, 60)...)
		h[20] = next
		return h
	}
	for name, c := range map[string]struct {
		m  []byte
		ok bool
	}{
		"one":               {header(0), true},
		"two":               {append(header(64), header(0)...), true},
		"encrypted":         {append([]byte("\xfdSMB"), make([]byte, 112)...), true},
		"too short":         {header(0)[:63], false},
		"SMB 1":             {append([]byte("\xffSMB"), make([]byte, 60)...), false},
		"encrypted, short":  {append([]byte("\xfdSMB"), make([]byte, 60)...), false},
		"next is short":     {append(header(64), header(0)[:30]...), false},
		"next is beyond":    {header(200), false},
		"next goes nowhere": {append(header(8), header(0)...), false},
	} {
		if err := checkSMB(c.m); (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzSMB(f *testing.F) {
	f.Add(append([]byte("\xfeSMB"), make([]byte, 124)...))
	f.Fuzz(func(_ *testing.T, m []byte) { checkSMB(m) })
}
