package rdpserver

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/rdpbroker/rdpbroker/rdpproxy/x224"
)

func TestWholeConnectionOfMstsc(t *testing.T) {
	client, conn := activeMstsc(t, Config{})
	info := conn.Info()
	if info.User != "Administrator@ad.it-help.ninja" || info.Domain != "" || info.HasPassword || info.PasswordOK ||
		info.ClientName != "IT-HELP-CLIENT" || info.Build != 22621 || info.EarlyCapabilities != 0x0f2f ||
		info.Width != 1024 || info.Height != 768 || info.ColorDepth != 24 ||
		!info.SupportsRedirect || info.RedirectedSessionID != 0 ||
		info.Request.Cookie != "Administr" || info.Remote.String() != client.LocalAddr().String() {
		t.Errorf("%+v", info)
	}

	done := make(chan error, 1)
	go func() { done <- conn.Run(t.Context(), func(e Event) { t.Errorf("%+v out of nothing", e) }) }()
	onChannel := clientPacket([]byte("data for a virtual channel"))
	onChannel[headerLen+4]++ // another channel than that for RDP
	client.send(onChannel, client.frames[36], client.frames[29])
	client.expect("late join", client.frames[30])
	client.leave()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestMonitorLayout: who knows the PDU gets it before all other answers.
func TestMonitorLayout(t *testing.T) {
	nc, result := handshake(t, t.Context(), Config{TLS: testTLS(t)})
	client := connect(t, nc)
	withCapabilities(t, client, earlyMonitorLayout)
	client.logOn()
	r := <-result
	if r.err != nil {
		t.Fatal(r.err)
	}
	defer r.conn.Close()
	done := make(chan error, 1)
	go func() { done <- r.conn.Activate(t.Context()) }()
	client.expect("licence", client.frames[32])
	client.receive()
	// What comes before Confirm Active has no answer.
	client.send(client.frames[36], client.frames[35], client.frames[39])
	client.expect("monitor layout", unhex(t, "03000038 02f080 68000103eb702a"+
		"2a0017000000 ea030100 00 02 2a00 37 00 0000 01000000 00000000 00000000 ff030000 ff020000 01000000"))
	client.expect("font map", client.frames[45])
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestNegotiationRefused(t *testing.T) {
	bare := unhex(t, "0300000b06e00000000000")
	for _, test := range []struct {
		name    string
		request []byte
		want    NegotiationError
		answer  string
	}{
		{
			"restricted admin", connectionRequest(x224.ProtocolHybrid | x224.ProtocolHybridEx),
			NegotiationError{true, x224.ProtocolHybrid | x224.ProtocolHybridEx, x224.ProtocolSSL},
			"030000130ed000001234000300080001000000",
		},
		{
			"standard security", connectionRequest(x224.ProtocolRDP),
			NegotiationError{true, x224.ProtocolRDP, x224.ProtocolSSL},
			"030000130ed000001234000300080001000000",
		},
		{"RDP 5", bare, NegotiationError{false, x224.ProtocolRDP, x224.ProtocolSSL}, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			nc, result := handshake(t, t.Context(), Config{TLS: testTLS(t)})
			client := &mstsc{t, nc, nil}
			client.send(test.request)
			if test.answer != "" {
				client.expect("confirm", unhex(t, test.answer))
			}
			client.expectEnd()
			var refusal *NegotiationError
			if r := <-result; r.conn != nil || !errors.As(r.err, &refusal) || *refusal != test.want {
				t.Errorf("%+v, %v", r.conn, r.err)
			}
		})
	}
}

// hybridSecurity stands for a CredSSP to come: TLS, and one byte of proof.
type hybridSecurity struct{ Security }

func (hybridSecurity) Protocol() x224.Protocol { return x224.ProtocolHybrid }

func (s hybridSecurity) Secure(ctx context.Context, c net.Conn) (net.Conn, error) {
	secured, err := s.Security.Secure(ctx, c)
	if err != nil {
		return nil, err
	}
	if proof := make([]byte, 1); true {
		if _, err := secured.Read(proof); err != nil || proof[0] != 0x30 {
			return nil, errors.Join(errors.New("no proof"), err)
		}
	}
	return secured, nil
}

func TestSecurityInOrderOfPreference(t *testing.T) {
	conf := testTLS(t)
	ways := []Security{hybridSecurity{plainTLS(conf)}, plainTLS(conf)}
	nc, result := handshake(t, t.Context(), Config{Security: ways})
	client := &mstsc{t, nc, capture(t)}
	client.send(connectionRequest(x224.ProtocolSSL | x224.ProtocolHybrid))
	client.expect("confirm", unhex(t, "030000130ed000001234000201080002000000"))
	client.Conn = tls.Client(nc, &tls.Config{InsecureSkipVerify: true})
	client.send([]byte{0x30})
	// This mstsc believes that it was told "SSL": somebody has been at the negotiation.
	client.send(client.frames[11])
	if r := <-result; r.err == nil || !strings.Contains(r.err.Error(), "was selected") {
		t.Errorf("%+v, %v", r.conn, r.err)
	}

	nc, result = handshake(t, t.Context(), Config{Security: ways[:1]})
	client = &mstsc{t, nc, nil}
	client.send(connectionRequest(x224.ProtocolSSL))
	client.expect("confirm", unhex(t, "030000130ed000001234000300080005000000"))
	if r := <-result; r.err == nil {
		t.Error("SSL was taken where it is not spoken")
	}
}

func TestNotRDP(t *testing.T) {
	for name, opening := range map[string]string{
		"TLS":                "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
		"HTTP":               "GET / HTTP/1.1\r\n\r\n",
		"preconnection blob": "\x10\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x05\x00\x00\x00" + string(connectionRequest(1)),
		"nothing":            "",
	} {
		t.Run(name, func(t *testing.T) {
			nc, result := handshake(t, t.Context(), Config{TLS: testTLS(t)})
			(&mstsc{t, nc, nil}).send([]byte(opening))
			_ = nc.(*net.TCPConn).CloseWrite() // the server may have closed already
			r := <-result
			var format *x224.FormatError
			if r.err == nil || errors.As(r.err, &format) != (name == "TLS" || name == "HTTP") {
				t.Errorf("%v", r.err)
			}
		})
	}
}

func TestRubbishAfterTLS(t *testing.T) {
	for name, packets := range map[string]func(c *mstsc) [][]byte{
		"fast path first":   func(c *mstsc) [][]byte { return [][]byte{{0x04, 4, 0, 38}} },
		"X.224 disconnect":  func(c *mstsc) [][]byte { return [][]byte{unhex(t, "0300000b06800000000000")} },
		"length 0":          func(c *mstsc) [][]byte { return [][]byte{unhex(t, "0300000002f080")} },
		"length 65535":      func(c *mstsc) [][]byte { return [][]byte{unhex(t, "0300ffff02f080")} },
		"no connect":        func(c *mstsc) [][]byte { return [][]byte{c.frames[13]} },
		"BER length":        func(c *mstsc) [][]byte { return [][]byte{unhex(t, "0300000e02f0807f658400000001")} },
		"connect cut short": func(c *mstsc) [][]byte { return [][]byte{dataPacket(c.frames[11][headerLen:300])} },
		"32 channels": func(c *mstsc) [][]byte {
			p := bytes.Clone(c.frames[11])
			i := bytes.Index(p, []byte{0x03, 0xc0, 0x38, 0x00})
			p[i+4] = 32
			return [][]byte{p}
		},
		"strange channel": func(c *mstsc) [][]byte {
			join := bytes.Clone(c.frames[17])
			join[len(join)-1]++ // one beyond the user channel
			return [][]byte{c.frames[11], c.frames[13], c.frames[14], join}
		},
		"info cut short": func(c *mstsc) [][]byte {
			info := ioData(c, c.frames[31])
			return [][]byte{c.frames[11], clientPacket(info[:40])}
		},
		"info of 65535 bytes": func(c *mstsc) [][]byte {
			info := bytes.Clone(ioData(c, c.frames[31]))
			info[4+8], info[4+9] = 0xff, 0xff
			return [][]byte{c.frames[11], clientPacket(info)}
		},
		"goodbye": func(c *mstsc) [][]byte { return [][]byte{c.frames[11], disconnectPacket()} },
	} {
		t.Run(name, func(t *testing.T) {
			nc, result := handshake(t, t.Context(), Config{TLS: testTLS(t)})
			client := connect(t, nc)
			client.send(packets(client)...)
			r := <-result
			if r.err == nil {
				t.Fatal("taken")
			}
			if errors.Is(r.err, os.ErrDeadlineExceeded) {
				t.Errorf("it was waited for, not refused: %v", r.err)
			}
		})
	}
}

// TestInfoBeforeJoins: some clients say who they are before they have joined
// every channel, and join the rest later.
func TestInfoBeforeJoins(t *testing.T) {
	nc, result := handshake(t, t.Context(), Config{TLS: testTLS(t)})
	client := connect(t, nc)
	client.send(client.frames[11])
	client.receive()
	client.send(client.frames[13], client.frames[14], client.frames[31])
	client.expect("attach", client.frames[16])
	r := <-result
	if r.err != nil {
		t.Fatal(r.err)
	}
	defer r.conn.Close()
	done := make(chan error, 1)
	go func() { done <- r.conn.Activate(t.Context()) }()
	client.expect("licence", client.frames[32])
	client.receive()
	client.send(client.frames[29])
	client.expect("late join", client.frames[30])
	client.leave()
	if err := <-done; !errors.Is(err, errClientLeft) {
		t.Error(err)
	}
}

func TestStartTimeout(t *testing.T) {
	cfg := Config{TLS: testTLS(t), StartTimeout: 50 * time.Millisecond}
	for name, play := range map[string]func(net.Conn){
		"silence": func(net.Conn) {},
		"after the request": func(nc net.Conn) {
			(&mstsc{t, nc, nil}).send(connectionRequest(x224.ProtocolSSL))
		},
	} {
		t.Run(name, func(t *testing.T) {
			nc, result := handshake(t, t.Context(), cfg)
			play(nc)
			if r := <-result; r.err == nil || !strings.Contains(r.err.Error(), "not done after 50ms") {
				t.Errorf("%v", r.err)
			}
		})
	}
}

func TestContextEndsHandshakeAndActivate(t *testing.T) {
	stop := errors.New("shutting down")
	ctx, cancel := context.WithCancelCause(t.Context())
	nc, result := handshake(t, ctx, Config{TLS: testTLS(t)})
	connect(t, nc)
	cancel(stop)
	if r := <-result; !errors.Is(r.err, stop) {
		t.Error(r.err)
	}

	client, conn := logOnMstsc(t, Config{})
	ctx, cancel = context.WithCancelCause(t.Context())
	done := make(chan error, 1)
	go func() { done <- conn.Activate(ctx) }()
	client.receive() // the licence
	cancel(stop)
	if err := <-done; !errors.Is(err, stop) {
		t.Error(err)
	}
	if err := conn.Draw(testPicture(64, 64), testPicture(1, 1).Bounds().Min); !errors.Is(err, ErrNotActive) {
		t.Error(err)
	}
}

func TestActivateTwice(t *testing.T) {
	_, conn := activeMstsc(t, Config{})
	if err := conn.Activate(t.Context()); err == nil {
		t.Error("activated twice")
	}
}
