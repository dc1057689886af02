package rdpserver

import (
	"bytes"
	"errors"
	"image"
	"net"
	"strings"
	"testing"
	"time"
)

// TestErrorInfo: at every stage the client gets the licence, the reason, the
// ultimatum, and the time to read them.
func TestErrorInfo(t *testing.T) {
	for _, active := range []bool{false, true} {
		start := logOnMstsc
		if active {
			start = activeMstsc
		}
		client, conn := start(t, Config{LeaveTimeout: patience})
		if err := conn.ErrorInfo(ErrorPoolNotFree); err != nil {
			t.Fatal(err)
		}
		closed := make(chan error, 1)
		go func() { closed <- conn.Close() }()
		// What the client is still sending must not make the server's TCP forget
		// what it has to say.
		client.send(bytes.Repeat(client.frames[36], 50))
		if !active {
			client.expect("licence", client.frames[32])
		}
		client.expect("error info", errorInfoPacket(ErrorPoolNotFree))
		client.expect("ultimatum", disconnectPacket())
		select {
		case err := <-closed:
			t.Fatalf("Close did not wait for the client: %v", err)
		default:
		}
		client.Close()
		if err := <-closed; err != nil {
			t.Error(err)
		}
		if err := conn.Draw(testPicture(8, 8), image.Point{}); !errors.Is(err, ErrNotActive) {
			t.Errorf("Draw after the end: %v", err)
		}
		if err := conn.ErrorInfo(ErrorDenied); err != nil {
			t.Errorf("a second ErrorInfo: %v", err)
		}
	}
}

// TestErrorInfoEndsRun: a user is logged off while Run reads, by another
// goroutine, and a client that does not care is cut off.
func TestErrorInfoEndsRun(t *testing.T) {
	for _, polite := range []bool{true, false} {
		timeout := patience
		if !polite {
			timeout = 50 * time.Millisecond
		}
		client, conn := activeMstsc(t, Config{LeaveTimeout: timeout})
		done := make(chan error, 1)
		go func() { done <- conn.Run(t.Context(), func(Event) {}) }()
		if err := conn.ErrorInfo(ErrorLoggedOffByAdmin); err != nil {
			t.Fatal(err)
		}
		client.expect("error info", errorInfoPacket(ErrorLoggedOffByAdmin))
		if polite {
			client.Close()
		}
		if err := <-done; err != nil {
			t.Errorf("polite %v: %v", polite, err)
		}
		conn.Close()
		client.Close()
	}
}

// withCapabilities makes the Connect Initial of mstsc one of a client with
// other early capabilities.
func withCapabilities(t *testing.T, client *mstsc, early byte) {
	t.Helper()
	packet := bytes.Clone(client.frames[11])
	i := bytes.Index(packet, []byte{0x01, 0xc0, 0xea, 0x00})
	if i < 0 || packet[i+144] != 0x2f {
		t.Fatal("core data are not where they were")
	}
	packet[i+144], packet[i+145] = early, 0
	client.frames[11] = packet
}

func TestClientsThatCannotBeTold(t *testing.T) {
	nc, result := handshake(t, t.Context(), Config{TLS: testTLS(t), LeaveTimeout: patience})
	client := connect(t, nc)
	withCapabilities(t, client, 0)
	client.logOn()
	r := <-result
	if r.err != nil {
		t.Fatal(r.err)
	}
	if err := r.conn.Status(StatusStartingVM); err != nil {
		t.Error(err)
	}
	if err := r.conn.ErrorInfo(ErrorDenied); err != nil {
		t.Error(err)
	}
	client.expect("licence", client.frames[32])
	client.expect("ultimatum", disconnectPacket())
	client.Close()
	r.conn.Close()
}

func TestStatus(t *testing.T) {
	client, conn := logOnMstsc(t, Config{})
	for range 2 {
		if err := conn.Status(StatusStartingVM); err != nil {
			t.Fatal(err)
		}
	}
	client.expect("licence", client.frames[32])
	want := unhex(t, "0300002402f08068000103eb7016 160017000000 ea030100000116003600000003050000")
	client.expect("status", want)
	client.expect("status", want)
}

func TestRedirect(t *testing.T) {
	client, conn := logOnMstsc(t, Config{LeaveTimeout: patience})
	if err := conn.Redirect(Redirection{Token: []byte("Cookie: msts=abc"), User: "ünal", Domain: "D", SessionID: 7}); err != nil {
		t.Fatal(err)
	}
	client.expect("licence", client.frames[32])
	client.expect("redirection", unhex(t, "03000057 02f080 68000103eb7049"+
		"49000a00ea03 0000 0004 4000 07000000 0e000000"+
		"12000000 436f6f6b69653a206d7374733d616263 0d0a"+
		"0a000000 fc006e0061006c000000"+
		"04000000 44000000"+
		"c0c0c0c0c0c0c0c0 00"))
	client.Close()
	conn.Close()
}

func TestRedirectRefused(t *testing.T) {
	_, conn := logOnMstsc(t, Config{})
	for name, r := range map[string]Redirection{
		"no token":    {},
		"only CRLF":   {Token: []byte("\r\n")},
		"two lines":   {Token: []byte("a\r\nb")},
		"long token":  {Token: bytes.Repeat([]byte("x"), 201)},
		"long user":   {Token: []byte("x"), User: strings.Repeat("u", 256)},
		"long domain": {Token: []byte("x"), Domain: strings.Repeat("d", 26)},
	} {
		if err := conn.Redirect(r); err == nil {
			t.Errorf("%s: redirected", name)
		}
	}
	conn.client.SupportsRedirect = false
	if err := conn.Redirect(Redirection{Token: []byte("x")}); !errors.Is(err, ErrRedirectUnsupported) {
		t.Error(err)
	}
}

func TestSupportsRedirect(t *testing.T) {
	for _, test := range []struct {
		name string
		data clientData
		want bool
	}{
		{"mstsc", clientData{version: 0x00080010, build: 22621, clusterFlags: 0x15, earlyCapabilities: 0x0f2f}, true},
		{"FreeRDP 2.11", clientData{version: 0x0008000c, build: 18363, clusterFlags: 0x0d, earlyCapabilities: 0x05e3}, true},
		{"FreeRDP 2.11, redirected before", clientData{version: rdp5, build: 18363, clusterFlags: 0x0f, earlyCapabilities: 0x05e3}, true},
		{"rdesktop 1.9", clientData{version: rdp5, build: 2600, clusterFlags: 0x0d, earlyCapabilities: 0x0001}, false},
		{"Mac 8", clientData{version: rdp5, build: 25000, clusterFlags: 0x15, earlyCapabilities: 0x07af}, false},
		{"RDP 5.2", clientData{version: rdp5, build: 3790, clusterFlags: 0x09, earlyCapabilities: 0}, false},
		{"no cluster data", clientData{version: 0x00080010, build: 22621}, false},
	} {
		if got := test.data.supportsRedirect(); got != test.want {
			t.Errorf("%s: %v", test.name, got)
		}
	}
}

// TestCloseOfSilentClient: Close does not wait for a client that was told nothing.
func TestCloseOfSilentClient(t *testing.T) {
	client, conn := activeMstsc(t, Config{LeaveTimeout: time.Hour})
	if err := conn.Close(); err != nil {
		t.Error(err)
	}
	if err := conn.Close(); err != nil {
		t.Error(err)
	}
	client.expectEnd()
	if err := conn.Run(t.Context(), func(Event) {}); err != nil {
		t.Errorf("Run after Close: %v", err)
	}
	if err := conn.Draw(testPicture(8, 8), image.Point{}); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Draw after Close: %v", err)
	}
}
