// SPDX-License-Identifier: GPL-3.0-only

package probe

import (
	"encoding/binary"
	"encoding/json"
	"strings"
	"testing"
)

// terminated is s as hosts write it, with a NUL.
func terminated(s string) []byte { return append(toUTF16(s), 0, 0) }

func u32s(values ...uint32) []byte {
	var b []byte
	for _, v := range values {
		b = binary.LittleEndian.AppendUint32(b, v)
	}
	return b
}

func padded(b []byte, n int) []byte { return append(b, make([]byte, n-len(b))...) }

func TestParseSessionInfo(t *testing.T) {
	domain, user := terminated("CORP"), terminated("alice")
	version1 := append(u32s(infoLogon, uint32(len(domain))), padded(terminated("CORP"), 52)...)
	version1 = append(version1, u32s(uint32(len(user)))...)
	version1 = append(version1, padded(terminated("alice"), 512)...)
	version1 = append(version1, u32s(7)...)

	version2 := append(u32s(infoLogonLong), 1, 0)
	version2 = append(version2, u32s(18, 7, uint32(len(domain)), uint32(len(user)))...)
	version2 = append(version2, make([]byte, 558)...)
	version2 = append(append(version2, domain...), user...)

	extended := func(fields uint32, parts ...[]byte) []byte {
		b := append(u32s(infoLogonExtended), 0, 0)
		b = append(b, u32s(fields)...)
		for _, p := range parts {
			b = append(append(b, u32s(uint32(len(p)))...), p...)
		}
		return append(b, make([]byte, 570)...)
	}
	cookie := append(u32s(28, 1, 7), make([]byte, 16)...)
	notice := func(kind, data uint32) []byte { return u32s(kind, data) }

	for _, tt := range []struct {
		name    string
		b       []byte
		done    bool
		session int // -1: none
		account string
		notice  string
		refused bool
	}{
		{"version 1", version1, true, 7, `CORP\alice`, "", false},
		{"version 1 of RDP 4, without an ID", version1[:len(version1)-4], true, -1, `CORP\alice`, "", false},
		{"version 2", version2, true, 7, `CORP\alice`, "", false},
		{"plain notify", append(u32s(infoPlainNotify), make([]byte, 576)...), true, -1, "", "", false},
		{"reconnect cookie", extended(1, cookie), true, 7, "", "", false},
		{"wrong password", extended(2, notice(0xc000006d, 0)), false, -1, "", "STATUS_LOGON_FAILURE", true},
		{"access denied", extended(2, notice(0xffffffff, 2)), false, -1, "", "ERROR_CODE_ACCESS_DENIED", true},
		{"the host is full", extended(2, notice(0xfffffffb, 3)), false, -1, "", "LOGON_MSG_BUMP_OPTIONS", true},
		{"the logon goes on", extended(2, notice(0xfffffffe, 2)), false, -1, "", "LOGON_MSG_SESSION_CONTINUE", false},
		{"a warning", extended(2, notice(0xc0000071, 3)), false, -1, "", "STATUS_PASSWORD_EXPIRED", false},
		{"cookie and notice", extended(3, cookie, notice(0xfffffffe, 2)), true, 7, "", "LOGON_MSG_SESSION_CONTINUE", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n, err := parseSessionInfo(tt.b)
			if err != nil {
				t.Fatal(err)
			}
			if n.done != tt.done || n.account != tt.account || n.refused != tt.refused {
				t.Errorf("%+v", n)
			}
			if (n.session == nil) != (tt.session < 0) || n.session != nil && int(*n.session) != tt.session {
				t.Errorf("session %v, want %d", n.session, tt.session)
			}
			if (n.notice == nil) != (tt.notice == "") || n.notice != nil && n.notice.Name != tt.notice {
				t.Errorf("notice %v, want %s", n.notice, tt.notice)
			}
		})
	}
	for name, b := range map[string][]byte{
		"nothing":             nil,
		"an unknown type":     u32s(4),
		"version 1 cut short": version1[:100],
		"version 2 cut short": version2[:len(version2)-4],
		"a notice cut short":  extended(2, []byte{1, 2, 3}),
		"a long cookie":       append(append(u32s(infoLogonExtended), 0, 0), u32s(1, 0xffffffff)...),
	} {
		if n, err := parseSessionInfo(b); err == nil {
			t.Errorf("%s: taken, %+v", name, n)
		}
	}
}

func TestParseRedirect(t *testing.T) {
	// A routing token alone, padded as Windows does.
	token := "0004" + "4700" + "00000000" + "02000000" + "2f000000" +
		"436f6f6b69653a206d7374733d30313233343536373839616263646566303132333435363738396162636465660d0a" + "c0c0c0c0c0c0c0c000"
	r, ok, err := parseRedirect(unhex(t, token))
	if err != nil || !ok || r.Token != "Cookie: msts=0123456789abcdef0123456789abcdef" || r.Address != "" {
		t.Errorf("%+v, %t, %v", r, ok, err)
	}

	field := func(b []byte) []byte { return append(u32s(uint32(len(b))), b...) }
	full := append([]byte{0, 4, 0, 0}, u32s(5, 0x1d)...)
	for _, s := range []string{"10.0.0.7", "alice", "CORP", "secret"} {
		full = append(full, field(terminated(s))...)
	}
	r, ok, err = parseRedirect(full)
	if err != nil || !ok || r != (Redirect{Address: "10.0.0.7", User: "alice", Domain: "CORP", SessionID: 5, Credentials: true}) {
		t.Errorf("%+v, %t, %v", r, ok, err)
	}
	if b, _ := json.Marshal(r); strings.Contains(string(b), "secret") {
		t.Errorf("the password is in %s", b)
	}
	if _, ok, err := parseRedirect(append([]byte{0, 4, 0, 0}, u32s(5, 0x80)...)); ok || err != nil {
		t.Errorf("LB_NOREDIRECT: %t, %v", ok, err)
	}
	if _, _, err := parseRedirect(full[:30]); err == nil {
		t.Error("a redirection cut short is taken")
	}
}

func TestRedirectedOptions(t *testing.T) {
	o := Options{Addr: "broker:3390", User: "alice", Domain: "CORP", Cookie: "old"}
	for _, tt := range []struct {
		r    Redirect
		want Options
	}{
		{Redirect{Token: "Cookie: msts=x"}, Options{Addr: "broker:3390", User: "alice", Domain: "CORP", Cookie: "Cookie: msts=x"}},
		{Redirect{Address: "10.0.0.7"}, Options{Addr: "10.0.0.7:3390", User: "alice", Domain: "CORP", Cookie: "old"}},
		{Redirect{Address: "fe80::7"}, Options{Addr: "[fe80::7]:3390", User: "alice", Domain: "CORP", Cookie: "old"}},
		{Redirect{User: "bob"}, Options{Addr: "broker:3390", User: "bob", Cookie: "old"}},
	} {
		got := o.redirected(tt.r)
		if got.redirectedSession == nil {
			t.Errorf("%+v: no session number", tt.r)
		}
		got.redirectedSession = nil
		if got != tt.want {
			t.Errorf("%+v: got %+v, want %+v", tt.r, got, tt.want)
		}
	}
}
