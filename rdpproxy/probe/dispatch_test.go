// SPDX-License-Identifier: GPL-3.0-only

package probe

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/rdpbroker/rdpbroker/rdpproxy/x224"
)

// sink takes what is written and counts it; all else crashes.
type sink struct {
	net.Conn
	written int
	last    []byte
}

func (s *sink) Write(b []byte) (int, error) {
	s.written++
	s.last = bytes.Clone(b)
	return len(b), nil
}

// afterLogon is a session whose credentials have been sent.
func afterLogon(t testing.TB) (*session, *sink) {
	t.Helper()
	o, err := Options{Addr: "h:1", User: "alice"}.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	out := &sink{}
	s := &session{
		options: o, result: &Result{Logon: LogonUnknown}, start: time.Now(),
		channel: &channel{mcs: &mcs{wire: &wire{conn: out}, user: 1007, io: 1003, clip: 1004}},
	}
	if s.licence, err = newLicenceClient(o, nil); err != nil {
		t.Fatal(err)
	}
	return s, out
}

func onChannel(channel uint16, data []byte) packet {
	b := []byte{byte(mcsSendIndication) << 2, 0, 1}
	b = binary.BigEndian.AppendUint16(b, channel)
	b = append(b, 0x70)
	b = binary.BigEndian.AppendUint16(b, uint16(len(data))|0x8000)
	return packet{data: append(b, data...)}
}

func dataPDU(kind uint8, body []byte) []byte {
	b := binary.LittleEndian.AppendUint16(nil, uint16(18+len(body)))
	b = append(b, 0x17, 0, 0xea, 3, 0xea, 3, 1, 0, 0, 1, 0, 0, kind, 0, 0, 0)
	return append(b, body...)
}

// TestActivationOfWindows plays what a Windows host sent to mstsc.
func TestActivationOfWindows(t *testing.T) {
	s, out := afterLogon(t)
	frames := recorded(t)
	for _, step := range []struct {
		frame   string
		reached Stage
		answers int
	}{
		{"32", StageLicence, 0}, {"33", StageLicence, 5}, {"41", StageLicence, 5}, {"42", StageLicence, 5},
		{"43", StageLicence, 5}, {"45", StageActive, 5},
	} {
		if err := s.take(packet{data: frames[step.frame]}); err != nil {
			t.Fatalf("frame %s: %v", step.frame, err)
		}
		if s.result.Reached != step.reached || out.written != step.answers {
			t.Errorf("after frame %s: reached %q, %d packets sent; want %q and %d",
				step.frame, s.result.Reached, out.written, step.reached, step.answers)
		}
	}
	if s.certain() {
		t.Error("a desktop before anybody has logged on")
	}
	image := append([]byte{1, 0}, update(rectangle(0, 0, 0, 0, 1, 1, 16, 0, 1, 1, 0, 0))...)
	if err := s.take(onChannel(1003, dataPDU(dataUpdate, image))); err != nil || s.result.Reached != StagePicture {
		t.Errorf("a picture: %v, reached %q", err, s.result.Reached)
	}
	if err := s.take(onChannel(1003, dataPDU(dataSessionInfo, append(u32s(infoPlainNotify), make([]byte, 576)...)))); err != nil ||
		s.result.Logon != LogonDone || s.result.LogonBy != "session-info" || !s.certain() {
		t.Errorf("the logon: %v, %+v", err, s.result)
	}
}

// Before the session is active, nothing of it can be painted.
func TestPicturesBeforeActivation(t *testing.T) {
	s, _ := afterLogon(t)
	image := append([]byte{1, 0}, update(rectangle(0, 0, 0, 0, 1, 1, 16, 0, 1, 1, 0, 0))...)
	fast := append(binary.LittleEndian.AppendUint16([]byte{0x01}, uint16(len(image))), image...)
	for _, p := range []packet{onChannel(1003, dataPDU(dataUpdate, image)), onChannel(1003, dataPDU(dataFontMap, make([]byte, 8))), {fastPath: true, data: fast}} {
		if err := s.take(p); err != nil {
			t.Fatal(err)
		}
	}
	if s.result.Reached != "" || s.active || !s.lastPaint.IsZero() {
		t.Errorf("%+v", s.result)
	}
	if err := s.take(packet{fastPath: true, flags: fastPathEncrypted, data: fast}); err == nil {
		t.Error("an encrypted packet under TLS is taken")
	}
}

func TestCertainty(t *testing.T) {
	for _, tt := range []struct {
		logon                Logon
		windows, unconfirmed bool
		want                 bool
	}{
		{LogonUnknown, false, false, false},
		{LogonUnknown, false, true, true},
		{LogonAccepted, false, false, true},
		{LogonAccepted, true, false, false},
		{LogonAccepted, true, true, true},
		{LogonDone, true, false, true},
		{LogonRefused, true, false, true},
	} {
		s := &session{windows: tt.windows, options: Options{AcceptUnconfirmed: tt.unconfirmed}, result: &Result{Logon: tt.logon}}
		if got := s.certain(); got != tt.want {
			t.Errorf("%+v: %t", tt, got)
		}
	}
}

// A host that is full shows a dialog and says so; the picture is no desktop.
func TestFullHost(t *testing.T) {
	s, _ := afterLogon(t)
	s.result.Logon, s.windows = LogonAccepted, true
	notice := append(u32s(infoLogonExtended), 0, 0)
	notice = append(notice, u32s(2, 8, 0xfffffffb, 3)...)
	if err := s.take(onChannel(1003, dataPDU(dataSessionInfo, notice))); err != nil {
		t.Fatal(err)
	}
	err := explain(t.Context(), s.verdict(nil), s.result)
	if s.result.Logon != LogonRefused || err == nil || err.Error() != "the host did not log the user on: LOGON_MSG_BUMP_OPTIONS (0xfffffffb)" {
		t.Errorf("%v, %+v", err, s.result)
	}
}

func TestErrorInfoOfWindows(t *testing.T) {
	s, _ := afterLogon(t)
	if err := s.take(onChannel(1003, dataPDU(dataErrorInfo, u32s(0)))); err != nil || s.result.ErrorInfo != nil {
		t.Errorf("no error: %v, %v", err, s.result.ErrorInfo)
	}
	// What a Windows host sent when it refused a restricted logon (frame 211 of
	// rdp-restricted-admin-rejected1.pcapng, awakecoding/wireshark-rdp).
	sent := unhex(t, "68000103eb3016"+"160017000000"+"ea030100000116002f000000"+"0b000000")
	if err := s.take(packet{data: sent[:len(sent)-2]}); err == nil {
		t.Error("a message cut short is taken")
	}
	if err := s.take(packet{data: sent}); err != nil || s.result.ErrorInfo == nil ||
		s.result.ErrorInfo.String() != "ERRINFO_RPC_INITIATED_DISCONNECT_BYUSER (0xb)" {
		t.Errorf("%v, %v", err, s.result.ErrorInfo)
	}
	var end *disconnectedError
	err := s.take(packet{data: []byte{0x21, 0x80}})
	if !errors.As(err, &end) {
		t.Fatal(err)
	}
	if err := explain(t.Context(), s.verdict(err), s.result); err.Error() != "the host ended the connection: ERRINFO_RPC_INITIATED_DISCONNECT_BYUSER (0xb)" {
		t.Error(err)
	}
}

// Under standard RDP security each message moves the cipher on, whatever the
// channel, and licensing comes under it too.
func TestTakeEncrypted(t *testing.T) {
	client, server := make([]byte, 32), slices.Repeat([]byte{1}, 32)
	s, _ := afterLogon(t)
	var err error
	if s.channel.security, err = newStandardSecurity(method128Bit, client, server); err != nil {
		t.Fatal(err)
	}
	host := peerOf(t, method128Bit, client, server)
	seal := func(flags uint16, data []byte) []byte {
		head := binary.LittleEndian.AppendUint16(nil, flags|secEncrypt)
		return host.seal(append(head, 0, 0), data)
	}
	valid := licenceMessage(licenceErrorAlert, append(u32s(7, 2), 4, 0, 0, 0))
	for _, p := range []packet{
		onChannel(1003, seal(secLicence, valid)),
		onChannel(1006, seal(0, []byte("another channel"))),
		onChannel(1003, seal(0, dataPDU(dataErrorInfo, u32s(0x408)))),
		onChannel(1004, seal(0, []byte("clipboard"))),
	} {
		if err := s.take(p); err != nil {
			t.Fatal(err)
		}
	}
	if !s.licensed || s.result.ErrorInfo == nil || s.result.Logon != LogonDone || s.result.LogonBy != "clipboard" {
		t.Errorf("licensed %t, %+v", s.licensed, s.result)
	}
	redirect := append([]byte{0, 4, 0, 0}, u32s(0, 2)...)
	redirect = append(redirect, append(u32s(4), "tok\n"...)...)
	var r *redirectedError
	if err := s.take(onChannel(1003, seal(secRedirection, redirect))); !errors.As(err, &r) || r.Token != "tok" {
		t.Errorf("a redirection: %v", err)
	}
}

func FuzzTake(f *testing.F) {
	for _, b := range recorded(f) {
		f.Add(false, b)
	}
	f.Add(true, []byte{0x01, 4, 0, 1, 0, 0, 0})
	f.Fuzz(func(t *testing.T, fast bool, b []byte) {
		s, _ := afterLogon(t)
		s.screen = newScreen(64, 64)
		if err := s.take(packet{fastPath: fast, data: b}); err != nil {
			return
		}
		if s.result.Logon == LogonDone && s.result.LogonBy == "" {
			t.Error("a logon by nobody knows what")
		}
	})
}

// The offer that a host's choice is measured by is what was sent.
func TestSecurityOffers(t *testing.T) {
	for s, want := range map[Security]x224.Protocol{SecurityAuto: 0x0b, SecurityNLA: 0x0b, SecurityTLS: 1, SecurityRDP: 0} {
		if got := s.protocols(); got != want {
			t.Errorf("%s: %s", s, got)
		}
	}
}

func TestEarlyAuthorization(t *testing.T) {
	for _, tt := range []struct {
		sent  []byte
		ok    bool
		logon Logon
	}{
		{[]byte{0, 0, 0, 0}, true, LogonUnknown},
		{[]byte{5, 0, 0, 0}, false, LogonRefused},
		{[]byte{0, 0}, false, LogonUnknown},
	} {
		s := &session{result: &Result{Logon: LogonUnknown}, wire: &wire{in: bufio.NewReader(bytes.NewReader(tt.sent))}}
		if err := s.earlyAuthorization(); (err == nil) != tt.ok || s.result.Logon != tt.logon {
			t.Errorf("% x: %v, %s", tt.sent, err, s.result.Logon)
		}
	}
}
